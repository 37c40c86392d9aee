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


_WIDTHS = 15, 15, 15, 9, 6, 6
"""Widths of the columns of the table of comparisons."""

MAX_AP_LOSS = 0.05
"""Share of the network's keypoint AP that an exported model may lose."""


@dataclass(frozen=True)
class Tolerance:
    """Limits within which an exported model counts as equal to its network.

    A keypoint of the network is found if the exported model detects the same joint, of any person,
    within a distance of `pixels`, or within `person_share` of the size of the person if that is
    more. The size of a person is the longer side of the box around the keypoints that the network
    detects.

    Args:
        pixels: Minimum of the distance in pixels of the network input.
        remedy: Remedy if the model exceeds a limit.
        person_share: Distance as a share of the person's size.
        error: Maximum difference of the maps, as a share of the network's largest value.
        signal_to_noise: Minimum ratio of the maps of all images to their differences, in decibels.
        matched: Minimum share of the network's keypoints that are found.
        added: Maximum number of keypoints that only the exported model detects, relative to the
            network's. A displaced keypoint is one that is missed and one that is added.
        min_keypoints: Minimum number of keypoints that the network must detect, so that the share
            is meaningful.
    """

    pixels: float
    remedy: str
    person_share: float = 0.0
    error: float = math.inf
    signal_to_noise: float = -math.inf
    matched: float = 0.0
    added: float = math.inf
    min_keypoints: int = 0


TOLERANCES = {
    "fp32": Tolerance(
        pixels=0.1,
        remedy="Update torch and onnxscript (pip install -U 'bodyposenet[export]').",
        error=1e-4,
        matched=0.98,
        added=0.02,
    ),
    "fp16": Tolerance(
        pixels=0.5,
        remedy="Export with --data_type fp32, or compare on photos that are representative of the "
        "model's use (--verify_images).",
        signal_to_noise=20.0,
        matched=0.9,
        added=0.1,
    ),
    "int8": Tolerance(
        pixels=1.0,
        person_share=0.02,
        remedy="Calibrate (without the old cache) and compare (--verify_images) on more photos "
        "that are representative of the model's use, try another --cal_method, or exclude the most "
        "sensitive layers (--nodes_to_exclude).",
        signal_to_noise=8.0,
        matched=0.85,
        added=0.3,
        min_keypoints=30,
    ),
}
"""Limits by `--data_type`.

Those of fp16 and INT8 limit the noise over all cells, because the largest difference of a single
cell has little effect on poses. For INT8, 2 % of a person's size is close to the strictest
threshold of COCO's AP: at an OKS of .95, an eye is displaced by 1.6 % of the square root of the
person's area. Below 50 pixels the distance stays at 1 pixel, an eighth of a cell of the maps, as
the position of a peak between cells is not more precise than that.
"""


@dataclass(frozen=True)
class Comparison:
    """Results of the network and of the exported model for one batch.

    Args:
        images: Number of images.
        shape: Height and width of the images in pixels.
        errors: Maximum difference of the heatmaps and of the PAFs, as a share of the network's
            largest value in either: PAFs are almost 0 in images without people.
        signal: Sum of squares of the heatmaps and of the PAFs.
        noise: Sum of squares of their differences.
        keypoints: Number of keypoints that the network detects.
        matched: Number of those that the exported model finds.
        added: Number of keypoints that only the exported model detects.
    """

    images: int
    shape: tuple[int, int]
    errors: tuple[float, float]
    signal: tuple[float, float]
    noise: tuple[float, float]
    keypoints: int
    matched: int
    added: int

    @property
    def signal_to_noise(self) -> tuple[float, float]:
        """Ratio of the heatmaps and of the PAFs to their differences, in decibels."""
        heatmaps, pafs = zip(self.signal, self.noise, strict=True)
        return _decibels(*heatmaps), _decibels(*pafs)


@dataclass(frozen=True)
class AccuracyComparison:
    """Keypoint AP of the network and of the exported model on the same images.

    Args:
        dataset: Name of the dataset.
        images: Number of images.
        network: AP of the network, 0 to 1; -1 without annotated people.
        exported: AP of the exported model.
    """

    dataset: str
    images: int
    network: float
    exported: float

    @property
    def loss(self) -> float:
        """Share of the network's AP that is lost; negative for a gain, NaN if the AP is 0."""
        return 1 - self.exported / self.network if self.network > 0 else math.nan

    def __str__(self) -> str:
        return (
            f"AP on {self.images} images of {self.dataset}: {self.exported:.3f}, "
            f"{self.network:.3f} for the network"
        )


