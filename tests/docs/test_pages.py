"""Links, commands, flags, keys, modules and files in the Markdown pages exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bodyposenet import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(
            path
            for folder in ("docs", "benchmarks", "examples", "src")
            for path in (ROOT / folder).rglob("*.md")
        ),
    ]
)
EXAMPLES = sorted((ROOT / "src" / "bodyposenet" / "resources" / "specs").glob("*.yaml"))


def relative_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield (page, words) of the commands in fenced blocks, and in comments of sample specs."""
    for path in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.partition("#")[0])
                if words:
                    yield relative_name(path), words
    for path in EXAMPLES:
        for line in path.read_text().splitlines():
            if line.startswith("# bpnet "):
                yield relative_name(path), shlex.split(line[2:])


@pytest.mark.parametrize("path", PAGES, ids=relative_name)
def test_link_targets_exist(path):
    targets = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)", path.read_text())
    inside = [
        (path.parent / file if file else path, part) for file, part in targets if "://" not in file
    ]
    assert not [file for file, _ in inside if not file.exists()]
    assert not [(file, part) for file, part in inside if part and part not in headings(file)]


def headings(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"(?m)^#+ (.+)$", path.read_text())
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("path", PAGES, ids=relative_name)
def test_no_placeholders_are_left(path):
    assert not re.findall(r"(?m)^[A-Z]+_[A-Z]+\.?$", path.read_text())


CURRENT = [path for path in PAGES if path.name not in ("specs.md", "CHANGELOG.md")]


@pytest.mark.parametrize("path", CURRENT, ids=relative_name)
def test_named_modules_and_files_exist(path):
    package = ROOT / "src" / "bodyposenet"
    text = path.read_text()
    folders = "|".join(sorted(p.name for p in package.iterdir() if p.is_dir()))
    for name in re.findall(rf"`((?:{folders})(?:\.(?!yaml)[a-z_0-9]+)+)`", text):
        module = package / name.replace(".", "/")
        assert module.is_dir() or module.with_suffix(".py").exists(), name
    for file in re.findall(r"`((?:docs|benchmarks|tests|src)/[\w/.-]+)`", text):
        assert (ROOT / file).exists(), file


BPNET = [(text, words) for text, words in commands() if words[0] in ("bpnet", "tao")]


@pytest.mark.parametrize(("text", "words"), BPNET, ids=[f"{t}: {w[1]}" for t, w in BPNET])
def test_commands_parse(monkeypatch, text, words):
    name, *flags = words[1:] if words[0] == "bpnet" else words[3:]
    assert name in cli.TASKS
    calls = []

    def run(options):
        calls.append(options)
        return SimpleNamespace(summary=str)

    monkeypatch.setattr(cli.find_command(name), "run", run)
    assert cli.main([name, *flags]) == 0
    assert len(calls) == 1


def test_pages_show_every_command():
    assert {words[1] for _, words in BPNET} >= set(cli.TASKS) - {"demo"}


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for text, words in commands():
        if words[0] == "make":
            assert re.search(rf"(?m)^{words[1]}:", makefile), f"{text}: {words}"


def test_scripts_in_commands_exist():
    for text, words in commands():
        if words[0].endswith("python") and words[1] != "-m":
            folders = (ROOT, (ROOT / text).parent)
            assert any((folder / words[1]).exists() for folder in folders), f"{text}: {words}"


def spec_keys() -> set[str]:
    text = (ROOT / "docs" / "specs.md").read_text(encoding="utf-8")
    return set(re.findall(r"(?m)^\| `(\w+)` \|", text))


def compat_names() -> set[str]:
    return set(re.findall(r"`([^`]+)`", (ROOT / "docs" / "compat.md").read_text()))


def test_compat_names_every_key():
    keys = spec_keys()
    assert len(keys) > 100
    assert not keys - compat_names()


@pytest.mark.parametrize("name", cli.TASKS)
def test_compat_names_every_flag(capsys, name):
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    shown = capsys.readouterr().out
    column = " ".join(re.findall(r"(?m)^  (-.*?)(?:  |$)", shown))
    flags = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", column))
    assert flags >= {"--results_dir", "-l"}
    assert not flags - compat_names() - {"-h", "--help"}
