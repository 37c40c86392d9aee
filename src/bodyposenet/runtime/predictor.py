"""An image of any size in, the people in it out, in that image's pixels.

One affine map takes the image to the network's input, and its inverse takes the poses back.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.decoding import DecodingOptions, decode
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.runtime.engine import Engine
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import GRAY, Maps, Poses

_LONGEST_ADJUSTMENT = 16
"""adjust_network_input lengthens a side by this factor at most."""


class Predictor:
    """Finds people in images.

    Args:
        engine: The network.
        spec: Input shape, stage, scales and thresholds.

    Raises:
        BodyPoseNetError: The network lacks `output_stage_to_use`.
    """

    def __init__(self, engine: Engine, spec: InferenceSpec) -> None:
        stage = spec.output_stage_to_use
        if stage is not None and stage > engine.stages:
            spec.fail(
                "output_stage_to_use",
                f"there is no stage {stage}, the model has {engine.stages}",
                "Choose one of its stages, counted from 1, or null for the last.",
            )
        self.engine = engine
        self.spec = spec
        self._options = DecodingOptions.from_spec(spec)

    def __call__(self, image: NDArray[np.uint8]) -> Poses:
        """Find the people.

        Args:
            image: (H, W, 3) uint8, RGB.

        Returns:
            Poses in image pixels: floats, not clipped to the image.
        """
        maps, to_network = self.maps(image)
        poses = decode(maps, self.engine.skeleton, self._options)
        return poses.moved(to_network.inverse())

    def maps(self, image: NDArray[np.uint8]) -> tuple[Maps, Affine]:
        """The network's maps, and the map from image pixels to the input that they belong to.

        With `multi_scale_inference` they are the mean over the scales. The original enlarges the
        maps of every scale to the pixels of the largest input before it averages (reference 11.4);
        here they are averaged on the cell grid of the largest input and enlarged once, while
        decoding: the same up to interpolation, with 1/64 of the memory.

        Args:
            image: (H, W, 3) uint8, RGB.
        """
        if not self.spec.multi_scale_inference:
            return self._maps_at(image, 1.0)
        largest, *smaller = sorted(set(self.spec.scales), reverse=True)
        maps, to_largest = self._maps_at(image, largest)
        heatmaps, pafs, stride = maps.heatmaps.copy(), maps.pafs.copy(), maps.stride
        for scale in smaller:
            maps, to_network = self._maps_at(image, scale)
            cells = _cells_to_network(stride)
            to_cells = cells.then(to_network.inverse()).then(to_largest).then(cells.inverse())
            heatmaps += to_cells.resample(maps.heatmaps, *heatmaps.shape[1:])
            pafs += to_cells.resample(maps.pafs, *pafs.shape[1:])
        heatmaps /= 1 + len(smaller)
        pafs /= 1 + len(smaller)
        return Maps(heatmaps, pafs, stride), to_largest

    def _maps_at(self, image: NDArray[np.uint8], scale: float) -> tuple[Maps, Affine]:
        to_network, shape = network_affine(image.shape[0], image.shape[1], self.spec, scale=scale)
        pixels = to_network.warp(image, *shape, outside=GRAY, interpolation=cv2.INTER_CUBIC)
        (maps,) = self.engine.infer(pixels[None], self.spec.output_stage_to_use)
        return maps, to_network


def network_affine(
    height: int, width: int, spec: InferenceSpec, *, scale: float = 1.0
) -> tuple[Affine, tuple[int, int]]:
    """How an image becomes a network input (reference 11.2).

    `pad_image_input` fits the image into the input shape, in its middle; `adjust_network_input`
    keeps one side of the shape and lengthens the other until the image fills it; null stretches
    the image. Sides are whole pixels; an engine pads them to whole cells.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        spec: Input shape and keep_aspect_ratio_mode.
        scale: Of the input shape, for multi-scale inference.

    Returns:
        The map from image pixels to network pixels, and the network's (height, width).

    Raises:
        BodyPoseNetError: The image is so narrow that an adjusted input would be absurdly long.
    """
    rows, columns = (max(round(side * scale), 1) for side in spec.input_shape)
    if spec.keep_aspect_ratio_mode is None:
        return Affine.resize(columns / width, rows / height), (rows, columns)
    if spec.keep_aspect_ratio_mode == "adjust_network_input":
        factor = max(rows / height, columns / width)
        shape = round(height * factor), round(width * factor)
        if max(shape) > _LONGEST_ADJUSTMENT * max(rows, columns):
            raise BodyPoseNetError(
                f"an image of {width} x {height} pixels would need a network input of "
                f"{shape[1]} x {shape[0]}",
                "Use keep_aspect_ratio_mode: pad_image_input for images so narrow.",
            )
        return Affine.resize(factor), shape
    factor = min(rows / height, columns / width)
    left, top = (columns - round(width * factor)) // 2, (rows - round(height * factor)) // 2
    return Affine.resize(factor).then(Affine.translation(left, top)), (rows, columns)


def _cells_to_network(stride: int) -> Affine:
    """From cells of the maps to network pixels: cell i has its center at stride x (i + .5) - .5."""
    return Affine.resize(stride)
