"""What a device will be given to run: for the engine that is built here, and for the kit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceOptions:
    """What an exported file leaves open, and an engine does not.

    Args:
        shape: Height and width of the network's input, in pixels.
        opt_batch_size: The usual number of images at once.
        max_batch_size: The largest.
        workspace: Bytes that a layer may use while TensorRT builds and runs.
    """

    shape: tuple[int, int] = (256, 256)
    opt_batch_size: int = 1
    max_batch_size: int = 1
    workspace: int = 2 * 2**30
