"""The commands `bpnet <sub_task> ...` and `tao model bpnet <sub_task> ...`.

Only the module of the chosen sub-task is imported, so that `bpnet --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bodyposenet.console import configure_logging, say
from bodyposenet.ending import exit_code_of
from bodyposenet.errors import BodyPoseNetError, closest
from bodyposenet.tasks.command import parse_command, run_command

TASKS = {
    "dataset_convert": "convert a dataset in COCO's keypoint format to TFRecords and masks",
    "train": "train a network",
    "evaluate": "measure a model's keypoint AP on the test data of a dataset",
    "inference": "find the people in images, write their poses and draw them",
    "prune": "take the filters with the smallest norms out of a model",
    "export": "write a model as ONNX, for other runtimes",
    "doctor": "tell what is installed, and whether the decoder works",
    "demo": "draw a small dataset, then convert, train, evaluate and infer on it",
}
"""Sub-tasks and what they do; `tasks/<name>.py` holds their flags and their `run`."""

_STATUS = {0: "PASS", 2: "FAIL"}
"""Exit code -> what TAO's commands say at their end; one that was asked to stop says neither."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `bpnet`.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        Exit code, see `exit_code_of`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        return exit_code_of("bpnet", lambda: say(_overview())) or (0 if argv else 2)
    if argv[0] == "--version":
        from bodyposenet import __version__

        return exit_code_of("bpnet", lambda: say(f"bodyposenet {__version__}"))
    code = exit_code_of(argv[0], lambda: _run(argv[0], argv[1:]))
    if code in _STATUS:
        ended = f"Execution status: {_STATUS[code]}"
        code = exit_code_of(argv[0], lambda: say(ended)) or code
    return code


def tao() -> int:
    """Run `tao model bpnet <sub_task> ...`, the guide's form of the command."""
    argv = sys.argv[1:]
    if argv[:1] == ["model"]:
        argv = argv[1:]
    if argv[:1] != ["bpnet"]:
        say("error: this `tao` knows bpnet only: tao model bpnet <sub_task> ...", error=True)
        return 2
    return main(argv[1:])


def _overview() -> str:
    width = max(map(len, TASKS))
    lines = [f"  {name:<{width}}  {purpose}" for name, purpose in TASKS.items()]
    return "\n".join(
        [
            "usage: bpnet <sub_task> [flags]        (also: tao model bpnet <sub_task> [flags])",
            "",
            "sub-tasks:",
            *lines,
            "",
            "bpnet <sub_task> --help tells the flags of one; bpnet --version the version.",
        ]
    )


def _run(name: str, argv: list[str]) -> None:
    if name not in TASKS:
        close = closest(name, TASKS)
        hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(TASKS)}."
        raise BodyPoseNetError(f"there is no sub-task {name}", hint)
    arguments = parse_command(name, argv)
    configure_logging(arguments.log_level, arguments.log_file)
    run_command(name, arguments)


if __name__ == "__main__":
    sys.exit(main())
