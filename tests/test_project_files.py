"""The files of the project agree with each other, and the metadata of the package is complete."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import bodyposenet
from bodyposenet.exit_codes import _EXTRAS

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]

NOT_PINNED = {"gpu", "ray", "tensorrt"}
"""Extras that the Makefile does not install."""

MODULES = {
    "cryptography": "cryptography", "cv2": "opencv-python-headless", "llvmlite": "numba",
    "numba": "numba", "numpy": "numpy", "onnxruntime": "onnxruntime", "pydantic": "pydantic",
    "pydantic_core": "pydantic", "rich": "rich", "yaml": "PyYAML",
}  # fmt: skip
"""Module -> the required package that installs it."""

OPTIONAL = {"PIL"}
"""Modules that are used only for objects of their own types."""


def package_of(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {name.lower(): version for name, _, version in (line.partition("==") for line in lines)}


def imported_modules() -> set[str]:
    """Return the modules that the package imports; programs in resources are run elsewhere."""
    source = ROOT / "src" / "bodyposenet"
    found = set()
    for path in set(source.rglob("*.py")) - set((source / "resources").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
    return found


def test_every_import_is_a_dependency_or_names_an_extra():
    """A missing package of an extra is then an error that names the extra."""
    known = {"bodyposenet", *sys.stdlib_module_names, *MODULES, *OPTIONAL, *_EXTRAS}
    unknown = imported_modules() - known
    assert not unknown
    required = {package_of(requirement) for requirement in PROJECT["dependencies"]}
    assert {name.lower() for name in MODULES.values()} == required
    assert not set(_EXTRAS.values()) - set(EXTRAS)


def test_what_the_makefile_installs_is_pinned():
    groups = [PROJECT["dependencies"], *(EXTRAS[name] for name in EXTRAS if name not in NOT_PINNED)]
    packages = {package_of(requirement) for group in groups for requirement in group}
    assert not packages - {"bodyposenet", *pins()}


def test_pre_commit_runs_the_pinned_tools():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    tools = {
        requirement
        for repository in config["repos"]
        for hook in repository["hooks"]
        for requirement in hook["additional_dependencies"]
    }
    assert {"ruff", "pyright", "import-linter"} == {package_of(tool) for tool in tools}
    assert all(tool == f"{package_of(tool)}=={pins()[package_of(tool)]}" for tool in tools)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_warnings_are_filtered_with_the_flags_of_the_workflow_too():
    """Variables on make's command line, as in the workflow, override those of the Makefile."""
    command = ["make", "--dry-run", "test-lowest", "PYTHON=python", "PYTEST_FLAGS=-n auto"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "-W ignore::DeprecationWarning -n auto" in run.stdout


def test_readme_of_the_package_index_has_absolute_links():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    hooks = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]
    for rule in hooks["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 20
    assert all(link.startswith("https://") for link in links)
    assert "](https://raw.githubusercontent.com/" in text  # The picture.


def test_the_image_of_the_server_contains_the_licenses():
    """A license file that is missing when the package is built is left out without an error."""
    server = ROOT / "examples" / "server"
    copied = re.search(r"(?m)^COPY (pyproject.*) \./$", (server / "Dockerfile").read_text())[1]
    included = (server / "Dockerfile.dockerignore").read_text().splitlines()
    assert set(PROJECT["license-files"]) <= set(copied.split())
    assert {f"!{name}" for name in copied.split()} <= set(included)


def test_addresses_of_the_repository_agree():
    """So that one search and replace changes all of them."""
    address = PROJECT["urls"]["Repository"]
    owner = address.split("/")[-2]
    pattern = re.compile(r"(?:github|githubusercontent)\.com/([\w-]+)/bodyposenet\b")
    files = [
        path
        for glob in ("*.md", "*.toml", "*.cff", ".github/**/*.yml", "docs/*.md")
        for path in ROOT.glob(glob)
    ]
    owners = {path: set(pattern.findall(path.read_text(encoding="utf-8"))) for path in files}
    assert sum(map(bool, owners.values())) >= 5
    assert set().union(*owners.values()) == {owner}


def check_release(tag: str, repository: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / ".github" / "check_release.py"
    return subprocess.run(
        [sys.executable, script, tag, repository], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("tag", "repository", "reason"),
    [("v0.0.1", "OWNER/bodyposenet", "v0.0.1"), (None, "elsewhere/bodyposenet", "elsewhere")],
)
def test_a_release_that_does_not_agree_with_the_files_is_refused(tag, repository, reason):
    run = check_release(tag or f"v{bodyposenet.__version__}", repository)
    assert run.returncode == 1
    assert reason in run.stderr


def test_the_version_is_that_of_citation_and_changelog():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == bodyposenet.__version__
    repository = "/".join(PROJECT["urls"]["Repository"].split("/")[-2:])
    run = check_release(f"v{bodyposenet.__version__}", repository)
    assert run.returncode == 0, run.stderr
    assert "### Added" in run.stdout
    assert f"](https://github.com/{repository}/blob/v{bodyposenet.__version__}/docs/" in run.stdout
    links = re.findall(r"\]\(([^)]+)\)", run.stdout)
    assert all(link.startswith("https://") for link in links)  # also on the page of the release
