"""A network in, the bytes of an ONNX file out: TAO's plain model (reference 14.1, 14.2).

It takes normalized images and gives the maps of the last stage, of any number of images of any
height and width that are multiples of the stride. The model file's header lies in its metadata.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.runtime.exported import HEATMAPS, INPUT, METADATA_KEY, PAFS

OPSET = 18

_EXAMPLE = (2, 64, 96)
"""Images, height and width that the network is traced with; none may be 1, and all differ."""


class _LastStage(nn.Module):
    """The network from its input, in TAO's layout, to the maps of its last stage, PAFs first."""

    def __init__(self, network: BodyPoseNetwork, channels_last: bool) -> None:
        super().__init__()
        self.network = network
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.channels_last:
            images = images.permute(0, 3, 1, 2)
        maps = self.network(images)
        heatmaps, pafs = maps.heatmaps[-1], maps.pafs[-1]
        if self.channels_last:
            return pafs.permute(0, 2, 3, 1), heatmaps.permute(0, 2, 3, 1)
        return pafs, heatmaps


def export_onnx(
    network: BodyPoseNetwork,
    header: Mapping[str, Any],
    *,
    channels_last: bool = True,
) -> bytes:
    """Write a network as ONNX; batch normalization is folded into the convolutions.

    Args:
        network: On the CPU; it is set to evaluation mode.
        header: Its description (`model.checkpoint.describe`).
        channels_last: Input and outputs as (N, H, W, C), TAO's layout; else (N, C, H, W).

    Returns:
        The content of the file. Input `INPUT`, outputs `PAFS` and `HEATMAPS` (`runtime.exported`).
    """
    count, height, width = _EXAMPLE
    sides = {"batch": torch.export.Dim("batch")}
    sides |= {name: network.stride * torch.export.Dim(name) for name in ("rows", "columns")}
    if channels_last:
        example, axes = torch.zeros(count, height, width, 3), (0, 1, 2)
    else:
        example, axes = torch.zeros(count, 3, height, width), (0, 2, 3)
    with _quiet():
        program = torch.onnx.export(
            _LastStage(network, channels_last).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=[INPUT],
            output_names=[PAFS, HEATMAPS],
            dynamic_shapes=(dict(zip(axes, sides.values(), strict=True)),),
        )
    assert program is not None  # it is None without dynamo only
    model = program.model
    for output in model.graph.outputs:
        assert output.shape is not None
        for axis, name in zip(axes, sides, strict=True):
            output.shape[axis] = name
    _describe(model, header)
    return ir.to_proto(model).SerializeToString()


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


def _describe(model: ir.Model, header: Mapping[str, Any]) -> None:
    """Leave the header in the metadata, and nothing of the machine that exports."""
    ClearMetadataAndDocStringPass()(model)
    for node in model.graph:
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.metadata_props.clear()
    model.metadata_props[METADATA_KEY] = json.dumps(header, sort_keys=True)
