"""Names of runtimes, precisions and devices, for a command line that need not load the engines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from bodyposenet.errors import BodyPoseNetError

RUNTIMES = {
    ".tlt": ("pytorch",),
    ".hdf5": ("pytorch",),
    ".onnx": ("onnx", "openvino"),
    ".etlt": ("onnx", "openvino"),
    ".engine": ("openvino", "tensorrt"),
}
"""Extension of a model file -> the runtimes that run it, the usual one first.

An `.engine` file is run by the one that built it; its header says which.
"""

ENGINES = (
    "auto",
    *dict.fromkeys(runtime for runtimes in RUNTIMES.values() for runtime in runtimes),
)
"""What may be asked for; `auto` is the usual runtime of the file."""

PRECISIONS = ("fp32", "bf16")
"""What engines that can choose compute in; the first is the default."""


class Device(NamedTuple):
    """A processor to run a network on.

    Args:
        kind: `auto` (a GPU where the runtime can use one, else the CPU), `cpu`, `cuda` or `mps`.
        index: Which GPU, counted from 0; None: the first one.
    """

    kind: str
    index: int | None = None

    @classmethod
    def parse(cls, name: object) -> Device:
        """Read a name such as `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

        Args:
            name: The name, or an object whose text is one, such as a `torch.device`.

        Raises:
            BodyPoseNetError: It is not the name of a device.
        """
        match = re.fullmatch(r"(auto|cpu|cuda|mps)(?::(\d{1,3}))?", str(name))
        if match is None or (match[2] and match[1] == "auto"):
            number = str(name).isdecimal()
            raise BodyPoseNetError(
                f"Unknown device: {name!r}",
                f'Write "cuda:{name}".' if number else 'Write "auto", "cpu", "cuda" or "cuda:1".',
            )
        index = int(match[2]) if match[2] and match[1] == "cuda" else None
        return cls(match[1], index)

    def __str__(self) -> str:
        return self.kind if self.index is None else f"{self.kind}:{self.index}"

    def missing(self, runtime: str, available: Sequence[str], reason: str = "") -> BodyPoseNetError:
        """The error that a runtime raises which cannot use this device.

        Args:
            runtime: Its name, for people.
            available: Devices that it can use.
            reason: Why it cannot use this one, where that is known.
        """
        return BodyPoseNetError(
            f"device {self}: {runtime} cannot use it" + (f": {reason}" if reason else ""),
            f"Available: {', '.join(available)}.",
        )


AUTO = Device("auto")
