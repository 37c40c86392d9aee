"""An exported model and its network in, how far their maps and keypoints are apart out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.drawn import draw_scene
from bodyposenet.decoding import decode
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.fitted_photos import fit_photos
from bodyposenet.media.source import list_images, read_image
from bodyposenet.runtime.engines.protocol import Engine
from bodyposenet.types import Maps

_BATCH = 3
_PHOTOS = 12
"""The first so many of a folder are enough."""


@dataclass(frozen=True)
class Tolerance:
    """How far an export may be from its network.

    Args:
        pixels: Keypoints nearer than this are the same.
        remedy: What to do where it is further.
        error: Largest difference of a map, as a share of the network's largest value.
        signal_to_noise: Least ratio of the maps to their differences, in decibels.
        matched: Least share of keypoints that are the same.
    """

    pixels: float
    remedy: str
    error: float = math.inf
    signal_to_noise: float = -math.inf
    matched: float = 0.0


TOLERANCES = {
    "fp32": Tolerance(
        pixels=0.1,
        remedy="Update torch and onnxscript (pip install -U 'bodyposenet[train,export]').",
        error=1e-4,
        matched=0.98,
    ),
    "fp16": Tolerance(pixels=0.5, remedy="Export with --data_type fp32.", error=5e-2, matched=0.9),
    "int8": Tolerance(
        pixels=2.0,
        remedy="Delete the calibration cache and calibrate with more images like those of the use, "
        "with another --cal_method, or keep the most sensitive layers in float (--float_layers).",
        signal_to_noise=8.0,
    ),
}
"""By `--data_type`. What INT8 costs is to be measured on real data (`bpnet evaluate`)."""


@dataclass(frozen=True)
class Comparison:
    """One batch, through the network and through the exported model.

    Args:
        images: How many.
        shape: Height and width of the images.
        errors: Largest difference of the heatmaps and of the PAFs, as a share of the network's
            largest value.
        signal_to_noise: Of the heatmaps and of the PAFs, in decibels.
        keypoints: How many both give together, those that are the same counted once.
        matched: How many of these are the same.
    """

    images: int
    shape: tuple[int, int]
    errors: tuple[float, float]
    signal_to_noise: tuple[float, float]
    keypoints: int
    matched: int


def drawn_batches(shapes: Sequence[tuple[int, int]]) -> Iterator[NDArray[np.uint8]]:
    """Drawn people of each shape, one image and three at once.

    Args:
        shapes: Heights and widths in pixels.
    """
    for seed, shape in enumerate(shapes):
        random = np.random.default_rng(seed)
        for count in (1, _BATCH):
            yield np.stack([draw_scene(random, *shape)[0] for _ in range(count)])


def photo_batches(
    network: Engine, folder: str | Path, shapes: Sequence[tuple[int, int]]
) -> Iterator[NDArray[np.uint8]]:
    """The first photos of a folder, as inference fits them into each shape.

    Args:
        network: What they are for.
        folder: Its subfolders are not searched.
        shapes: Heights and widths in pixels.

    Raises:
        BodyPoseNetError: The folder holds no images, or one of them cannot be read.
    """
    photos = [read_image(entry.path) for entry in list_images("dir", folder).entries[:_PHOTOS]]
    for shape in shapes:
        fitted = list(fit_photos(photos, network, shape))
        yield np.stack(fitted[:1])
        for start in range(1, len(fitted), _BATCH):
            yield np.stack(fitted[start : start + _BATCH])


def compare(
    network: Engine, exported: Engine, images: NDArray[np.uint8], tolerance: Tolerance
) -> Comparison:
    """Run both on a batch.

    Args:
        network: The network.
        exported: The exported model.
        images: (N, H, W, 3) uint8 RGB.
        tolerance: Tells which keypoints are the same.
    """
    expected, found = network.infer(images), exported.infer(images)
    points = [
        [decode(maps, network.skeleton).keypoints for maps in side] for side in (expected, found)
    ]
    counts = np.array(
        [_count(ours, theirs, tolerance.pixels) for ours, theirs in zip(*points, strict=True)]
    )
    keypoints, matched = counts.sum(axis=0).tolist()
    heatmaps = _stack(expected, "heatmaps"), _stack(found, "heatmaps")
    pafs = _stack(expected, "pafs"), _stack(found, "pafs")
    return Comparison(
        images=len(images),
        shape=images.shape[1:3],
        errors=(_error(*heatmaps), _error(*pafs)),
        signal_to_noise=(_signal_to_noise(*heatmaps), _signal_to_noise(*pafs)),
        keypoints=keypoints,
        matched=matched,
    )


def check(comparisons: Sequence[Comparison], tolerance: Tolerance) -> None:
    """Refuse an export that is not the network.

    Args:
        comparisons: From `compare`.
        tolerance: For this type of data.

    Raises:
        BodyPoseNetError: The maps or the keypoints are further apart than the tolerance allows.
    """
    error = float(np.max([each.errors for each in comparisons]))  # NaN where one of them is
    ratio = float(np.min([each.signal_to_noise for each in comparisons]))
    matched = share_matched(comparisons)
    problem = ""
    if not error <= tolerance.error:
        problem = f"maps differ by {error:.1e} of the largest value, {tolerance.error:.0e} is"
    elif not ratio >= tolerance.signal_to_noise:
        least = tolerance.signal_to_noise
        problem = f"maps are {ratio:.1f} dB above their differences, {least:.0f} dB at least are"
    elif matched is not None and matched < tolerance.matched:
        problem = f"keypoints are the same in {matched:.1%}, {tolerance.matched:.0%} at least are"
    if problem:
        raise BodyPoseNetError(
            f"the exported model is not the network: its {problem} allowed; no file is written",
            tolerance.remedy,
        )


def share_matched(comparisons: Sequence[Comparison]) -> float | None:
    """Share of both models' keypoints that are the same; None: neither gives any."""
    keypoints = sum(each.keypoints for each in comparisons)
    return sum(each.matched for each in comparisons) / keypoints if keypoints else None


