"""Engine of an exported model, on any runtime that has read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.description import ModelDescription
from bodyposenet.runtime.engines.exported import (
    HEATMAPS,
    Signature,
    Tensor,
    describe_tensors,
    prepare,
)
from bodyposenet.runtime.engines.protocol import crop
from bodyposenet.types import Maps

Run = Callable[[NDArray[Any]], Mapping[str, NDArray[np.float32]]]
"""An array for the model's input -> its outputs by name."""


class ExportedEngine:
    """Runs an exported model; it holds the maps of the last stage only.

    Args:
        description: What the model is.
        signature: Its tensors.
        run: Runs it.
        name: What runs it; see `ModelEngine`.
    """

    def __init__(
        self, description: ModelDescription, signature: Signature, run: Run, name: str
    ) -> None:
        self.name = name
        self.description = description
        self.skeleton = description.skeleton
        self.stride = description.stride
        self.stages = description.stages
        self.fixed_shape: tuple[int, int] | None = signature.fixed_shape
        self._signature = signature
        self._run = run

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network; see `Engine.infer`."""
        height, width = images.shape[1:3]
        if stage not in (None, self.stages):
            raise BodyPoseNetError(
                f"stage {stage}: an exported model holds the last of its {self.stages} stages only",
                "Take the last, or run the .tlt file.",
            )
        if self.fixed_shape not in (None, (height, width)):
            raise BodyPoseNetError(
                f"an input of {height} x {width} pixels: the model takes "
                f"{' x '.join(map(str, self.fixed_shape or ()))} only",
                "Write that as input_shape, with keep_aspect_ratio_mode: pad_image_input.",
            )
        inputs = prepare(images, self.description, self._signature)
        size = self._signature.batch or len(inputs)
        return [
            maps
            for start in range(0, len(inputs), size)
            for maps in self._maps(inputs[start : start + size], size, height, width)
        ]

    def _maps(self, inputs: NDArray[Any], size: int, height: int, width: int) -> list[Maps]:
        """The maps of one batch, which is filled up to the size that the model takes."""
        count = len(inputs)
        if count < size:
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], size - count, axis=0)])
        outputs = self._run(inputs)
        heatmaps, pafs = outputs[HEATMAPS], outputs[self._signature.pafs]
        if self._signature.channels_last:
            heatmaps, pafs = heatmaps.transpose(0, 3, 1, 2), pafs.transpose(0, 3, 1, 2)
        repeats = self._repeats(heatmaps.shape[2:], pafs.shape[2:], height, width)
        pafs = pafs[:, :, ::repeats, ::repeats]
        sigma = self.description.heatmap_sigma
        return crop(heatmaps[:count], pafs[:count], height, width, self.stride, sigma)

    def _repeats(
        self, heatmap: tuple[int, ...], paf: tuple[int, ...], height: int, width: int
    ) -> int:
        """How many times a cell of the PAFs stands in a row, by the sizes of the maps.

        Raises:
            BodyPoseNetError: The sizes are not those of the images: OpenVINO on one thread leaves
                its last maps, or none, where a layer does not fit.
        """
        cells = -(-height // self.stride), -(-width // self.stride)
        repeats = paf[0] // cells[0]
        if heatmap != cells or not repeats or paf != (repeats * cells[0], repeats * cells[1]):
            raise BodyPoseNetError(
                f"the model gives heatmaps of {heatmap[0]} x {heatmap[1]} and PAFs of {paf[0]} x "
                f"{paf[1]} for images of {height} x {width} pixels, which are {cells[0]} x "
                f"{cells[1]} cells",
                "Export the model again (bpnet export), or try another input_shape.",
            )
        return repeats


def make_engine(
    path: str | Path,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    header: str | None,
    expected: ModelDescription | None,
    run: Run,
    name: str,
) -> ExportedEngine:
    """The engine of a model that a runtime has read.

    Args:
        path: The file, for errors.
        inputs: By name.
        outputs: By name.
        header: Description of the model in the file, as JSON; None if there is none.
        expected: From a train spec; counts for what the file does not tell.
        run: Runs it.
        name: What runs it; see `ModelEngine`.

    Raises:
        BodyPoseNetError: It is no body pose network, that of another skeleton, or bound to images
            of no whole cells; or neither the file nor a train spec says what its joints are.
    """
    signature = Signature.read(path, inputs, outputs)
    description = expected
    if header is not None:
        description = ModelDescription.from_header(path, header, expected)
    if description is None:
        raise BodyPoseNetError(
            f"{path}: the file does not say what its joints and its normalization are",
            "Name the spec that the model was trained with as train_spec in the inference spec.",
        )
    skeleton = description.skeleton
    channels = skeleton.heatmap_channels, skeleton.paf_channels
    if any(
        found not in (None, own) for found, own in zip(signature.channels, channels, strict=True)
    ):
        raise BodyPoseNetError(
            f"{path}: gives {describe_tensors(outputs)}, but the skeleton {skeleton.name} needs "
            f"{channels[0]} heatmaps and {channels[1]} PAF channels",
            "Name the spec that the model was trained with as train_spec in the inference spec.",
        )
    if any(side % description.stride for side in signature.fixed_shape or ()):
        raise BodyPoseNetError(
            f"{path}: takes {describe_tensors(inputs)} only: no whole cells of "
            f"{description.stride} pixels",
            f"Export it for a height and a width that are multiples of {description.stride}.",
        )
    return ExportedEngine(description, signature, run, name)
