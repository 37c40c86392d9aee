r"""Detect the people in a folder of photos, for `bpnet dataset_convert --pseudo_labels`.

python -m examples.default_model.detect_people --images data/coco-train-more/images \
    --refine movenet_thunder.onnx -o data/more_people.json

A network detects the people in the whole photo, at two scales with the flip test. With --refine,
MoveNet Thunder estimates the pose of each person again, on a crop. If both estimates are similar,
the person keeps a high score, with Thunder's confident keypoints. People with different estimates
and people in crowds get a low score, so that they become masked regions instead of labels.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bodyposenet import Affine, BodyPoseNetError, Poses
from bodyposenet.console import print_result, progress
from bodyposenet.exit_codes import exit_code_of
from bodyposenet.inference.detections import describe_image, write_detections
from bodyposenet.inference.engines.base import ENGINES
from bodyposenet.inference.models import open_engine
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import read_image
from bodyposenet.media.inputs import list_images
from bodyposenet.skeleton import COCO_JOINTS, oks_sigmas
from bodyposenet.specs.inference import InferenceSpec

SCALES = (0.6, 1.5)
"""Factors of the input size; the maps are averaged."""

_CROP_SIZE = 256
"""Side of Thunder's input crop in pixels."""

_CROP_MARGIN = 1.4
"""Side of the crop, as a multiple of the longer side of the keypoints' box."""

_MIN_BOX_SIDE = 8.0
"""Minimum side of that box in image pixels."""

_CONFIDENT = 0.5
"""Minimum score of a confident keypoint of Thunder: .84 to .92 of these are correct."""

_CLOSE = 0.5
"""Minimum similarity (the exponential in OKS) of two keypoints that confirm each other."""

_MIN_OKS = 0.5
"""Minimum OKS between both estimates of a person for merging their keypoints."""

_AREA = 0.3
"""Area of a person for OKS, as a share of the squared long side of the keypoints' box."""

_MIN_KEYPOINTS = 3
"""People with fewer keypoints are not compared."""

_BOX_MARGIN = 0.1
"""Margin of boxes around keypoints, as a share of their long side."""

_CROWD_OVERLAP, _CROWD_PEOPLE = 0.3, 2
"""A person is in a crowd if this many others each cover this share of the person's box."""