@dataclass(frozen=True)
class Verification:
    """All comparisons of an exported model with its network.

    Args:
        comparisons: One per batch.
        tolerance: Limits of the data type.
        accuracy: Comparison of the keypoint AP, if a dataset was given.
    """

    comparisons: tuple[Comparison, ...]
    tolerance: Tolerance
    accuracy: AccuracyComparison | None = None

    @property
    def keypoints(self) -> int:
        """Number of keypoints that the network detects."""
        return sum(each.keypoints for each in self.comparisons)

    @property
    def matched_share(self) -> float | None:
        """Share of the network's keypoints that are found, 0 to 1; None if there are none."""
        return self._share(sum(each.matched for each in self.comparisons))

    @property
    def added_share(self) -> float | None:
        """Number of added keypoints relative to the network's; None if there are none."""
        return self._share(sum(each.added for each in self.comparisons))

    @property
    def signal_to_noise(self) -> tuple[float, float]:
        """Ratio of the heatmaps and of the PAFs of all images to their differences, in decibels.

        It is not that of the worst image, because PAFs are almost 0 in images without people.
        """
        signal = np.sum([each.signal for each in self.comparisons], axis=0).tolist()
        noise = np.sum([each.noise for each in self.comparisons], axis=0).tolist()
        return _decibels(signal[0], noise[0]), _decibels(signal[1], noise[1])

    @property
    def problem(self) -> str | None:
        """Description of the first limit that is exceeded; None if the model is within all."""
        return self._problem_of_maps() or self._problem_of_keypoints() or self._problem_of_ap()

    def kpis(self) -> dict[str, float]:
        """Return the main figures by name, for status.json."""
        figures: dict[str, float] = {"network_keypoints": self.keypoints}
        if (share := self.matched_share) is not None:
            figures["matched_share"] = share
        if self.accuracy is not None:
            figures |= {"network_AP": self.accuracy.network, "AP": self.accuracy.exported}
        return figures

    def check(self, path: Path, *, allow_loss: bool) -> None:
        """Refuse a model that exceeds a limit.

        Args:
            path: The file that is to be written.
            allow_loss: Whether to log a warning instead.

        Raises:
            BodyPoseNetError: The model exceeds a limit.
        """
        problem = self.problem
        if problem is None:
            return
        if not allow_loss:
            raise BodyPoseNetError(
                f"{path}: not written, because it differs too much from the network: {problem}",
                f"{self.tolerance.remedy} With --allow_loss the file is written anyway.",
            )
        logger.warning("%s differs too much from the network: %s", path, problem)

    def _share(self, count: int) -> float | None:
        return count / self.keypoints if self.keypoints else None

    def _problem_of_maps(self) -> str | None:
        tolerance = self.tolerance
        error = float(np.max([each.errors for each in self.comparisons]))  # NaN if one is NaN
        ratio = float(np.min(self.signal_to_noise))
        if not error <= tolerance.error:
            found, limit = _distinguishable(error, tolerance.error)
            return f"maps differ by {found} of the largest value, the limit is {limit}"
        if not ratio >= tolerance.signal_to_noise:
            found, limit = _distinguishable(ratio, tolerance.signal_to_noise)
            return f"maps are {found} dB above their differences, the minimum is {limit} dB"
        return None

    def _problem_of_keypoints(self) -> str | None:
        tolerance, matched, added = self.tolerance, self.matched_share, self.added_share
        if self.keypoints < tolerance.min_keypoints:
            return (
                f"the network detects only {self.keypoints} keypoints in the images of the "
                f"comparison, at least {tolerance.min_keypoints} are needed to compare them"
            )
        if matched is not None and matched < tolerance.matched:
            found, limit = _distinguishable(100 * matched, 100 * tolerance.matched)
            return (
                f"{found} % of the network's keypoints are found within "
                f"{_distance(tolerance)}, the minimum is {limit} %"
            )
        if added is not None and added > tolerance.added:
            found, limit = _distinguishable(100 * added, 100 * tolerance.added)
            return f"it adds {found} % to the network's keypoints, the limit is {limit} %"
        return None

    def _problem_of_ap(self) -> str | None:
        if self.accuracy is None or self.accuracy.loss <= MAX_AP_LOSS:
            return None
        if math.isnan(self.accuracy.loss):
            return f"{self.accuracy}; without an AP of the network the loss is unknown"
        return f"{self.accuracy}; at most {MAX_AP_LOSS:.0%} of it may be lost"

    def table(self) -> str:
        """Format the comparisons as a table: one line per batch, below a header."""
        rows = [["images", "heatmaps", "PAFs", "keypoints", "found", "added"]]
        for each in self.comparisons:
            maps = [
                f"{error:.1e} {ratio:>4.1f} dB"
                for error, ratio in zip(each.errors, each.signal_to_noise, strict=True)
            ]
            counts = [str(count) for count in (each.keypoints, each.matched, each.added)]
            rows.append([f"{each.images} x {each.shape[0]} x {each.shape[1]}", *maps, *counts])
        return "\n".join(
            "  ".join(text.rjust(width) for text, width in zip(row, _WIDTHS, strict=True))
            for row in rows
        )


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
    comparisons = tuple(compare(network, exported, images, tolerance) for images in batches)
    verification = Verification(comparisons, tolerance)
    logger.info(
        "Comparison with the network (maximum difference of the maps as a share of the largest "
        "value, signal-to-noise ratio, the network's keypoints, those found within %s, and those "
        "added):\n%s",
        _distance(tolerance), verification.table(),
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
    drawn: int,
) -> Iterator[NDArray[np.uint8]]:
    """Return batches to compare on.

    Args:
        network: Engine that photos are prepared for.
        shape: Height and width in pixels.
        photos: (H, W, 3) uint8 RGB each, of any size, or None for drawn people.
        more_shapes: Whether to compare on other heights and widths as well.
        drawn: Number of drawn images of each shape.

    Returns:
        (N, height, width, 3) uint8 RGB each.
    """
    others = [other for other in _OTHER_SHAPES if other != shape] if more_shapes else []
    shapes = [shape, *others]
    if photos is None:
        return drawn_batches(shapes, drawn)
    return photo_batches(network, photos, shapes)


