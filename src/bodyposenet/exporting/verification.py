"""Comparison of an exported model with its network, on drawn people or on photos."""

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
from bodyposenet.exporting.fitted_photos import fit_photos
from bodyposenet.media.source import list_images, read_image
from bodyposenet.runtime.engines.protocol import Engine
from bodyposenet.types import Maps

_BATCH = 3
PHOTOS = 12
"""So many are enough."""


@dataclass(frozen=True)
class Tolerance:
    """How far an export may be from its network.

    Args:
        pixels: Keypoints nearer than this are the same.
        remedy: What to do where it is further away.
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
    "fp16": Tolerance(
        pixels=0.5,
        remedy="Export with --data_type fp32, or compare on photos from where the model will be "
        "used (--verify_images).",
        signal_to_noise=20.0,
        matched=0.9,
    ),
    "int8": Tolerance(
        pixels=2.0,
        remedy="Calibrate (without the old cache) and compare (--verify_images) on more photos "
        "from where the model will be used, try another --cal_method, or keep the most sensitive "
        "layers in float (--float_layers).",
        signal_to_noise=8.0,
        matched=0.5,
    ),
}
"""By `--data_type`. fp16 and INT8 have limits for the noise of all cells together, as the largest
difference of a single cell says little about poses. Those of INT8 only refuse unusable files: its
loss of accuracy is to be measured on real data (`bpnet evaluate`)."""


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


def read_photos(folder: str | Path) -> list[NDArray[np.uint8]]:
    """Read the first photos of a folder; its subfolders are not searched.

    Raises:
        BodyPoseNetError: The folder holds no images, or one of them cannot be read.
    """
    return [read_image(entry.path) for entry in list_images("dir", folder).entries[:PHOTOS]]


def photo_batches(
    network: Engine, photos: Sequence[NDArray[np.uint8]], shapes: Sequence[tuple[int, int]]
) -> Iterator[NDArray[np.uint8]]:
    """Fit photos into each shape as inference does.

    Args:
        network: What they are for.
        photos: (H, W, 3) uint8 RGB each, of any size.
        shapes: Heights and widths in pixels.

    Returns:
        (N, height, width, 3) uint8 RGB each: one photo, then several at once.
    """
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


def find_problem(comparisons: Sequence[Comparison], tolerance: Tolerance) -> str | None:
    """Describe in what an exported model is further from its network than is allowed.

    Args:
        comparisons: From `compare`.
        tolerance: For this type of data.

    Returns:
        None: it is near enough.
    """
    error = float(np.max([each.errors for each in comparisons]))  # NaN where one of them is
    ratio = float(np.min([each.signal_to_noise for each in comparisons]))
    matched = share_matched(comparisons)
    if not error <= tolerance.error:
        found, limit = _apart(error, tolerance.error)
        return f"maps differ by {found} of the largest value, at most {limit} is allowed"
    if not ratio >= tolerance.signal_to_noise:
        found, limit = _apart(ratio, tolerance.signal_to_noise)
        return f"maps are {found} dB above their differences, at least {limit} dB are required"
    if matched is not None and matched < tolerance.matched:
        found, limit = _apart(100 * matched, 100 * tolerance.matched)
        return (
            f"{found} % of the keypoints are within {tolerance.pixels} pixels, "
            f"at least {limit} % are required"
        )
    return None


def _apart(value: float, limit: float) -> tuple[str, str]:
    """Both with as many digits as tell them apart."""
    digits = 2
    while f"{value:.{digits}g}" == f"{limit:.{digits}g}" and digits < 17:
        digits += 1
    return f"{value:.{digits}g}", f"{limit:.{digits}g}"


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
            f"{error:.1e} {ratio:>4.1f} dB"
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
