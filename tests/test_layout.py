"""Package layout: layers of imports, inference without torch, and docstrings."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "bodyposenet"


def test_imports_follow_the_layers():
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("extras", "module"),
    [
        ((), "commands.diagnostics"),
        ((), "commands.inference"),
        ((), "data.formats.output"),
        ((), "data.project"),
        (("eval",), "commands.spec_checks"),
        (("eval",), "reporting.browse_page"),
    ],
)
def test_an_installation_with_few_extras_suffices(extras, module):
    code = (
        "import sys; from bodyposenet.exit_codes import _EXTRAS;"
        f"missing = [name for name, extra in _EXTRAS.items() if extra not in {extras}];"
        f"sys.modules |= dict.fromkeys(missing); import bodyposenet.{module}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_imports_no_large_library():
    code = (
        "import sys, bodyposenet;"
        "print(*{'numpy', 'torch', 'cv2', 'pydantic', 'numba'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_public_names_are_imported_on_first_use():
    import bodyposenet
    from bodyposenet.skeleton import Skeleton

    assert bodyposenet.Skeleton is Skeleton
    assert all(getattr(bodyposenet, name) for name in bodyposenet.__all__)
    with pytest.raises(AttributeError, match="module 'bodyposenet' has no attribute 'lod'"):
        bodyposenet.lod  # noqa: B018


def test_modules_and_public_names_have_docstrings():
    missing = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        for node in (module, *(node for node in ast.walk(module) if isinstance(node, kinds))):
            name = getattr(node, "name", "")
            if not name.startswith("_") and not ast.get_docstring(node):
                missing.append(f"{path}: {name or 'module'}")
    assert not missing
