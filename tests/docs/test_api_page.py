"""The reference page and the Python examples of the docs say what the code takes."""

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
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
FUNCTIONS = [name for name in bodyposenet.__all__ if inspect.isfunction(getattr(bodyposenet, name))]


def test_the_reference_is_current(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    generator = importlib.import_module("generate_reference")
    assert generator.page() == REFERENCE, "run: python docs/generate_reference.py"


def section(name: str) -> str:
    """Text of the reference from the heading of a name to the next heading of its level."""
    heading = re.search(rf"(?m)^(#+) .*`(?:bodyposenet\.)?{name}`.*\n", REFERENCE)
    assert heading, name
    return re.split(rf"(?m)^#{{1,{len(heading[1])}}} ", REFERENCE[heading.end() :])[0]


def rows(text: str) -> dict[str, str]:
    """First cell of each row of the tables of a text -> last one."""
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[-1] for row in cells}


@pytest.mark.parametrize("name", bodyposenet.__all__)
def test_every_public_name_is_explained(name):
    assert rows(REFERENCE.partition("\n## ")[0])[name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_explained(name):
    explained = rows(section(name))
    for parameter in inspect.signature(getattr(bodyposenet, name)).parameters.values():
        if parameter.kind is not parameter.VAR_KEYWORD:
            assert explained[parameter.name], parameter.name


def test_every_function_of_a_command_is_public_or_ours():
    functions = {task.function for task in cli.TASKS.values()}
    assert functions - set(FUNCTIONS) <= {"doctor", "demo"}


def python_calls():
    """(text, node) of every call of a function of the package in a fenced block."""
    for path in DOCS:
        for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
            for node in ast.walk(ast.parse(block)):
                match node:
                    case ast.Call(func=ast.Attribute(value=ast.Name(id="bodyposenet"))):
                        yield path.name, node


CALLS = list(python_calls())


@pytest.mark.parametrize(("text", "call"), CALLS, ids=[f"{t}: {c.func.attr}" for t, c in CALLS])
def test_examples_call_functions_as_they_are(text, call):
    function = getattr(bodyposenet, call.func.attr)
    keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg}
    inspect.signature(function).bind_partial(*call.args, **keywords)