def table(comparisons: Sequence[Comparison]) -> list[str]:
    """Lines for people."""
    lines = [f"{'images':>15}  {'heatmaps':>15}  {'PAFs':>15}  {'keypoints':>9}  {'same':>6}"]
    for each in comparisons:
        size = f"{each.images} x {each.shape[0]} x {each.shape[1]}"
        maps = [
            f"{error:.1e} {ratio:>4.0f} dB"
            for error, ratio in zip(each.errors, each.signal_to_noise, strict=True)
        ]
        lines.append(
            f"{size:>15}  {maps[0]:>15}  {maps[1]:>15}  {each.keypoints:>9}  {each.matched:>6}"
        )
    return lines


def _stack(maps: Sequence[Maps], kind: Literal["heatmaps", "pafs"]) -> NDArray[np.float32]:
    return np.stack([getattr(each, kind) for each in maps])


def _error(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The largest difference as a share of the largest value; NaN where a value is none."""
    size = float(np.abs(expected).max())
    return float(np.abs(expected - found).max()) / (size or 1.0)


def _signal_to_noise(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """In decibels: 10 log10 of the sums of squares, of the maps and of their differences."""
    noise = float(np.square(found - expected, dtype=np.float64).sum())
    signal = float(np.square(expected, dtype=np.float64).sum())
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _count(
    expected: NDArray[np.float32], found: NDArray[np.float32], pixels: float
) -> tuple[int, int]:
    """Keypoints (N, K, 2) and (M, K, 2) of one image: how many there are, and how many match."""
    gaps = np.linalg.norm(expected[:, None] - found[None], axis=3)
    near = gaps <= pixels  # never true of NaN, a missing joint
    here, there = np.isfinite(expected[..., 0]), np.isfinite(found[..., 0])
    matched = int(near.any(axis=1).sum())
    added = int((there & ~near.any(axis=0)).sum())
    return int(here.sum()) + added, matched
