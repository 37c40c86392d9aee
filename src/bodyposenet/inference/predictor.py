"""Prediction on one image: resizing, network and decoding, and poses in pixels of the image.

One affine map transforms the image to the network input, its inverse transforms the poses back. The
steps `prepare`, `infer` and `find_poses` can be called separately, as `inference.pipeline` does.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import BoundedSemaphore
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.decoding import DecodingOptions, decode
from bodyposenet.errors import BodyPoseNetError, check_count, check_score
from bodyposenet.geometry import Affine
from bodyposenet.inference.engines.base import Engine
from bodyposenet.inference.tta import QUARTER_TURNS, FlipTest, merge_rotations
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import PAD_VALUE, Maps, Poses

CONCURRENCY = 2
"""Default number of concurrent runs of the network.

While one waits for the slowest thread of a layer, or converts pixels and maps in Python, the other
keeps the cores busy. More than two would only share the same cores.
"""

_MAX_LENGTHENING = 16
"""Maximum factor by which `adjust_network_input` lengthens a side of the network input."""


class NetworkInput(NamedTuple):
    """An image prepared for the network.

    Args:
        pixels: (h, w, 3) uint8 RGB, padded with gray to whole cells at the bottom and on the right.
        to_network: Map from image pixels to network pixels, which contains the rotation with
            `rotation_test`.
    """

    pixels: NDArray[np.uint8]
    to_network: Affine


@dataclass(frozen=True)
class PoseFilter:
    """Filter of detected people by score and number.

    Args:
        score_threshold: Minimum score of a person, 0 to 1, or None for no minimum.
        max_people: Maximum number of people, those with the highest scores, or None for no maximum.

    Raises:
        BodyPoseNetError: A value is out of range.
    """

    score_threshold: float | None = None
    max_people: int | None = None

    def __post_init__(self) -> None:
        score, people = self.score_threshold, self.max_people
        if score is not None:
            check_score("score_threshold", score)
        if people is not None:
            check_count("max_people", people, 1)

    def __call__(self, poses: Poses) -> Poses:
        """Return the people that pass, best first; without limits, all in their order."""
        if self.score_threshold is None and self.max_people is None:
            return poses
        order = np.argsort(-poses.scores, kind="stable")
        if self.score_threshold is not None:
            order = order[poses.scores[order] >= self.score_threshold]
        return poses[order[: self.max_people]]


class Predictor:
    """Detects the people in images.

    Args:
        engine: The network. Its fixed input shape, if it has one, overrides that of the spec.
        spec: Inference spec with input shape, stage, scales and thresholds.
        score_threshold: Minimum score of the returned people, or None for no minimum.
        max_people: Maximum number of returned people, best first, or None for no maximum.
        concurrency: Maximum number of threads that run the network at the same time; others wait.

    Raises:
        BodyPoseNetError: The network does not have `output_stage_to_use`, or a limit is out of
            range.
    """

    def __init__(
        self,
        engine: Engine,
        spec: InferenceSpec,
        *,
        score_threshold: float | None = None,
        max_people: int | None = None,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._slots = BoundedSemaphore(concurrency)
        self._filter = PoseFilter(score_threshold, max_people)
        stage = spec.output_stage_to_use
        if stage is not None and stage > engine.stages:
            spec.fail(
                "output_stage_to_use",
                f"there is no stage {stage}, the model has {engine.stages}",
                "Use one of its stages, counted from 1, or null for the last.",
            )
        self.engine = engine
        self.spec = spec
        if engine.fixed_shape is not None:
            self.spec = _with_fixed_shape(spec, engine.fixed_shape)
        self._flip_test = FlipTest(engine.skeleton) if spec.flip_test else None
        self._turns = QUARTER_TURNS if spec.rotation_test else (0,)
        self._scales = [1.0]
        if self.spec.multi_scale_inference:
            self._scales = sorted(set(self.spec.scales), reverse=True)
        self._options = DecodingOptions.from_spec(spec)

    def with_limits(
        self, score_threshold: float | None = None, max_people: int | None = None
    ) -> Predictor:
        """Return a predictor with the same network and other limits.

        Args:
            score_threshold: See `Predictor`; None for that of this predictor.
            max_people: See `Predictor`; None for that of this predictor.

        Raises:
            BodyPoseNetError: A limit is out of range.
        """
        given = {"score_threshold": score_threshold, "max_people": max_people}
        changed = {name: value for name, value in given.items() if value is not None}
        if not changed:
            return self
        other = copy.copy(self)
        other._filter = replace(self._filter, **changed)
        return other

    def __call__(
        self,
        image: NDArray[np.uint8],
        *,
        score_threshold: float | None = None,
        max_people: int | None = None,
    ) -> Poses:
        """Detect the people in an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            score_threshold: See `Predictor`; None for that of this predictor.
            max_people: See `Predictor`; None for that of this predictor.

        Returns:
            Poses in image pixels, not rounded and not clipped to the image.

        Raises:
            BodyPoseNetError: The image is too narrow (see `prepare`), or a limit is out of range.
        """
        predictor = self.with_limits(score_threshold, max_people)
        inputs = predictor.prepare(image)
        (maps,) = predictor.infer([inputs])
        return predictor.find_poses(inputs, maps)

    def maps(self, image: NDArray[np.uint8]) -> tuple[Maps, Affine]:
        """Compute the maps of an image, averaged over scales and `flip_test`, never rotated.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            The maps, and the affine map from image pixels to the network pixels of these maps.
        """
        inputs = [self._prepare_at(image, 0, scale) for scale in self._scales]
        (maps,) = self.infer([inputs])
        return _average(inputs, maps), inputs[0].to_network

    def prepare(self, image: NDArray[np.uint8]) -> list[NetworkInput]:
        """Warp an image to the network inputs.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            One input, or one per scale with `multi_scale_inference`, the largest first. With
            `rotation_test`, those of each rotated image follow.

        Raises:
            BodyPoseNetError: With `adjust_network_input`, the image is so narrow that the network
                input would be too long.
        """
        return [
            self._prepare_at(image, turns, scale) for turns in self._turns for scale in self._scales
        ]

    def infer(self, batch: Sequence[Sequence[NetworkInput]]) -> list[list[Maps]]:
        """Run the network on a batch, with `flip_test` also on the mirrored inputs.

        Can be called from any number of threads; `concurrency` of them run at the same time.

        Args:
            batch: Results of `prepare` for several images, all with the same shapes.

        Returns:
            Maps of each input of each image.
        """
        batches = [
            np.stack([network_input.pixels for network_input in images])
            for images in zip(*batch, strict=True)
        ]
        with self._slots:
            by_input = [self._infer_batch(images) for images in batches]
        return [list(maps) for maps in zip(*by_input, strict=True)]

    def find_poses(self, inputs: Sequence[NetworkInput], maps: Sequence[Maps]) -> Poses:
        """Decode the maps of one image and, with `rotation_test`, merge those of its rotations.

        Args:
            inputs: Result of `prepare` for the image.
            maps: Result of `infer` for these inputs.

        Returns:
            Poses in image pixels, filtered by the limits.
        """
        by_turn = []
        for first in range(0, len(inputs), len(self._scales)):
            chosen = slice(first, first + len(self._scales))
            averaged = _average(inputs[chosen], maps[chosen])
            poses = decode(averaged, self.engine.skeleton, self._options)
            by_turn.append(poses.transform(inputs[first].to_network.inverse()))
        return self._filter(merge_rotations(by_turn) if len(by_turn) > 1 else by_turn[0])

    def _prepare_at(self, image: NDArray[np.uint8], turns: int, scale: float) -> NetworkInput:
        """Warp an image to one network input, after quarter turns and at a scale."""
        height, width = image.shape[:2]
        turn = Affine.quarter_turns(turns, height, width)
        if turns % 2:
            height, width = width, height
        to_network, shape = network_affine(height, width, self.spec, scale=scale)
        to_network = turn.then(to_network)
        pixels = to_network.warp(image, *shape, outside=PAD_VALUE, interpolation=cv2.INTER_CUBIC)
        below, beside = (-side % self.engine.stride for side in shape)
        if below or beside:
            pixels = cv2.copyMakeBorder(
                pixels, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=(PAD_VALUE,) * 3
            )
        return NetworkInput(pixels, to_network)  # type: ignore[arg-type]

    def _infer_batch(self, images: NDArray[np.uint8]) -> list[Maps]:
        """Run the network on inputs of one shape, with the flip test if it is enabled."""
        stage = self.spec.output_stage_to_use
        if self._flip_test is None:
            return self.engine.infer(images, stage)
        maps = self.engine.infer(np.concatenate([images, images[:, :, ::-1]]), stage)
        pairs = zip(maps[: len(images)], maps[len(images) :], strict=True)
        return [self._flip_test.average(plain, mirrored) for plain, mirrored in pairs]


def _with_fixed_shape(spec: InferenceSpec, shape: tuple[int, int]) -> InferenceSpec:
    """Adapt a spec to a network with a fixed input shape; log a warning if that changes it."""
    required = {
        "input_shape": shape,
        "keep_aspect_ratio_mode": "pad_image_input",
        "multi_scale_inference": False,
    }
    changed = [f"{key}: {value}" for key, value in required.items() if getattr(spec, key) != value]
    if changed:
        logger.warning(
            "the model has a fixed input shape, which overrides the spec: %s", ", ".join(changed)
        )
    return spec.model_copy(update=required)


def _average(inputs: Sequence[NetworkInput], maps: Sequence[Maps]) -> Maps:
    """Average maps over the scales, on the cells of the first input.

    TAO first upsamples the maps of all scales to the pixels of the largest input (TAO reference,
    section 11.4). Averaging on its cells, and upsampling only while decoding, is the same up to
    interpolation and needs 1/64 of the memory.
    """
    if len(maps) == 1:
        return maps[0]
    heatmaps, pafs = maps[0].heatmaps.copy(), maps[0].pafs.copy()
    cells = _cells_to_network(maps[0].stride)
    for (_, to_network), smaller in zip(inputs[1:], maps[1:], strict=True):
        to_first = to_network.inverse().then(inputs[0].to_network)
        to_cells = cells.then(to_first).then(cells.inverse())
        heatmaps += to_cells.resample(smaller.heatmaps, *heatmaps.shape[1:])
        pafs += to_cells.resample(smaller.pafs, *pafs.shape[1:])
    heatmaps /= len(maps)
    pafs /= len(maps)
    return replace(maps[0], heatmaps=heatmaps, pafs=pafs)


def network_affine(
    height: int, width: int, spec: InferenceSpec, *, scale: float = 1.0
) -> tuple[Affine, tuple[int, int]]:
    """Compute the map from an image to a network input (TAO reference, section 11.2).

    `pad_image_input` fits the image into the input shape and centers it. `adjust_network_input`
    keeps one side of the input shape and lengthens the other one to the aspect ratio of the image.
    null stretches the image to the input shape.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        spec: Inference spec with `input_shape` and `keep_aspect_ratio_mode`.
        scale: Scale of the input shape, for multi-scale inference.

    Returns:
        The map from image pixels to network pixels, and the (height, width) of the network input
        in whole pixels, not yet padded to whole cells.

    Raises:
        BodyPoseNetError: With `adjust_network_input`, the image is so narrow that the network input
            would be too long.
    """
    rows, columns = (max(round(side * scale), 1) for side in spec.input_shape)
    if spec.keep_aspect_ratio_mode is None:
        return Affine.resize(columns / width, rows / height), (rows, columns)
    if spec.keep_aspect_ratio_mode == "adjust_network_input":
        factor = max(rows / height, columns / width)
        shape = round(height * factor), round(width * factor)
        if max(shape) > _MAX_LENGTHENING * max(rows, columns):
            raise BodyPoseNetError(
                f"an image of {width} x {height} pixels would need a network input of "
                f"{shape[1]} x {shape[0]}",
                "Use keep_aspect_ratio_mode: pad_image_input for such narrow images.",
            )
        return Affine.resize(factor), shape
    factor = min(rows / height, columns / width)
    left, top = (columns - round(width * factor)) // 2, (rows - round(height * factor)) // 2
    return Affine.resize(factor).then(Affine.translation(left, top)), (rows, columns)


def _cells_to_network(stride: int) -> Affine:
    """Map cells to network pixels: the center of cell i lies at stride x (i + 0.5) - 0.5."""
    return Affine.resize(stride)
