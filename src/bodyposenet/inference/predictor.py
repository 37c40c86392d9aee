"""Prediction on one image of any size: its people, in the image's own pixels.

One affine map takes the image to the network's input, and its inverse takes the poses back. The
steps prepare, infer and find_poses can be called one by one, as `inference.pipeline` does.
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
from bodyposenet.inference.test_time_augmentation import TURNS, FlipTest, merge_rotations
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import PAD_VALUE, Maps, Poses

CONCURRENCY = 2
"""Runs of the network at the same time: while one waits for its last layer's slowest thread, or
converts pixels and maps in Python, the other keeps the cores busy. More share the same cores."""

_LONGEST_ADJUSTMENT = 16
"""adjust_network_input lengthens a side by this factor at most."""


class NetworkInput(NamedTuple):
    """An image as the network takes it.

    Args:
        pixels: (h, w, 3) uint8, RGB; whole cells, the rest at the right and the bottom is gray.
        to_network: The map from the image's pixels to these; with `rotation_test` it may turn.
    """

    pixels: NDArray[np.uint8]
    to_network: Affine


@dataclass(frozen=True)
class PoseFilter:
    """Which of the detected people are kept.

    Args:
        score_threshold: Least score of a person, 0 to 1; None: all are kept.
        max_people: How many are kept at most, those of the highest scores; None: all.

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
        """The people that are kept, the highest score first."""
        if self.score_threshold is None and self.max_people is None:
            return poses
        order = np.argsort(-poses.scores, kind="stable")
        if self.score_threshold is not None:
            order = order[poses.scores[order] >= self.score_threshold]
        return poses[order[: self.max_people]]


class Predictor:
    """Finds people in images.

    Args:
        engine: The network. A shape that it is bound to goes before the spec's.
        spec: Input shape, stage, scales and thresholds.
        score_threshold: Least score of the people who are returned; None: all of them.
        max_people: How many people are returned at most, the best first; None: all of them.
        concurrency: How many threads may run the network at the same time; others wait.

    Raises:
        BodyPoseNetError: The network lacks `output_stage_to_use`, or a limit is out of range.
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
                "Choose one of its stages, counted from 1, or null for the last.",
            )
        self.engine = engine
        self.spec = spec
        if engine.fixed_shape is not None:
            self.spec = _bind(spec, engine.fixed_shape)
        self._flip_test = FlipTest(engine.skeleton) if spec.flip_test else None
        self._turns = TURNS if spec.rotation_test else (0,)
        self._scales = [1.0]
        if self.spec.multi_scale_inference:
            self._scales = sorted(set(self.spec.scales), reverse=True)
        self._options = DecodingOptions.from_spec(spec)

    def with_limits(
        self, score_threshold: float | None = None, max_people: int | None = None
    ) -> Predictor:
        """The same network with other limits; None keeps that of this predictor.

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
        """Find the people.

        Args:
            image: (H, W, 3) uint8, RGB.
            score_threshold: For this image; None: that of the predictor.
            max_people: For this image; None: that of the predictor.

        Returns:
            Poses in image pixels: floats, not clipped to the image.

        Raises:
            BodyPoseNetError: The image is too narrow (see `prepare`), or a limit out of range.
        """
        predictor = self.with_limits(score_threshold, max_people)
        inputs = predictor.prepare(image)
        (maps,) = predictor.infer([inputs])
        return predictor.find_poses(inputs, maps)

    def maps(self, image: NDArray[np.uint8]) -> tuple[Maps, Affine]:
        """The network's maps, and the map from image pixels to the input that they belong to.

        They are of the image as it is, whatever `rotation_test` says.

        Args:
            image: (H, W, 3) uint8, RGB.
        """
        inputs = [self._prepare_at(image, 0, scale) for scale in self._scales]
        (maps,) = self.infer([inputs])
        return _average(inputs, maps), inputs[0].to_network

    def prepare(self, image: NDArray[np.uint8]) -> list[NetworkInput]:
        """Warp an image to the network's input.

        With `multi_scale_inference` there are several inputs, the largest first; with
        `rotation_test` those of the image are followed by those of each turned image.

        Args:
            image: (H, W, 3) uint8, RGB.

        Raises:
            BodyPoseNetError: The image is so narrow that an adjusted input would be absurdly long.
        """
        return [
            self._prepare_at(image, turns, scale) for turns in self._turns for scale in self._scales
        ]

    def infer(self, batch: Sequence[Sequence[NetworkInput]]) -> list[list[Maps]]:
        """Run the network, with `flip_test` on the mirrored inputs too.

        Any number of threads may call this; `concurrency` of them run at the same time.

        Args:
            batch: What `prepare` made of some images; as many inputs of the same shapes of each.

        Returns:
            The maps of each image's inputs.
        """
        batches = [
            np.stack([network_input.pixels for network_input in images])
            for images in zip(*batch, strict=True)
        ]
        with self._slots:
            by_input = [self._infer_at(images) for images in batches]
        return [list(maps) for maps in zip(*by_input, strict=True)]

    def find_poses(self, inputs: Sequence[NetworkInput], maps: Sequence[Maps]) -> Poses:
        """Decode the maps of one image; with `rotation_test`, merge what its turns show.

        Args:
            inputs: What `prepare` made of it.
            maps: What `infer` made of these.

        Returns:
            Poses in image pixels; those that the limits leave.
        """
        by_turn = []
        for first in range(0, len(inputs), len(self._scales)):
            chosen = slice(first, first + len(self._scales))
            averaged = _average(inputs[chosen], maps[chosen])
            poses = decode(averaged, self.engine.skeleton, self._options)
            by_turn.append(poses.transform(inputs[first].to_network.inverse()))
        return self._filter(merge_rotations(by_turn) if len(by_turn) > 1 else by_turn[0])

    def _prepare_at(self, image: NDArray[np.uint8], turns: int, scale: float) -> NetworkInput:
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

    def _infer_at(self, images: NDArray[np.uint8]) -> list[Maps]:
        stage = self.spec.output_stage_to_use
        if self._flip_test is None:
            return self.engine.infer(images, stage)
        maps = self.engine.infer(np.concatenate([images, images[:, :, ::-1]]), stage)
        pairs = zip(maps[: len(images)], maps[len(images) :], strict=True)
        return [self._flip_test.average(plain, mirrored) for plain, mirrored in pairs]


def _bind(spec: InferenceSpec, shape: tuple[int, int]) -> InferenceSpec:
    """The spec as a network of one input shape can follow it."""
    bound = {
        "input_shape": shape,
        "keep_aspect_ratio_mode": "pad_image_input",
        "multi_scale_inference": False,
    }
    changed = [f"{key}: {value}" for key, value in bound.items() if getattr(spec, key) != value]
    if changed:
        logger.warning("the model takes inputs of one shape only, so %s", ", ".join(changed))
    return spec.model_copy(update=bound)


def _average(inputs: Sequence[NetworkInput], maps: Sequence[Maps]) -> Maps:
    """The mean over the scales, on the cells of the first input.

    The original enlarges the maps of every scale to the pixels of the largest input before it
    averages (TAO reference, section 11.4); here they are averaged on its cells and enlarged, if at
    all, while decoding: the same up to interpolation, with 1/64 of the memory.
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
    """How an image becomes a network input (TAO reference, section 11.2).

    `pad_image_input` fits the image into the input shape, in its middle; `adjust_network_input`
    keeps one side of the shape and lengthens the other until the image fills it; null stretches
    the image. Sides are whole pixels; `Predictor` pads them to whole cells.

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
