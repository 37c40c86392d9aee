"""Verification of an exported model: comparison with its network on drawn people or photos."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.decoding import decode
from bodyposenet.demo import draw_scene
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.photos import fit_photos
from bodyposenet.inference.engines.base import Engine
from bodyposenet.types import Maps

_BATCH_SIZE = 3

_OTHER_SHAPES = (136, 200), (96, 64)
"""Further heights and widths to compare on, to verify that dynamic sizes are dynamic."""


@dataclass(frozen=True)
class Tolerance:
    """Limits within which an exported model counts as equal to its network.

    Args:
        pixels: Maximum distance of keypoints that count as equal, in pixels.
        remedy: Remedy if the model exceeds a limit.
        error: Maximum difference of the maps, as a share of the network's largest value.
        signal_to_noise: Minimum ratio of the maps to their differences, in decibels.
        matched: Minimum share of equal keypoints.
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
        remedy="Export with --data_type fp32, or compare on photos that are representative of the "
        "model's use (--verify_images).",
        signal_to_noise=20.0,
        matched=0.9,
    ),
    "int8": Tolerance(
        pixels=2.0,
        remedy="Calibrate (without the old cache) and compare (--verify_images) on more photos "
        "that are representative of the model's use, try another --cal_method, or exclude the most "
        "sensitive layers (--nodes_to_exclude).",
        signal_to_noise=8.0,
        matched=0.5,
    ),
}
"""Limits by `--data_type`.

Those of fp16 and INT8 limit the noise over all cells, because the largest difference of a single
cell has little effect on poses. The limits of INT8 only detect unusable files; its loss of accuracy
must be measured on real data (`bpnet evaluate`).
"""


@dataclass(frozen=True)
class Comparison:
    """Results of the network and of the exported model for one batch.

    Args:
        images: Number of images.
        shape: Height and width of the images in pixels.
        errors: Maximum difference of the heatmaps and of the PAFs, as a share of the network's
            largest value.
        signal_to_noise: Ratio of the heatmaps and of the PAFs to their differences, in decibels.
        keypoints: Number of keypoints that either model detects; equal ones count once.
        matched: Number of equal keypoints.
    """

    images: int
    shape: tuple[int, int]
    errors: tuple[float, float]
    signal_to_noise: tuple[float, float]
    keypoints: int
    matched: int


@dataclass(frozen=True)
class Verification:
    """All comparisons of an exported model with its network.

    Args:
        comparisons: One per batch.
        tolerance: Limits of the data type.
    """

    comparisons: tuple[Comparison, ...]
    tolerance: Tolerance

    @property
    def matched_share(self) -> float | None:
        """Share of equal keypoints, 0 to 1; None if neither model detects any."""
        keypoints = sum(each.keypoints for each in self.comparisons)
        return sum(each.matched for each in self.comparisons) / keypoints if keypoints else None

    @property
    def problem(self) -> str | None:
        """Description of the first limit that is exceeded; None if the model is within all."""
        tolerance, matched = self.tolerance, self.matched_share
        error = float(np.max([each.errors for each in self.comparisons]))  # NaN if one is NaN
        ratio = float(np.min([each.signal_to_noise for each in self.comparisons]))
        if not error <= tolerance.error:
            found, limit = _distinguishable(error, tolerance.error)
            return f"maps differ by {found} of the largest value, the limit is {limit}"
        if not ratio >= tolerance.signal_to_noise:
            found, limit = _distinguishable(ratio, tolerance.signal_to_noise)
            return f"maps are {found} dB above their differences, the minimum is {limit} dB"
        if matched is not None and matched < tolerance.matched:
            found, limit = _distinguishable(100 * matched, 100 * tolerance.matched)
            return (
                f"{found} % of the keypoints are within {tolerance.pixels} pixels, "
                f"the minimum is {limit} %"
            )
        return None

    def check(self, path: Path, *, allow_inaccurate: bool) -> None:
        """Refuse a model that exceeds a limit.

        Args:
            path: The file that is to be written.
            allow_inaccurate: Whether to log a warning instead.

        Raises:
            BodyPoseNetError: The model exceeds a limit.
        """
        problem = self.problem
        if problem is None:
            return
        if not allow_inaccurate:
            raise BodyPoseNetError(
                f"{path}: not written, because it differs too much from the network: {problem}",
                f"{self.tolerance.remedy} With --allow_inaccurate the file is written anyway.",
            )
        logger.warning("%s differs too much from the network: %s", path, problem)

    def table(self) -> str:
        """Format the comparisons as a table: one line per batch, below a header."""
        lines = [f"{'images':>15}  {'heatmaps':>15}  {'PAFs':>15}  {'keypoints':>9}  {'same':>6}"]
        for each in self.comparisons:
            size = f"{each.images} x {each.shape[0]} x {each.shape[1]}"
            maps = [
                f"{error:.1e} {ratio:>4.1f} dB"
                for error, ratio in zip(each.errors, each.signal_to_noise, strict=True)
            ]
            lines.append(
                f"{size:>15}  {maps[0]:>15}  {maps[1]:>15}  {each.keypoints:>9}  {each.matched:>6}"
            )
        return "\n".join(lines)


