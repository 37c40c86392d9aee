"""The commands `bpnet <sub_task> ...` and `tao model bpnet <sub_task> ...`.

Only the module of the given command is imported, so that `bpnet --help` is fast.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from bodyposenet.console import configure_logging, logger, print_result
from bodyposenet.errors import BodyPoseNetError, closest
from bodyposenet.exit_codes import exit_code_of

if TYPE_CHECKING:
    from bodyposenet.commands.option_parser import OptionParser
    from bodyposenet.commands.options import Command, CommandOptions


class SubTask(NamedTuple):
    """A command of `bpnet`; TAO calls it a sub-task.

    Args:
        function: Name of its function in `commands/<sub-task>.py`.
        purpose: One-line description for the overview.
        uses_gpu: Whether it can run on a GPU.
    """

    function: str
    purpose: str
    uses_gpu: bool = False


TASKS = {
    "init": SubTask("init_project", "write the specs of a project for your own data"),
    "check": SubTask("check_specs", "check specs, files and labels before a training"),
    "dataset_convert": SubTask(
        "convert_dataset", "convert annotated images to TFRecords and masks"
    ),
    "browse": SubTask(
        "browse_dataset", "write a gallery of a dataset: suspicious labels, statistics, photos"
    ),
    "train": SubTask("train", "train a network", uses_gpu=True),
    "evaluate": SubTask(
        "evaluate", "measure a model's keypoint AP on the test data of a dataset", uses_gpu=True
    ),
    "inference": SubTask(
        "predict",
        "detect the people in images or a video, write their poses and draw them",
        uses_gpu=True,
    ),
    "prune": SubTask("prune", "remove the filters with the smallest norms from a model"),
    "export": SubTask("export", "export a model to ONNX (fp32, fp16, INT8) and engines"),
    "web": SubTask("write_web_page", "write a web page that runs a model in the browser"),
    "doctor": SubTask("doctor", "check the installation"),
    "demo": SubTask("demo", "run all steps on a small synthetic dataset"),
}
"""Command name -> command."""

_STATUS = {0: "PASS", 2: "FAIL"}
"""Exit code -> status in the last line, as printed by TAO; a stopped run prints none."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `bpnet`.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        Exit code, see `exit_code_of`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        return exit_code_of("bpnet", lambda: print_result(_overview())) or (0 if argv else 2)
    if argv[0] == "--version":
        from bodyposenet import __version__

        return exit_code_of("bpnet", lambda: print_result(f"bodyposenet {__version__}"))
    run = _Run(argv[0], argv[1:])
    code = exit_code_of(argv[0], run)
    if code in _STATUS:
        status = f"Execution status: {_STATUS[code]}"
        code = exit_code_of(argv[0], lambda: run.report(status)) or code
    return code


def tao() -> int:
    """Run `tao model bpnet <sub_task> ...`, the command line of TAO.

    If NVIDIA's launcher is installed too, a line on standard error names the difference.

    Returns:
        Exit code, see `exit_code_of`.
    """
    if launcher := _nvidia_launcher():
        print_result(
            f"warning: this `tao` is bodyposenet's; NVIDIA's is installed, too ({launcher}). "
            "`bpnet <sub_task>` always runs bodyposenet.",
            error=True,
        )
    argv = sys.argv[1:]
    if argv[:1] == ["model"]:
        argv = argv[1:]
    if argv[:1] != ["bpnet"]:
        print_result(
            "error: this `tao` only supports bpnet: tao model bpnet <sub_task> ...", error=True
        )
        return 2
    return main(argv[1:])


def _nvidia_launcher() -> str:
    """Return package or path of another program called `tao`; empty if there is none."""
    from importlib.metadata import PackageNotFoundError, version

    package = "nvidia-tao"
    with suppress(PackageNotFoundError):
        return f"{package} {version(package)}"
    for folder in os.get_exec_path():
        path = shutil.which("tao", path=folder)
        with suppress(OSError):
            # The script of another installation of this package contains its name.
            if path and b"bodyposenet" not in Path(path).read_bytes():
                return path
    return ""


