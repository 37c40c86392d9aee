"""Options of the commands: from the command line, from Python, and back to arguments."""

import inspect
import logging
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

import bodyposenet
from bodyposenet import cli
from bodyposenet.commands.option_parser import OptionParser
from bodyposenet.commands.options import (
    CommandOptions,
    Need,
    Option,
    StrPath,
    build,
    command,
    ignored_options,
    option_fields,
    options_class,
    to_argv,
)
from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError


@options_class
class BoxOptions(CommandOptions):
    """Options of a command that packs boxes."""

    output: Annotated[StrPath, Option("-o", help="File to write.")]
    count: Annotated[int, Field(ge=1), Option("-n", help="Number of boxes.")] = 1
    share: Annotated[float | None, Option(help="Share of air.")] = None
    kind: Annotated[Literal["wood", "paper"], Option(help="Material.")] = "paper"
    lids: Annotated[bool, Option(help="Close the boxes.")] = True
    paint: Annotated[bool, Option(help="Paint the boxes.")] = False
    color: Annotated[
        str, Option(help="Color.", needs=Need("--paint", lambda options: options.paint))
    ] = "red"
    labels: Annotated[tuple[str, ...], Option("-l", help="Labels.", nargs="*")] = ()
    secret: Annotated[str | None, Option("-k", help="Key.", empty="")] = None
    shout: Annotated[bool, Option("-s", help="Print it.", cli_only=True)] = False


@dataclass(frozen=True)
class Packed:
    """A result."""

    options: BoxOptions
    error: BodyPoseNetError | None = None

    def summary(self) -> str:
        return "packed"


@command(BoxOptions)
def pack(options: BoxOptions) -> Packed:
    """Pack boxes.

    Raises:
        BodyPoseNetError: There are more boxes than space.
    """
    if options.count > 100:
        raise BodyPoseNetError("no space for -n boxes", "Lower --count; see --lids-off.")
    if options.count > 50:
        raise BodyPoseNetError("no space for -n boxes", "Make space: bpnet export -n 3 -o file")
    if options.count > 10:
        return Packed(options, BodyPoseNetError("some boxes are left"))
    if options.kind == "wood":
        raise ModuleNotFoundError("no torch", name="torch")
    return Packed(options)


def parse(*argv: str) -> BoxOptions:
    return build(BoxOptions, OptionParser("pack", "", BoxOptions).parse(argv))


def test_python_functions_have_keyword_arguments():
    assert pack(output="a", count=2).options == BoxOptions(output="a", count=2)
    assert pack(output=Path("a")).options.output == Path("a")
    parameters = inspect.signature(pack).parameters
    assert list(parameters)[:2] == ["output", "count"]
    assert parameters["share"].annotation == float | None
    assert "count: Number of boxes." in inspect.getdoc(pack)
    assert "BodyPoseNetError: There are more boxes than space." in inspect.getdoc(pack)
    with pytest.raises(FrozenInstanceError):
        parse("-o", "a").count = 2


@pytest.mark.parametrize(
    ("keywords", "facts"),
    [
        ({}, ("output", "missing")),
        ({"output": "a", "cuont": 2}, ("cuont", "count")),
        ({"output": "a", "count": 0}, ("count 0", "at least 1")),
        ({"output": "a", "count": "many"}, ("count many", "integer")),
        ({"output": "a", "kind": "steel"}, ("kind steel", "wood")),
        ({"output": "a", "share": float("nan")}, ("share nan", "finite")),
        ({"output": 5}, ("output 5",)),
        (
            {"output": "a", "count": 1000},
            ("no space for count boxes", "Lower count; see --lids-off"),
        ),
        ({"output": "a", "count": 60}, ("count boxes", "bpnet export -n 3 -o file")),
        ({"output": "a", "shout": True}, ("shout",)),
        ({"output": "a", "number_of_labels": 2}, ("number_of_labels", "labels")),
        ({"output": "a", "count": 20}, ("boxes are left",)),
        ({"output": "a", "kind": "wood"}, ("torch", "bodyposenet[train]")),
    ],
)
def test_errors_name_the_option(keywords, facts):
    with pytest.raises(BodyPoseNetError) as caught:
        pack(**keywords)
    assert all(fact in str(caught.value) for fact in facts)


def test_positional_arguments_are_errors():
    with pytest.raises(BodyPoseNetError, match=r"pack\(output="):
        pack("a")
    assert "shout" not in inspect.signature(pack).parameters
    assert parse("-o", "a", "-s").shout


def test_run_does_not_raise_the_error_of_a_result():
    """The command line prints the summary before the error."""
    assert pack.run(BoxOptions(output="a", count=20)).error is not None


@pytest.mark.parametrize("number", ["-0.5", "-2", "-1e-3", "-.5E+2"])
def test_negative_numbers_are_values(number):
    assert parse("-o", "a", "--share", number).share == float(number)


def test_flags_without_values():
    assert parse("-o", "a", "-k").secret == "" and parse("-o", "a").secret is None
    assert parse("-o", "a", "-k", "x").secret == "x"
    assert not parse("-o", "a", "--no-lids").lids
    assert parse("-o", "a", "-l", "x", "y").labels == ("x", "y")
    assert parse("-o", "a", "-l", "x", "-l", "y").labels == ("x", "y")


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5)


@given(
    st.builds(
        BoxOptions,
        output=words.map(lambda word: f"out/{word}"),
        count=st.integers(1, 10**9),
        share=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        kind=st.sampled_from(["wood", "paper"]),
        lids=st.booleans(),
        paint=st.booleans(),
        color=words,
        labels=st.lists(words.map(lambda word: f"x{word}"), max_size=3).map(tuple),
    )
)
def test_options_survive_the_command_line(options):
    assert parse(*to_argv(options)) == options


def test_ignored_options_are_reported():
    assert not list(ignored_options(BoxOptions(output="a", color="blue", paint=True)))
    assert not list(ignored_options(BoxOptions(output="a")))
    ((field, need),) = ignored_options(BoxOptions(output="a", color="blue"))
    assert (field.flag, need.words) == ("--color", "--paint")


@pytest.mark.parametrize("name", cli.TASKS)
def test_every_option_of_a_command_is_documented(name):
    fields = option_fields(cli.find_command(name).options)
    assert all(field.option.help.endswith((".", ")")) for field in fields)


def test_commands_neither_print_nor_exit(capfd, tmp_path):
    with pytest.raises(BodyPoseNetError):
        bodyposenet.prune(model=tmp_path / "none.tlt", output_file=tmp_path / "out.tlt")
    assert capfd.readouterr() == ("", "")


def test_quiet_prints_errors_only(run_bpnet, monkeypatch):
    def run(options):
        logger.info("working")
        logger.log(logging.ERROR, "something failed")
        return Packed(options)

    monkeypatch.setattr(cli.find_command("prune"), "run", run)
    result = run_bpnet("prune", "-m", "a", "-o", "b", "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "ERROR: something failed\n")
