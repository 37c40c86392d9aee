"""Time of decoding the maps of a 320 x 448 input: both decoders, and TAO's method.

python -m benchmarks.decode [--maps DIR] [--quick] [--json FILE]

The maps are the targets of 1 to 50 people in everyday poses, with some noise. `original` is TAO's
method (`benchmarks.original`): it upsamples every map with OpenCV and compares whole arrays. All
decoders use one thread. The keypoints in which `tao` differs from `original` are also counted on
maps of other sizes, with more noise and all usual upsampling factors; a person that only one of
them detects counts with all joints.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import torch

from bodyposenet import Maps, Poses, Skeleton, decode
from bodyposenet.decoding import DecodingOptions
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton

from . import harness
from .original.decoder import decode_like_original
from .synthetic_maps import make_synthetic_maps

_PEOPLE = (1, 5, 20, 50)
_CELLS = (40, 56)
_NOISE = 0.02

_MAPS = 5
"""Images per number of people; the time is their mean."""

_COMPARED_CELLS = ((23, 31), (28, 40), (36, 48), (46, 46))
_COMPARED_NOISE = (0.0, 0.02, 0.05, 0.1)
_COMPARED_FACTORS = ((8, 8), (4, 4), (2, 2), (1, 1), (8, 4))


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Time the decoders alternately, then compare `tao` with TAO's method."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    skeleton = load_skeleton(DEFAULT_POSE_CONFIGURATION)
    rng = np.random.default_rng(0)
    cases: dict[str, Callable[[], object]] = {}
    for people in _PEOPLE:
        images = [make_synthetic_maps(rng, skeleton, people, _CELLS, _NOISE) for _ in range(_MAPS)]
        cases[f"accurate_ms_{people}"] = _decoder("accurate", images, skeleton)
        cases[f"tao_ms_{people}"] = _decoder("tao", images, skeleton)
        cases[f"original_ms_{people}"] = _original(images, skeleton)
    seconds = harness.time_alternately(cases, 5 if arguments.quick else 31)
    figures = {name: 1000 * taken / _MAPS for name, taken in seconds.items()}
    for people in _PEOPLE:
        for mode in ("accurate", "tao"):
            milliseconds = figures[f"{mode}_ms_{people}"]
            figures[f"original_over_{mode}_{people}"] = (
                figures[f"original_ms_{people}"] / milliseconds
            )
    random_maps = _random_maps(rng, skeleton)
    compared = list(islice(random_maps, 20 if arguments.quick else 200))
    if arguments.maps is not None:
        compared += list(zip(_read_maps(arguments.maps), cycle(_COMPARED_FACTORS)))
    return {**figures, **_compare(compared, skeleton)}


def _decoder(mode: str, images: Sequence[Maps], skeleton: Skeleton) -> Callable[[], object]:
    options = DecodingOptions("tao" if mode == "tao" else "accurate")
    return lambda: [decode(maps, skeleton, options) for maps in images]


def _original(images: Sequence[Maps], skeleton: Skeleton) -> Callable[[], object]:
    return lambda: [decode_like_original(maps, skeleton) for maps in images]


def _random_maps(
    rng: np.random.Generator, skeleton: Skeleton
) -> Iterator[tuple[Maps, tuple[int, int]]]:
    """Yield maps of 0 to 50 people in all sizes and noise levels, with their upsampling factors."""
    factors = cycle(_COMPARED_FACTORS)
    while True:
        for cells in _COMPARED_CELLS:
            for noise in _COMPARED_NOISE:
                maps = make_synthetic_maps(rng, skeleton, int(rng.integers(51)), cells, noise)
                yield maps, next(factors)


def _read_maps(folder: Path) -> Iterator[Maps]:
    """Yield the maps in a folder's .npz files, each with the arrays `heatmaps` and `pafs`."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            yield Maps(arrays["heatmaps"], arrays["pafs"])


def _compare(
    compared: Sequence[tuple[Maps, tuple[int, int]]], skeleton: Skeleton
) -> dict[str, float]:
    """Count the maps and keypoints compared, and the keypoints that differ."""
    keypoints, differing = 0, 0
    for maps, factors in compared:
        expected = decode_like_original(maps, skeleton, upsampling=factors)
        poses = decode(maps, skeleton, DecodingOptions("tao", upsampling=factors))
        keypoints += int((expected.keypoint_scores > 0).sum())
        differing += count_differing_keypoints(poses, expected)
    return {
        "maps_compared": len(compared),
        "keypoints_compared": keypoints,
        "tao_keypoints_that_differ": differing,
    }


def count_differing_keypoints(poses: Poses, expected: Poses) -> int:
    """Count keypoints at another position or in one of them only, comparing people in order."""
    people = min(len(poses), len(expected))
    both = np.stack([poses.keypoints[:people], expected.keypoints[:people]])
    differ = (both[0] != both[1]) & ~np.isnan(both).all(axis=0)
    unmatched = abs(len(poses) - len(expected)) * len(expected.skeleton.joints)
    return int(differ.any(axis=-1).sum()) + unmatched


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("decode", __doc__)
    flags.add_argument(
        "--maps", type=Path, metavar="DIR",
        help="also compare on these maps: .npz files with heatmaps (19, h, w) and pafs (38, h, w)",
    )  # fmt: skip
    return flags


if __name__ == "__main__":
    harness.run("decode", _flags(), measure)