def _overview() -> str:
    width = max(map(len, TASKS))
    lines = [f"  {name:<{width}}  {task.purpose}" for name, task in TASKS.items()]
    return "\n".join(
        [
            "usage: bpnet <sub_task> [flags]        (also: tao model bpnet <sub_task> [flags])",
            "",
            "sub-tasks:",
            *lines,
            "",
            "bpnet <sub_task> --help  show the flags of a sub-task",
            "bpnet --version          show the version",
        ]
    )


def find_command(name: str) -> Command[..., Any]:
    """Import the function of a command.

    Raises:
        BodyPoseNetError: There is no such command.
    """
    if name not in TASKS:
        close = [task for task in TASKS if TASKS[task].function == name] or closest(name, TASKS)
        hint = f"Did you mean {close[0]}?" if close else f"Sub-tasks: {', '.join(TASKS)}."
        raise BodyPoseNetError(f"unknown sub-task: {name}", hint)
    return getattr(import_module(f"bodyposenet.commands.{name}"), TASKS[name].function)


def make_parser(name: str) -> OptionParser:
    """Create the parser of a command's flags and of the common ones.

    Raises:
        BodyPoseNetError: There is no such command.
    """
    from bodyposenet.commands.launcher import REFUSALS, LauncherOptions
    from bodyposenet.commands.option_parser import OptionParser
    from bodyposenet.commands.options import option_fields

    command = find_command(name)
    module = sys.modules[f"bodyposenet.commands.{name}"]
    taken = {field.name for field in option_fields(command.options)}
    unlisted = set(REFUSALS) - taken
    if not TASKS[name].uses_gpu:
        unlisted.add("gpu_index")
    return OptionParser(
        f"bpnet {name}", module.__doc__ or "", command.options, LauncherOptions, unlisted=unlisted
    )


def build_options(name: str, values: Mapping[str, Any], *, progress: bool) -> CommandOptions:
    """Create the options of a command.

    Args:
        name: Name of the command.
        values: Values from its parser.
        progress: Whether progress bars are shown.

    Raises:
        BodyPoseNetError: A value is invalid.
    """
    return _build(find_command(name).options, values, progress=progress)


def _build(kind: type[Any], values: Mapping[str, Any], **more: object) -> Any:
    from bodyposenet.commands.options import build, option_fields

    names = {field.name for field in option_fields(kind)}
    chosen = {name: value for name, value in values.items() if name in names} | more
    return build(kind, chosen, name_of=lambda field: field.flag)


class _Run:
    """One run of a command.

    Args:
        name: Name of the command.
        argv: Its arguments.
    """

    def __init__(self, name: str, argv: Sequence[str]) -> None:
        self._name = name
        self._argv = argv
        # For errors in the arguments; later, the parsed options are used.
        self._is_quiet = any(word in ("-q", "--quiet") for word in argv)
        self._prints_results = any(word.split("=")[0] == "--output" for word in argv)

    def __call__(self) -> None:
        """Parse, run, and print the summary.

        Raises:
            BodyPoseNetError: A flag is invalid, or the command fails.
        """
        from bodyposenet.commands.launcher import LauncherOptions, check_flags, prepare_process

        command, parser = find_command(self._name), make_parser(self._name)
        values = parser.parse(self._argv)
        launcher: LauncherOptions = _build(LauncherOptions, values)
        self._is_quiet = launcher.quiet
        configure_logging("ERROR" if launcher.quiet else launcher.log_level, launcher.log_file)
        for message in parser.deprecations(self._argv):
            logger.warning(message)
        check_flags(self._name, launcher, command.options)
        options = build_options(self._name, values, progress=not launcher.quiet)
        self._prints_results = options.prints_results
        prepare_process(launcher)
        saves_state = self._name == "train"  # which has its own signal handlers
        with nullcontext() if saves_state else _sigterm_as_interrupt():
            result = command.run(options)
        if summary := result.summary():
            self.report(summary)
        # With `failure`, the Python function returns the result, and only the command line fails.
        if error := getattr(result, "error", None) or getattr(result, "failure", None):
            raise error

    def report(self, text: str) -> None:
        """Print a text on standard output, or on standard error if that is used for results."""
        if not self._is_quiet:
            print_result(text, error=self._prints_results)


@contextmanager
def _sigterm_as_interrupt() -> Generator[None]:
    """Raise KeyboardInterrupt on SIGTERM within the context: clusters send it to end a run."""
    # Only the main thread can set signal handlers.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
