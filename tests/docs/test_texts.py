"""What the texts say is there: files, links, commands, flags, keys."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bodyposenet import cli

ROOT = Path(__file__).parents[2]
TEXTS = sorted(
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


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands() -> Iterator[tuple[str, list[str]]]:
    """(text, words) of every command in a fenced block, and of those that open the samples."""
    for path in TEXTS:
        for block in re.findall(r"```bash\n(.*?)```", path.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.partition("#")[0])
                if words:
                    yield name_of(path), words
    for path in EXAMPLES:
        for line in path.read_text().splitlines():
            if line.startswith("# bpnet "):
                yield name_of(path), shlex.split(line[2:])


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)", path.read_text())
    inside = [
        (path.parent / file if file else path, part) for file, part in targets if "://" not in file
    ]
    assert not [file for file, _ in inside if not file.exists()]
    assert not [(file, part) for file, part in inside if part and part not in headings(file)]


def headings(path: Path) -> set[str]:
    """The anchors of a text's headings."""
    found = re.findall(r"(?m)^#+ (.+)$", path.read_text())
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_nothing_is_left_to_fill_in(path):
    assert not re.findall(r"(?m)^[A-Z]+_[A-Z]+\.?$", path.read_text())


@pytest.mark.parametrize("path", [p for p in TEXTS if p.name != "specs.md"], ids=name_of)
def test_modules_and_files_that_are_named_exist(path):
    package = ROOT / "src" / "bodyposenet"
    text = path.read_text()
    rooms = "|".join(sorted(p.name for p in package.iterdir() if p.is_dir()))
    for room, module in re.findall(rf"`({rooms})\.([a-z_]+)`", text):
        place = package / room / module
        assert place.is_dir() or place.with_suffix(".py").exists(), f"{room}.{module}"
    for file in re.findall(r"`((?:docs|benchmarks|tests|src)/[\w/.-]+)`", text):
        assert (ROOT / file).exists(), file


BPNET = [(text, words) for text, words in commands() if words[0] in ("bpnet", "tao")]


@pytest.mark.parametrize(("text", "words"), BPNET, ids=[f"{t}: {w[1]}" for t, w in BPNET])
def test_commands_parse(monkeypatch, text, words):
    name, *flags = words[1:] if words[0] == "bpnet" else words[3:]
    assert name in cli.TASKS
    asked = []

    def run(options):
        asked.append(options)
        return SimpleNamespace(summary=str)

    monkeypatch.setattr(cli.find_command(name), "run", run)
    assert cli.main([name, *flags]) == 0
    assert len(asked) == 1


def test_there_are_commands_of_every_sub_task():
    assert {words[1] for _, words in BPNET} >= set(cli.TASKS) - {"demo"}


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for text, words in commands():
        if words[0] == "make":
            assert re.search(rf"(?m)^{words[1]}:", makefile), f"{text}: {words}"


def test_scripts_that_are_named_exist():
    for text, words in commands():
        if words[0].endswith("python") and words[1] != "-m":
            places = (ROOT, (ROOT / text).parent)
            assert any((place / words[1]).exists() for place in places), f"{text}: {words}"


def spec_keys() -> set[str]:
    text = (ROOT / "docs" / "specs.md").read_text(encoding="utf-8")
    return set(re.findall(r"(?m)^\| `(\w+)` \|", text))


def named_in_compat() -> set[str]:
    return set(re.findall(r"`([^`]+)`", (ROOT / "docs" / "compat.md").read_text()))


def test_compat_names_every_key():
    keys = spec_keys()
    assert len(keys) > 100
    assert not keys - named_in_compat()


@pytest.mark.parametrize("name", cli.TASKS)
def test_compat_names_every_flag(capsys, name):
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    shown = capsys.readouterr().out
    column = " ".join(re.findall(r"(?m)^  (-.*?)(?:  |$)", shown))
    flags = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", column))
    assert flags >= {"--results_dir", "-l"}
    assert not flags - named_in_compat() - {"-h", "--help"}
