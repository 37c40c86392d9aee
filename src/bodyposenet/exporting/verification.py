"""An exported model and its network in, how far their maps and keypoints are apart out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.drawn import draw_scene
from bodyposenet.decoding import decode
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.engine import Engine

LARGEST_ERRORS = {"fp32": 1e-3, "fp16": 5e-2}
"""Of the maps, as a share of the network's largest value."""

_PIXELS = 0.1
"""Keypoints nearer than this are the same."""


@dataclass(frozen=True)
class Comparison:
    """One input, through the network and through the exported model.

    Args:
        shape: Height and width of the input.
        heatmap_error: Largest difference, as a share of the network's largest value.
        paf_error: Alike.
        keypoints: How many the network's maps give.
        differing: How many keypoints of either have no counterpart within 0.1 pixels.
    """

    shape: tuple[int, int]
    heatmap_error: float
    paf_error: float
    keypoints: int
    differing: int


def compare(
    network: Engine, exported: Engine, shapes: Sequence[tuple[int, int]]
) -> list[Comparison]:
    """Run both on noise and on drawn people, as one batch for each shape.

    Args:
        network: The network.
        exported: The exported model.
        shapes: Heights and widths in pixels.
    """
    comparisons = []
    for seed, (height, width) in enumerate(shapes):
        random = np.random.default_rng(seed)
        noise = random.integers(0, 256, (height, width, 3), np.uint8)
        images = np.stack([noise, draw_scene(random, height, width)[0]])
        expected, found = network.infer(images), exported.infer(images)
        points = [
            [decode(maps, network.skeleton).keypoints for maps in side]
            for side in (expected, found)
        ]
        comparisons.append(
            Comparison(
                (height, width),
                _error([maps.heatmaps for maps in expected], [maps.heatmaps for maps in found]),
                _error([maps.pafs for maps in expected], [maps.pafs for maps in found]),
                sum(int(np.isfinite(people[..., 0]).sum()) for people in points[0]),
                sum(_differing(*pair) for pair in zip(*points, strict=True)),
            )
        )
    return comparisons


def check(comparisons: Sequence[Comparison], data_type: str) -> None:
    """Refuse an export that is not the network.

    Args:
        comparisons: From `compare`.
        data_type: `fp32` or `fp16`.

    Raises:
        BodyPoseNetError: Maps are further apart than `LARGEST_ERRORS` allows.
    """
    largest = LARGEST_ERRORS[data_type]
    errors = [error for each in comparisons for error in (each.heatmap_error, each.paf_error)]
    if not all(error <= largest for error in errors):  # an error may be NaN
        raise BodyPoseNetError(
            f"the exported model's maps are not the network's: they differ by {max(errors):.1e} of "
            f"the largest value, {largest:.0e} is allowed; no file is written",
            "Export with --data_type fp32."
            if data_type == "fp16"
            else "Update torch and onnxscript (pip install -U 'bodyposenet[train,export]').",
        )


def table(comparisons: Sequence[Comparison]) -> list[str]:
    """Lines for people."""
    lines = [f"{'input':>11}  {'heatmaps':>9}  {'PAFs':>9}  {'keypoints':>9}  {'differ':>6}"]
    for each in comparisons:
        size = f"{each.shape[0]} x {each.shape[1]}"
        lines.append(
            f"{size:>11}  {each.heatmap_error:>9.1e}  {each.paf_error:>9.1e}  "
            f"{each.keypoints:>9}  {each.differing:>6}"
        )
    return lines


def _error(expected: list[NDArray[np.float32]], found: list[NDArray[np.float32]]) -> float:
    """The largest difference as a share of the largest value; NaN where a value is none."""
    size = max(float(np.abs(maps).max()) for maps in expected)
    gaps = [float(np.abs(a - b).max()) for a, b in zip(expected, found, strict=True)]
    return float(np.max(gaps)) / (size or 1.0)


def _differing(expected: NDArray[np.float32], found: NDArray[np.float32]) -> int:
    """Keypoints (N, K, 2) and (M, K, 2) of one image, those that the other side lacks."""
    gaps = np.linalg.norm(expected[:, None] - found[None], axis=3)
    near = gaps <= _PIXELS  # never true of NaN, a missing joint
    lost = np.isfinite(expected[..., 0]) & ~near.any(axis=1)
    added = np.isfinite(found[..., 0]) & ~near.any(axis=0)
    return int(lost.sum() + added.sum())