def verify(
    network: Engine,
    exported: Engine,
    batches: Iterable[NDArray[np.uint8]],
    tolerance: Tolerance,
) -> Verification:
    """Compare an exported model with its network; the table of comparisons is logged.

    Args:
        network: The network.
        exported: The exported model.
        batches: (N, H, W, 3) uint8 RGB each.
        tolerance: Limits of the data type.
    """
    comparisons = tuple(compare(network, exported, images, tolerance.pixels) for images in batches)
    verification = Verification(comparisons, tolerance)
    logger.info(
        "Comparison with the network (maximum difference of the maps as a share of the largest "
        "value, signal-to-noise ratio, keypoints, and those within %s pixels):\n%s",
        tolerance.pixels, verification.table(),
    )  # fmt: skip
    if verification.matched_share is None:
        logger.warning("No keypoints were detected on these images: only the maps were compared")
    return verification


def comparison_batches(
    network: Engine,
    shape: tuple[int, int],
    photos: Sequence[NDArray[np.uint8]] | None,
    *,
    more_shapes: bool,
) -> Iterator[NDArray[np.uint8]]:
    """Return batches to compare on.

    Args:
        network: Engine that photos are prepared for.
        shape: Height and width in pixels.
        photos: (H, W, 3) uint8 RGB each, of any size, or None for drawn people.
        more_shapes: Whether to compare on other heights and widths as well.

    Returns:
        (N, height, width, 3) uint8 RGB each.
    """
    others = [other for other in _OTHER_SHAPES if other != shape] if more_shapes else []
    shapes = [shape, *others]
    return drawn_batches(shapes) if photos is None else photo_batches(network, photos, shapes)


def drawn_batches(shapes: Sequence[tuple[int, int]]) -> Iterator[NDArray[np.uint8]]:
    """Draw people: for each shape one image, then a batch of three.

    Args:
        shapes: Heights and widths in pixels.

    Returns:
        (N, height, width, 3) uint8 RGB each.
    """
    for seed, shape in enumerate(shapes):
        random = np.random.default_rng(seed)
        for count in (1, _BATCH_SIZE):
            yield np.stack([draw_scene(random, *shape)[0] for _ in range(count)])


def photo_batches(
    network: Engine, photos: Sequence[NDArray[np.uint8]], shapes: Sequence[tuple[int, int]]
) -> Iterator[NDArray[np.uint8]]:
    """Fit photos to each shape as inference does.

    Args:
        network: Engine that the photos are prepared for.
        photos: (H, W, 3) uint8 RGB each, of any size.
        shapes: Heights and widths in pixels.

    Returns:
        (N, height, width, 3) uint8 RGB each: one photo, then batches of up to three.
    """
    for shape in shapes:
        fitted = list(fit_photos(photos, network, shape))
        yield np.stack(fitted[:1])
        for start in range(1, len(fitted), _BATCH_SIZE):
            yield np.stack(fitted[start : start + _BATCH_SIZE])


def compare(
    network: Engine, exported: Engine, images: NDArray[np.uint8], pixels: float
) -> Comparison:
    """Run both models on a batch and compare their maps and keypoints.

    Args:
        network: The network.
        exported: The exported model.
        images: (N, H, W, 3) uint8 RGB.
        pixels: Maximum distance of keypoints that count as equal, in pixels.
    """
    expected, found = network.infer(images), exported.infer(images)
    expected_keypoints, found_keypoints = (
        [decode(maps, network.skeleton).keypoints for maps in batch] for batch in (expected, found)
    )
    counts = np.array(
        [
            _count(*keypoints, pixels)
            for keypoints in zip(expected_keypoints, found_keypoints, strict=True)
        ]
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


def _distinguishable(value: float, limit: float) -> tuple[str, str]:
    """Format both numbers with as many digits as are needed to distinguish them."""
    digits = 2
    while f"{value:.{digits}g}" == f"{limit:.{digits}g}" and digits < 17:
        digits += 1
    return f"{value:.{digits}g}", f"{limit:.{digits}g}"


def _stack(maps: Sequence[Maps], kind: Literal["heatmaps", "pafs"]) -> NDArray[np.float32]:
    """Stack the heatmaps or the PAFs of a batch."""
    return np.stack([getattr(each, kind) for each in maps])


def _error(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return the largest difference as a share of the largest value; NaN if a value is NaN."""
    size = float(np.abs(expected).max())
    return float(np.abs(expected - found).max()) / (size or 1.0)


def _signal_to_noise(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return 10 log10 of the maps' sum of squares over that of their differences, in decibels."""
    noise = float(np.square(found - expected, dtype=np.float64).sum())
    signal = float(np.square(expected, dtype=np.float64).sum())
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _count(
    expected: NDArray[np.float32], found: NDArray[np.float32], pixels: float
) -> tuple[int, int]:
    """Count the keypoints of one image in (N, K, 2) or (M, K, 2) poses, and the equal ones."""
    distances = np.linalg.norm(expected[:, None] - found[None], axis=3)
    near = distances <= pixels  # False for missing joints, which are NaN
    is_expected, is_found = np.isfinite(expected[..., 0]), np.isfinite(found[..., 0])
    matched = int(near.any(axis=1).sum())
    added = int((is_found & ~near.any(axis=0)).sum())
    return int(is_expected.sum()) + added, matched
