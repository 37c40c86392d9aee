"""Export of a network as ONNX: TAO's plain or deployable model (`docs/files.md`).

The file takes images, normalized outside or inside, and returns the maps of the last stage. Number
and size of the images are dynamic (height and width are multiples of the stride) unless the options
fix them. The metadata holds the header of the model file.
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
class OnnxExportOptions:
    """Properties of an ONNX file that do not follow from its network.

    Args:
        channels_last: Layout of input and outputs: (N, H, W, C), TAO's, or (N, C, H, W).
        upsample_ratio: Factor by which the PAFs are enlarged (nearest neighbor) in TAO's
            `sdk_compatible_model`; 1 for the plain model.
        static_batch_size: Number of images per batch; None for a dynamic one.
        static_shape: Height and width of the images in pixels; None for dynamic ones.
        normalizes_input: Whether the input is uint8 RGB pixels, normalized inside the model,
            instead of normalized float32.
    """

    channels_last: bool = True
    upsample_ratio: int = 1
    static_batch_size: int | None = None
    static_shape: tuple[int, int] | None = None
    normalizes_input: bool = False

    @property
    def pafs(self) -> str:
        """Name of the output that holds the part affinity fields."""
        return ENLARGED_PAFS if self.upsample_ratio > 1 else PAFS


PLAIN = OnnxExportOptions()


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

    The names of its submodules become those of the nodes.
    """

    def __init__(self, network: BodyPoseNetwork, options: OnnxExportOptions) -> None:
        super().__init__()
        self.network = network
        self.channels_last = options.channels_last
        self.normalization = self.conv2d_transpose_1 = nn.Identity()
        if options.normalizes_input:
            self.normalization = _Normalization(network, options.channels_last)
        if options.upsample_ratio > 1:  # TAO's transposed convolution copies too, but is slower
            self.conv2d_transpose_1 = nn.Upsample(scale_factor=float(options.upsample_ratio))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        images = self.normalization(images)
        if self.channels_last:
            images = images.permute(0, 3, 1, 2)
        maps = self.network(images)
        heatmaps, pafs = maps.heatmaps[-1], self.conv2d_transpose_1(maps.pafs[-1])
        if self.channels_last:
            return pafs.permute(0, 2, 3, 1), heatmaps.permute(0, 2, 3, 1)
        return pafs, heatmaps


def export_onnx(
    network: BodyPoseNetwork, header: Mapping[str, Any], options: OnnxExportOptions = PLAIN
) -> bytes:
    """Export a network as ONNX; batch normalization is folded into the convolutions.

    Args:
        network: On the CPU; it is set to evaluation mode.
        header: Its description (`model.checkpoint.describe`).
        options: Layout, sizes and normalization of the file.

    Returns:
        The content of the file. Input `INPUT`, outputs `options.pafs` and `HEATMAPS` (names of
        `runtime.engines.exported`); nodes and their outputs have TAO's layer names.
    """
    axes = (0, 1, 2) if options.channels_last else (0, 2, 3)
    with _quiet():
        program = torch.onnx.export(
            _LastStage(network, options).eval(),
            (_example(options),),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=[INPUT],
            output_names=[options.pafs, HEATMAPS],
            dynamic_shapes=(_dynamic_sizes(network, options, axes),),
        )
    assert program is not None  # it is None without dynamo only
    model = program.model
    name_layers(model.graph)
    name_sizes(model.graph, axes[1:])
    write_header(model, {**header, "form": asdict(options), "data_type": "fp32"})
    return ir.to_proto(model).SerializeToString()


def _example(options: OnnxExportOptions) -> Tensor:
    """Return an input to trace the network with."""
    count, *shape = _EXAMPLE
    count, shape = options.static_batch_size or count, options.static_shape or shape
    sizes = (count, *shape, 3) if options.channels_last else (count, 3, *shape)
    return torch.zeros(sizes, dtype=torch.uint8 if options.normalizes_input else torch.float32)


def _dynamic_sizes(
    network: BodyPoseNetwork, options: OnnxExportOptions, axes: tuple[int, int, int]
) -> dict[int, torch.export.Dim]:
    """Return the axes of the input whose size is dynamic."""
    batch, *sides = axes
    dynamic = {}
    if options.static_batch_size is None:
        dynamic[batch] = torch.export.Dim("batch")
    if options.static_shape is None:
        for axis, name in zip(sides, ("rows", "columns"), strict=True):
            dynamic[axis] = network.stride * torch.export.Dim(name)
    return dynamic


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings on its internals and on packages not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