class PersonEstimator(Protocol):
    """A network that estimates the pose of one person in a square crop."""

    def __call__(self, crop: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Estimate COCO's 17 joints.

        Args:
            crop: (256, 256, 3) uint8, RGB.

        Returns:
            (17, 3): x and y in pixels of the crop, and the score.
        """
        ...


class Thunder:
    """MoveNet Thunder on ONNX Runtime.

    Args:
        path: The ONNX file.
        threads: Number of threads; 0 lets the runtime choose.

    Raises:
        BodyPoseNetError: The file is missing, or ONNX Runtime cannot run it.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        import onnxruntime  # slow to import, and optional

        if not path.is_file():
            raise BodyPoseNetError(
                f"File not found: {path}",
                "Get it as described in examples/default_model/README.md.",
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises many types
            raise BodyPoseNetError(
                f"{path}: ONNX Runtime cannot load this file: {error}",
                "Set --refine to the ONNX file of MoveNet Thunder.",
            ) from error
        images, *more = self._session.get_inputs()
        if more or images.shape[1:] != [_CROP_SIZE, _CROP_SIZE, 3] or "uint8" not in images.type:
            raise BodyPoseNetError(
                f"{path}: expected an input of {_CROP_SIZE} x {_CROP_SIZE} x 3 uint8, got "
                f"{images.shape} {images.type}",
                "Set --refine to the ONNX file of MoveNet Thunder.",
            )
        self._input = images.name

    def __call__(self, crop: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Estimate the person in a crop; see `PersonEstimator`."""
        (poses,) = self._session.run(None, {self._input: crop[None]})
        y, x, scores = np.asarray(poses).reshape(-1, 3).T
        return np.stack([x * _CROP_SIZE - 0.5, y * _CROP_SIZE - 0.5, scores], axis=1)


def lower_crowds(poses: Poses) -> Poses:
    """Halve the scores of people in crowds, which turns them into masked regions."""
    return replace(poses, scores=np.where(_in_crowd(poses), poses.scores / 2, poses.scores))


def refine(poses: Poses, image: NDArray[np.uint8], estimate: PersonEstimator) -> Poses:
    """Compare each person with a second estimate of its pose, and merge both.

    A person's score is multiplied by (1 + OKS) / 2, where OKS is that of the second estimate and
    the network's keypoints. In a crowd, where the second network may estimate a neighbor, there is
    no second estimate, and the score is halved.

    If OKS is .5 or more, the keypoints are merged: confident keypoints of the second estimate
    replace those of the network, or are averaged with them if they are close. All other keypoints
    are unchanged; those of people with low scores bound the masked region.

    Args:
        poses: The poses that the network detected.
        image: (H, W, 3) uint8, RGB.
        estimate: The second network.
    """
    points, scores = poses.keypoints.copy(), poses.keypoint_scores.copy()
    similarities = np.zeros(len(poses), np.float32)
    shared = [joint for joint in COCO_JOINTS if joint in poses.skeleton.joints]
    indices = np.array([poses.skeleton.joints.index(joint) for joint in shared], np.intp)
    coco_indices = np.array([COCO_JOINTS.index(joint) for joint in shared], np.intp)
    variances = (2 * np.array(oks_sigmas(shared))) ** 2
    is_alone = ~_in_crowd(poses) & (poses.visible[:, indices].sum(axis=1) >= _MIN_KEYPOINTS)
    for person in np.flatnonzero(is_alone):
        to_crop = crop_affine(points[person])
        crop = to_crop.warp(image, _CROP_SIZE, _CROP_SIZE, outside=0)
        second = estimate(crop)[coco_indices]
        second[:, :2] = to_crop.inverse().apply(second[:, :2])
        first = points[person, indices]
        area = _AREA * np.ptp(first[~np.isnan(first[:, 0])], axis=0).max() ** 2
        distances = ((first - second[:, :2]) ** 2).sum(axis=1)
        similarity = np.exp(-distances / (2 * variances * max(area, 1.0)))  # NaN: not detected
        similarities[person] = np.nanmean(similarity)
        if similarities[person] >= _MIN_OKS:
            merged, merged_scores = _merge(first, scores[person, indices], second, similarity)
            points[person, indices], scores[person, indices] = merged, merged_scores
    factors = (1 + similarities) / 2
    return replace(poses, keypoints=points, keypoint_scores=scores, scores=poses.scores * factors)


def crop_affine(points: NDArray[np.floating]) -> Affine:
    """Return the map from the image to the square crop around a person's keypoints."""
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    side = _CROP_MARGIN * max(float((high - low).max()), _MIN_BOX_SIDE)
    x, y = (low + high) / 2 - (side - 1) / 2
    return Affine.translation(-x, -y).then(Affine.resize(_CROP_SIZE / side))


def _merge(
    first: NDArray[np.floating],
    first_scores: NDArray[np.floating],
    second: NDArray[np.floating],
    similarity: NDArray[np.floating],
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Merge the network's keypoints of a person with the second estimate; see `refine`."""
    is_confident, is_close = second[:, 2] >= _CONFIDENT, similarity >= _CLOSE
    points = np.where(is_confident[:, None], second[:, :2], first)
    points = np.where((is_confident & is_close)[:, None], (first + second[:, :2]) / 2, points)
    return points, np.where(is_confident, np.fmax(first_scores, second[:, 2]), first_scores)


def _in_crowd(poses: Poses) -> NDArray[np.bool_]:
    """Return (N,) bool, whether several other people overlap a person."""
    if not len(poses):
        return np.zeros(0, bool)
    low, high = np.nanmin(poses.keypoints, axis=1), np.nanmax(poses.keypoints, axis=1)
    margin = _BOX_MARGIN * (high - low).max(axis=1, keepdims=True)
    low, high = low - margin, high + margin
    shared = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    covered = shared.clip(0).prod(axis=2) / np.maximum((high - low).prod(axis=1), 1e-6)[:, None]
    np.fill_diagonal(covered, 0)
    return (covered >= _CROWD_OVERLAP).sum(axis=1) >= _CROWD_PEOPLE


def _flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--images", required=True, metavar="DIR", help="folder of the photos")
    flags.add_argument(
        "-m", "--model", metavar="FILE", help="model file; default: the default model"
    )  # fmt: skip
    flags.add_argument("-k", "--key", default="", help="key of an encrypted model")
    flags.add_argument(
        "--engine", choices=ENGINES, default="auto", help="runtime of the network; default: auto"
    )
    flags.add_argument(
        "--refine", type=Path, metavar="FILE", help="ONNX file of MoveNet Thunder; optional"
    )
    flags.add_argument(
        "--scales", type=float, nargs="+", default=SCALES, metavar="S",
        help="factors of the input size (368); maps are averaged; default: .6 and 1.5",
    )  # fmt: skip
    flags.add_argument("--threads", type=int, metavar="N", help="threads of each network")
    flags.add_argument("-o", "--output_file", type=Path, required=True, metavar="FILE")
    return flags


def main() -> None:
    """Detect the people in a folder of photos."""
    arguments = _flags().parse_args()
    spec = InferenceSpec(flip_test=True, multi_scale_inference=True, scales=tuple(arguments.scales))
    estimate = Thunder(arguments.refine, arguments.threads or 0) if arguments.refine else None
    engine = open_engine(spec, arguments.model, arguments.key, arguments.engine, arguments.threads)
    predictor = Predictor(engine, spec)
    entries = list_images("dir", arguments.images).entries
    described = []
    for entry in progress(entries, "detecting people"):
        try:
            image = read_image(entry.path)
        except BodyPoseNetError as error:
            described.append(describe_image(entry.path, str(error), entry.fields))
            continue
        poses = predictor(image)
        poses = refine(poses, image, estimate) if estimate else lower_crowds(poses)
        described.append(describe_image(entry.path, poses, entry.fields))
    write_detections(arguments.output_file, engine.skeleton, predictor.spec, described)
    people = sum(len(entry.get("scores", [])) for entry in described)
    print_result(f"{people} people in {len(described)} photos: {arguments.output_file}")


if __name__ == "__main__":
    sys.exit(exit_code_of("detect_people.py", main))
