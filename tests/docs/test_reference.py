"""The reference pages and the Python examples of the docs match the code."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import bodyposenet
from bodyposenet import cli

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
PUBLIC = [name for name in bodyposenet.__all__ if not name.startswith("__")]
FUNCTIONS = {task.function: name for name, task in cli.TASKS.items()}


@pytest.mark.parametrize("page", ["commands", "specs"])
def test_generated_pages_are_current(page, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    generator = importlib.import_module(f"generate_{page}")
    current = generator.TARGET.read_text(encoding="utf-8")
    assert generator.page() == current, f"run: python docs/generate_{page}.py"
    for line in current.splitlines():
        if line.startswith(("| `", "| -")):
            assert line.split(" | ")[-1].strip(" |"), f"no description: {line}"


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_in_the_reference(name):
    if name in FUNCTIONS:
        assert f"bodyposenet.{name}(" in section(FUNCTIONS[name])
    else:
        assert f"\n::: bodyposenet.{name}\n" in REFERENCE


@pytest.mark.parametrize("name", PUBLIC)
def test_every_argument_is_documented(name):
    public = getattr(bodyposenet, name)
    if name in FUNCTIONS:
        documented = re.findall(r"`(?:--)?([\w-]+)`", section(FUNCTIONS[name]))
        documented = [each.replace("-", "_") for each in documented]
    else:
        documented = re.findall(r"(?m)^ {4,8}\*{0,2}(\w+): ", public.__doc__ or "")
        if name == "PoseEstimator":  # made by `load`
            return
    for parameter in inspect.signature(public).parameters.values():
        assert parameter.name in documented


def section(command: str) -> str:
    """Return the section of a command on the page of the commands."""
    return COMMANDS.split(f"\n## {command}\n")[1].split("\n## ")[0]


def test_functions_of_commands_are_public():
    assert FUNCTIONS.keys() - set(PUBLIC) <= {"doctor", "demo"}


def python_calls():
    """Yield (page, node) of every call of a function of the package in a fenced block."""
    for path in DOCS:
        for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
            for node in ast.walk(ast.parse(block)):
                match node:
                    case ast.Call(func=ast.Attribute(value=ast.Name(id="bodyposenet"))):
                        yield path.name, node


CALLS = list(python_calls())


@pytest.mark.parametrize(("text", "call"), CALLS, ids=[f"{t}: {c.func.attr}" for t, c in CALLS])
def test_examples_pass_arguments_that_exist(text, call):
    function = getattr(bodyposenet, call.func.attr)
    keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg}
    inspect.signature(function).bind_partial(*call.args, **keywords)
