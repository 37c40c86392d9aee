"""A network in, the bytes of an ONNX file out: TAO's plain or deployable model (reference 14).

It takes images, normalized outside or inside, and gives the maps of the last stage, of any number
of images of any height and width that are multiples of the stride, or of fixed ones. The model
file's header lies in its metadata.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from bodyposenet.exporting.graph import name_layers, name_sizes, write_header
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.runtime.engines.exported import ENLARGED_PAFS, HEATMAPS, INPUT, PAFS

OPSET = 18

_EXAMPLE = (2, 64, 96)
"""Images, height and width that the network is traced with; none may be 1, and all differ."""


@dataclass(frozen=True)
class Form:
    """What of an ONNX file its network leaves open.

    Args:
        channels_last: Input and outputs as (N, H, W, C), TAO's layout; else (N, C, H, W).
        upsample_ratio: More than 1: TAO's `sdk_compatible_model`; every cell of the PAFs stands
            there as so many rows and columns of equal ones.
        static_batch_size: The only number of images at once; None: any.
        static_shape: The only height and width of the images; None: any.
        bakes_normalization: The input is uint8 RGB pixels, else normalized float32.
    """

    channels_last: bool = True
    upsample_ratio: int = 1
    static_batch_size: int | None = None
    static_shape: tuple[int, int] | None = None
    bakes_normalization: bool = False

    @property
    def pafs(self) -> str:
        """Name of the output with the part affinity fields."""
        return ENLARGED_PAFS if self.upsample_ratio > 1 else PAFS


PLAIN = Form()


class _Normalization(nn.Module):
    """Pixels to the network's input, as `BodyPoseNetwork.normalize` does it.

    Numbers that are the same for all channels are written as one: ONNX Runtime takes ten times as
    long with three along the last axis.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, network: BodyPoseNetwork, channels_last: bool) -> None:
        super().__init__()
        shape = (1, 1, 1, 3) if channels_last else (1, 3, 1, 1)
        for name, values in (("scale", network.image_scale), ("offset", network.image_offset)):
            is_same = bool((values == values.flatten()[0]).all())
            self.register_buffer(name, values.flatten()[0] if is_same else values.view(shape))

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.to(torch.float32) / self.scale - self.offset


class _LastStage(nn.Module):
    """The network from its input to the maps of its last stage, PAFs first.

    The names of the parts are those of the file's nodes.
    """

    def __init__(self, network: BodyPoseNetwork, form: Form) -> None:
        super().__init__()
        self.network = network
        self.channels_last = form.channels_last
        self.normalization = self.conv2d_transpose_1 = nn.Identity()
        if form.bakes_normalization:
            self.normalization = _Normalization(network, form.channels_last)
        if form.upsample_ratio > 1:  # TAO's transposed convolution copies too, but is slower
            self.conv2d_transpose_1 = nn.Upsample(scale_factor=float(form.upsample_ratio))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        images = self.normalization(images)
        if self.channels_last:
            images = images.permute(0, 3, 1, 2)
        maps = self.network(images)
        heatmaps, pafs = maps.heatmaps[-1], self.conv2d_transpose_1(maps.pafs[-1])
        if self.channels_last:
            return pafs.permute(0, 2, 3, 1), heatmaps.permute(0, 2, 3, 1)
        return pafs, heatmaps


def export_onnx(network: BodyPoseNetwork, header: Mapping[str, Any], form: Form = PLAIN) -> bytes:
    """Write a network as ONNX; batch normalization is folded into the convolutions.

    Args:
        network: On the CPU; it is set to evaluation mode.
        header: Its description (`model.checkpoint.describe`).
        form: Of the file.

    Returns:
        The content of the file. Input `INPUT`, outputs `form.pafs` and `HEATMAPS` (names of
        `runtime.exported`); nodes and their outputs carry TAO's layer names (reference 7.1).
    """
    axes = (0, 1, 2) if form.channels_last else (0, 2, 3)
    with _quiet():
        program = torch.onnx.export(
            _LastStage(network, form).eval(),
            (_example(form),),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=[INPUT],
            output_names=[form.pafs, HEATMAPS],
            dynamic_shapes=(_free_sizes(network, form, axes),),
        )
    assert program is not None  # it is None without dynamo only
    model = program.model
    name_layers(model.graph)
    name_sizes(model.graph, axes[1:])
    write_header(model, {**header, "form": asdict(form), "data_type": "fp32"})
    return ir.to_proto(model).SerializeToString()


def _example(form: Form) -> Tensor:
    """An input to trace the network with."""
    count, *shape = _EXAMPLE
    count, shape = form.static_batch_size or count, form.static_shape or shape
    sizes = (count, *shape, 3) if form.channels_last else (count, 3, *shape)
    return torch.zeros(sizes, dtype=torch.uint8 if form.bakes_normalization else torch.float32)


def _free_sizes(
    network: BodyPoseNetwork, form: Form, axes: tuple[int, int, int]
) -> dict[int, torch.export.Dim]:
    """Axes of the input whose size is not fixed."""
    batch, *sides = axes
    free = {}
    if form.static_batch_size is None:
        free[batch] = torch.export.Dim("batch")
    if form.static_shape is None:
        for axis, name in zip(sides, ("rows", "columns"), strict=True):
            free[axis] = network.stride * torch.export.Dim(name)
    return free


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own insides, and of packages that this network does not need."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
