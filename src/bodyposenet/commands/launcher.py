"""Flags that TAO's launcher takes for every sub-task, and what they do to the process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from bodyposenet.commands.options import (
    CommandOptions,
    Option,
    StrPath,
    option_fields,
    options_class,
)
from bodyposenet.cpu import limit_threads
from bodyposenet.errors import BodyPoseNetError

REFUSALS = {
    "gpus": "runs on one device",
    "num_processes": "runs as one process",
    "use_amp": "has no mixed precision",
}
"""Flag of TAO's launcher -> why a sub-task that has no such option refuses it."""

_GROUP = "flags of every sub-task"


@options_class
class LauncherOptions(CommandOptions):
    """Options of the command line beside those of the sub-task."""

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        Option("-l", "-ll", help="Least level of the log lines.", group=_GROUP),
    ] = "INFO"
    log_file: Annotated[
        StrPath | None,
        Option(help="Append log lines and the summary to this file.", metavar="FILE", group=_GROUP),
    ] = None
    quiet: Annotated[
        bool,
        Option("-q", help="Print errors only: no log lines, progress or summary.", group=_GROUP),
    ] = False
    gpus: Annotated[int, Option(help="Number of GPUs.", metavar="N", group=_GROUP)] = 1
    gpu_index: Annotated[
        tuple[int, ...],
        Option(help="Indices of the GPUs to use.", metavar="I", nargs="+", group=_GROUP),
    ] = ()
    num_processes: Annotated[
        int, Option("-np", help="Number of processes.", metavar="N", group=_GROUP)
    ] = -1
    use_amp: Annotated[bool, Option(help="Train in mixed precision.", group=_GROUP)] = False


def check_flags(name: str, launcher: LauncherOptions, kind: type[Any]) -> None:
    """Refuse flags of TAO's launcher that a sub-task cannot follow.

    Args:
        name: Name of the sub-task.
        launcher: The flags.
        kind: Class of the sub-task's options.

    Raises:
        BodyPoseNetError: A flag has another value than its default, or makes no sense.
    """
    if launcher.gpus < 1:
        raise BodyPoseNetError(
            f"--gpus {launcher.gpus}: at least 1", "Without a GPU, --gpus 1 runs on the CPU."
        )
    if launcher.gpu_index:
        _check_gpu_index(launcher)
    taken = {field.name for field in option_fields(kind)}
    for field in option_fields(LauncherOptions):
        reason, value = REFUSALS.get(field.name, ""), getattr(launcher, field.name)
        changes = value is True or value not in (field.default, 1)
        if reason and field.name not in taken and changes:
            shown = "" if value is True else f" {value}"
            raise BodyPoseNetError(f"{field.flag}{shown}: {name} {reason}", "Leave it out.")


def prepare_process(launcher: LauncherOptions) -> None:
    """Choose the GPUs and the waiting time of threads, before any library reads them."""
    # How long torch's threads spin for one another: by default so long that a busy machine does
    # little else; without any spinning an idle one loses a third of its speed.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    limit_threads()
    if launcher.gpu_index:
        os.environ["CUDA_VISIBLE_DEVICES"] = select_gpus(sorted(launcher.gpu_index))


def _check_gpu_index(launcher: LauncherOptions) -> None:
    indices = launcher.gpu_index
    written = f"--gpu_index {' '.join(map(str, indices))}"
    if min(indices) < 0:
        raise BodyPoseNetError(f"{written}: at least 0", "GPUs are counted from 0.")
    if len(set(indices)) < len(indices):
        raise BodyPoseNetError(f"{written}: a GPU is named twice", "Name each of them once.")
    if len(indices) != launcher.gpus:
        raise BodyPoseNetError(
            f"{written}: --gpus is {launcher.gpus}", "Name as many GPUs as --gpus says."
        )


def select_gpus(indices: Sequence[int]) -> str:
    """Choose among the GPUs that this process may use.

    A scheduler hands out GPUs by setting `CUDA_VISIBLE_DEVICES`, to indices or UUIDs; an index then
    means a place in that list.

    Args:
        indices: Which GPUs, counted from 0.

    Returns:
        The new value of `CUDA_VISIBLE_DEVICES`.

    Raises:
        BodyPoseNetError: An index lies outside the list.
    """
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return ",".join(map(str, indices))
    visible = _read_list(value)
    for index in indices:
        if not 0 <= index < len(visible):
            names = "GPU" if len(visible) == 1 else "GPUs"
            raise BodyPoseNetError(
                f"--gpu_index {index}: CUDA_VISIBLE_DEVICES={value} leaves {len(visible)} {names}",
                f"Choose from 0 to {len(visible) - 1}: indices are places in that list."
                if visible
                else "Leave --gpu_index out, or set CUDA_VISIBLE_DEVICES to the GPUs to use.",
            )
    return ",".join(visible[index] for index in indices)


def _read_list(value: str) -> list[str]:
    """The GPUs of a value of `CUDA_VISIBLE_DEVICES`; as in CUDA, an invalid one ends the list."""
    visible = []
    for name in map(str.strip, value.split(",")):
        if not (name.isdecimal() or name.startswith(("GPU-", "MIG-"))):
            break
        visible.append(name)
    return visible