def drawn_batches(shapes: Sequence[tuple[int, int]], count: int) -> Iterator[NDArray[np.uint8]]:
    """Draw people: for each shape one image, then batches of three.

    Args:
        shapes: Heights and widths in pixels.
        count: Number of images of each shape.

    Returns:
        (N, height, width, 3) uint8 RGB each.
    """
    for seed, shape in enumerate(shapes):
        random = np.random.default_rng(seed)
        for size in (1, *[_BATCH_SIZE] * ((count - 1) // _BATCH_SIZE)):
            yield np.stack([draw_scene(random, *shape)[0] for _ in range(size)])


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
    network: Engine, exported: Engine, images: NDArray[np.uint8], tolerance: Tolerance
) -> Comparison:
    """Run both models on a batch and compare their maps and keypoints.

    Args:
        network: The network.
        exported: The exported model.
        images: (N, H, W, 3) uint8 RGB.
        tolerance: Distance within which keypoints are found.
    """
    expected, found = network.infer(images), exported.infer(images)
    expected_keypoints, found_keypoints = (
        [decode(maps, network.skeleton).keypoints for maps in batch] for batch in (expected, found)
    )
    counts = np.array(
        [
            _count(*keypoints, tolerance)
            for keypoints in zip(expected_keypoints, found_keypoints, strict=True)
        ]
    )
    keypoints, matched, added = counts.sum(axis=0).tolist()
    heatmaps = _stack(expected, "heatmaps"), _stack(found, "heatmaps")
    pafs = _stack(expected, "pafs"), _stack(found, "pafs")
    largest = max(float(np.abs(heatmaps[0]).max()), float(np.abs(pafs[0]).max()))
    return Comparison(
        images=len(images),
        shape=images.shape[1:3],
        errors=(_error(*heatmaps, largest), _error(*pafs, largest)),
        signal=(_energy(heatmaps[0]), _energy(pafs[0])),
        noise=(_energy(heatmaps[1] - heatmaps[0]), _energy(pafs[1] - pafs[0])),
        keypoints=keypoints,
        matched=matched,
        added=added,
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


def _error(expected: NDArray[np.float32], found: NDArray[np.float32], largest: float) -> float:
    """Return the largest difference as a share of the largest value; NaN if a value is NaN."""
    return float(np.abs(expected - found).max()) / (largest or 1.0)


def _energy(values: NDArray[np.float32]) -> float:
    """Return the sum of squares."""
    return float(np.square(values, dtype=np.float64).sum())


def _decibels(signal: float, noise: float) -> float:
    """Return the signal-to-noise ratio of two sums of squares in decibels."""
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _count(
    expected: NDArray[np.float32], found: NDArray[np.float32], tolerance: Tolerance
) -> tuple[int, int, int]:
    """Count the keypoints of one image in (N, K, 2) or (M, K, 2) poses, see `Comparison`."""
    distances = np.linalg.norm(expected[:, None] - found[None], axis=3)
    near = distances <= _distances(expected, tolerance)[:, None, None]  # not for NaN, a missing one
    is_expected, is_found = np.isfinite(expected[..., 0]), np.isfinite(found[..., 0])
    matched = near.any(axis=1).sum()
    added = (is_found & ~near.any(axis=0)).sum()
    return int(is_expected.sum()), int(matched), int(added)


def _distances(poses: NDArray[np.float32], tolerance: Tolerance) -> NDArray[np.float32]:
    """Return the distance for each of (N, K, 2) poses within which their keypoints are found."""
    if not len(poses):
        return np.zeros(0, np.float32)
    sizes = (np.nanmax(poses, axis=1) - np.nanmin(poses, axis=1)).max(axis=1)
    return np.maximum(tolerance.person_share * sizes, tolerance.pixels)


def _distance(tolerance: Tolerance) -> str:
    """Describe the distance within which keypoints are found."""
    share = f"{100 * tolerance.person_share:g} % of the person's size, at least "
    return f"{share if tolerance.person_share else ''}{tolerance.pixels:g} px"
