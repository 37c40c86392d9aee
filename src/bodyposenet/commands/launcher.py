"""Options of TAO's launcher, which all commands accept: logging, GPUs and processes."""

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
"""Option of TAO's launcher -> why a command without this option rejects it."""

_GROUP = "common options"


@options_class
class LauncherOptions(CommandOptions):
    """Options of the command line in addition to those of the command."""

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        Option(
            "-l",
            "-ll",
            help="Minimum level of log messages: DEBUG, INFO, WARNING, ERROR or CRITICAL.",
            metavar="LEVEL",
            group=_GROUP,
        ),
    ] = "INFO"
    log_file: Annotated[
        StrPath | None,
        Option(
            help="Append log messages and the summary to this file.", metavar="FILE", group=_GROUP
        ),
    ] = None
    quiet: Annotated[
        bool,
        Option("-q", help="Print errors only.", group=_GROUP),
    ] = False
    gpus: Annotated[int, Option(help="Number of GPUs.", metavar="N", group=_GROUP)] = 1
    gpu_index: Annotated[
        tuple[int, ...],
        Option(help="Indices of the GPUs to use, from 0.", metavar="I", nargs="+", group=_GROUP),
    ] = ()
    num_processes: Annotated[
        int, Option("-np", help="Number of processes.", metavar="N", group=_GROUP)
    ] = -1
    use_amp: Annotated[bool, Option(help="Use automatic mixed precision.", group=_GROUP)] = False


def check_flags(name: str, launcher: LauncherOptions, kind: type[Any]) -> None:
    """Reject options of TAO's launcher that a command does not support.

    Args:
        name: Name of the command.
        launcher: Values of the options.
        kind: Class of the command's options.

    Raises:
        BodyPoseNetError: An unsupported option differs from its default, or a value is invalid.
    """
    if launcher.gpus < 1:
        raise BodyPoseNetError(
            f"--gpus {launcher.gpus}: must be at least 1",
            "Without a GPU, --gpus 1 runs on the CPU.",
        )
    if launcher.gpu_index:
        _check_gpu_index(launcher)
    taken = {field.name for field in option_fields(kind)}
    for field in option_fields(LauncherOptions):
        reason, value = REFUSALS.get(field.name, ""), getattr(launcher, field.name)
        changes = value is True or value not in (field.default, 1)
        if reason and field.name not in taken and changes:
            shown = "" if value is True else f" {value}"
            raise BodyPoseNetError(f"{field.flag}{shown}: {name} {reason}", "Omit it.")


def prepare_process(launcher: LauncherOptions) -> None:
    """Set environment variables of threads and GPUs, before libraries read them."""
    # Iterations for which PyTorch's threads spin while they wait for each other. The default slows
    # down a busy machine considerably; without spinning, an idle machine is a third slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    limit_threads()
    if launcher.gpu_index:
        os.environ["CUDA_VISIBLE_DEVICES"] = select_gpus(sorted(launcher.gpu_index))


def _check_gpu_index(launcher: LauncherOptions) -> None:
    indices = launcher.gpu_index
    written = f"--gpu_index {' '.join(map(str, indices))}"
    if min(indices) < 0:
        raise BodyPoseNetError(f"{written}: must be at least 0", "GPUs are counted from 0.")
    if len(set(indices)) < len(indices):
        raise BodyPoseNetError(f"{written}: a GPU is given twice", "Give each index once.")
    if len(indices) != launcher.gpus:
        raise BodyPoseNetError(
            f"{written}: --gpus is {launcher.gpus}", "Give as many indices as --gpus."
        )


def select_gpus(indices: Sequence[int]) -> str:
    """Select GPUs among those that this process may use.

    A scheduler assigns GPUs with `CUDA_VISIBLE_DEVICES`, a list of indices or UUIDs. If it is set,
    the indices refer to this list.

    Args:
        indices: Indices of the GPUs, from 0.

    Returns:
        The new value of `CUDA_VISIBLE_DEVICES`.

    Raises:
        BodyPoseNetError: An index is outside of the list.
    """
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return ",".join(map(str, indices))
    visible = _read_list(value)
    for index in indices:
        if not 0 <= index < len(visible):
            names = "GPU" if len(visible) == 1 else "GPUs"
            raise BodyPoseNetError(
                f"--gpu_index {index}: CUDA_VISIBLE_DEVICES={value} has {len(visible)} {names}",
                f"Give indices of that list, from 0 to {len(visible) - 1}."
                if visible
                else "Omit --gpu_index, or set CUDA_VISIBLE_DEVICES to the GPUs to use.",
            )
    return ",".join(visible[index] for index in indices)


def _read_list(value: str) -> list[str]:
    """Parse a value of `CUDA_VISIBLE_DEVICES`; as in CUDA, an invalid entry ends the list."""
    visible: list[str] = []
    for name in map(str.strip, value.split(",")):
        if not (name.isdecimal() or name.startswith(("GPU-", "MIG-"))):
            break
        visible.append(name)
    return visible
