r"""Find the people of a folder of photos, for `bpnet dataset_convert --pseudo_labels`.

python -m examples.default_model.pseudo_labels --images data/coco-train-more/images \
    --refine movenet_thunder.onnx -o data/more_people.json

A network finds the people of the whole photo, at two sizes and mirrored. With --refine, MoveNet
Thunder estimates the pose of each person again, on a crop. Where both agree, the person keeps a
high score and takes over the keypoints that Thunder is sure of. People whom they disagree about
and people in crowds get a low score: they end as masked regions, not as labels.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import print_result, progress
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exit_codes import exit_code_of
from bodyposenet.geometry import Affine
from bodyposenet.inference.detections import describe_image, write_detections
from bodyposenet.inference.engines.base import ENGINES
from bodyposenet.inference.models import open_engine
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import read_image
from bodyposenet.media.inputs import list_images
from bodyposenet.skeleton import COCO_JOINTS, oks_sigmas
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import Poses

SCALES = (0.6, 1.5)
"""Factors of the input size, whose maps are averaged."""

_CROP_SIZE = 256
"""Side of the crop that Thunder takes, in pixels."""

_CROP_MARGIN = 1.4
"""Side of the crop, as a multiple of the longer side of the keypoints' box."""

_SMALLEST_BOX = 8.0
"""Least side of that box, in pixels of the image."""

_SURE = 0.5
"""Least score of a keypoint of Thunder for it to count: .84 to .92 of these are right."""

_CLOSE = 0.5
"""Least similarity (the exponential of OKS) of two keypoints that confirm each other."""

_AGREEMENT = 0.5
"""Least OKS between both estimates of a person for their keypoints to be merged."""

_AREA = 0.3
"""Area of a person for OKS, as a share of the squared longer side of the keypoints' box."""

_LEAST_KEYPOINTS = 3
"""People of fewer keypoints have no pose to compare."""

_BOX_MARGIN = 0.1
"""Boxes reach beyond keypoints by this share of their longer side."""

_CROWD_OVERLAP, _CROWD_PEOPLE = 0.3, 2
"""A person stands in a crowd where so many others cover this share of its box each."""


class PersonEstimator(Protocol):
    """A network that estimates the pose of one person in a square crop."""

    def __call__(self, crop: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Estimate COCO's 17 joints.

        Args:
            crop: (256, 256, 3) uint8, RGB.

        Returns:
            (17, 3): x and y in pixels of the crop, and the score.
        """


class Thunder:
    """MoveNet Thunder on ONNX Runtime.

    Args:
        path: The ONNX file.
        threads: Number of threads; 0 lets the runtime choose.

    Raises:
        BodyPoseNetError: The file is missing, or is no model that ONNX Runtime can run.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        import onnxruntime  # slow to import, and optional

        if not path.is_file():
            raise BodyPoseNetError(
                f"File not found: {path}", "examples/default_model/README.md describes the file."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of many types, of a module of its own
            raise BodyPoseNetError(
                f"{path}: ONNX Runtime cannot load this file: {error}",
                "Give --refine the ONNX file of MoveNet Thunder.",
            ) from error
        images, *more = self._session.get_inputs()
        if more or images.shape[1:] != [_CROP_SIZE, _CROP_SIZE, 3] or "uint8" not in images.type:
            raise BodyPoseNetError(
                f"{path}: takes {images.type} {images.shape}, not a uint8 crop of {_CROP_SIZE} x "
                f"{_CROP_SIZE} x 3",
                "Give --refine the ONNX file of MoveNet Thunder.",
            )
        self._input = images.name

    def __call__(self, crop: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Estimate the person in a crop; see `PersonEstimator`."""
        (poses,) = self._session.run(None, {self._input: crop[None]})
        y, x, scores = np.asarray(poses).reshape(-1, 3).T
        return np.stack([x * _CROP_SIZE - 0.5, y * _CROP_SIZE - 0.5, scores], axis=1)


def lower_crowds(poses: Poses) -> Poses:
    """Halve the scores of people in crowds, so that they become masked regions."""
    return replace(poses, scores=np.where(_in_crowd(poses), poses.scores / 2, poses.scores))


def refine(poses: Poses, image: NDArray[np.uint8], estimate: PersonEstimator) -> Poses:
    """Compare each person with a second estimate of its pose, and merge both.

    The agreement is the OKS of the second estimate with the network's keypoints. A person's score
    is multiplied by (1 + agreement) / 2. In a crowd, where the second network may look at a
    neighbor, there is no second estimate, and the score is halved.

    Where the agreement is .5 or more, the keypoints are merged: those that the second estimate is
    sure of replace the network's, by the mean of the two where they are close. All others stay as
    they are; those of unsure people bound the region to be masked.

    Args:
        poses: The network's people in the image.
        image: (H, W, 3) uint8, RGB.
        estimate: The second network.
    """
    points, scores = poses.keypoints.copy(), poses.keypoint_scores.copy()
    agreements = np.zeros(len(poses), np.float32)
    shared = [joint for joint in COCO_JOINTS if joint in poses.skeleton.joints]
    ours = np.array([poses.skeleton.joints.index(joint) for joint in shared], np.intp)
    theirs = np.array([COCO_JOINTS.index(joint) for joint in shared], np.intp)
    variances = (2 * np.array(oks_sigmas(shared))) ** 2
    is_alone = ~_in_crowd(poses) & (poses.visible[:, ours].sum(axis=1) >= _LEAST_KEYPOINTS)
    for person in np.flatnonzero(is_alone):
        to_crop = crop_affine(points[person])
        crop = to_crop.warp(image, _CROP_SIZE, _CROP_SIZE, outside=0)
        second = estimate(crop)[theirs]
        second[:, :2] = to_crop.inverse().apply(second[:, :2])
        first = points[person, ours]
        area = _AREA * np.ptp(first[~np.isnan(first[:, 0])], axis=0).max() ** 2
        distances = ((first - second[:, :2]) ** 2).sum(axis=1)
        close = np.exp(-distances / (2 * variances * max(area, 1.0)))  # NaN: not found
        agreements[person] = np.nanmean(close)
        if agreements[person] >= _AGREEMENT:
            merged, merged_scores = _merge(first, scores[person, ours], second, close)
            points[person, ours], scores[person, ours] = merged, merged_scores
    factors = (1 + agreements) / 2
    return replace(poses, keypoints=points, keypoint_scores=scores, scores=poses.scores * factors)


def crop_affine(points: NDArray[np.floating]) -> Affine:
    """Return the map from the image to the square crop around a person's keypoints."""
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    side = _CROP_MARGIN * max(float((high - low).max()), _SMALLEST_BOX)
    x, y = (low + high) / 2 - (side - 1) / 2
    return Affine.translation(-x, -y).then(Affine.resize(_CROP_SIZE / side))


def _merge(
    first: NDArray[np.floating],
    first_scores: NDArray[np.floating],
    second: NDArray[np.floating],
    close: NDArray[np.floating],
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Merge the network's keypoints of a person with the second estimate; see `refine`."""
    is_sure, is_close = second[:, 2] >= _SURE, close >= _CLOSE
    points = np.where(is_sure[:, None], second[:, :2], first)
    points = np.where((is_sure & is_close)[:, None], (first + second[:, :2]) / 2, points)
    return points, np.where(is_sure, np.fmax(first_scores, second[:, 2]), first_scores)


def _in_crowd(poses: Poses) -> NDArray[np.bool_]:
    """(N,) whether several other people overlap a person."""
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
        "-m", "--model", metavar="FILE", help="network; the default model by default"
    )  # fmt: skip
    flags.add_argument("-k", "--key", default="", help="key of an encrypted model")
    flags.add_argument(
        "--engine", choices=ENGINES, default="auto", help="runtime of the network; auto by default"
    )
    flags.add_argument(
        "--refine", type=Path, metavar="FILE", help="ONNX file of MoveNet Thunder; optional"
    )
    flags.add_argument(
        "--scales", type=float, nargs="+", default=SCALES, metavar="S",
        help="factors of the input size (368), whose maps are averaged; .6 and 1.5 by default",
    )  # fmt: skip
    flags.add_argument("--threads", type=int, metavar="N", help="threads of each network")
    flags.add_argument("-o", "--output_file", type=Path, required=True, metavar="FILE")
    return flags


def main() -> None:
    """Find the people of a folder."""
    arguments = _flags().parse_args()
    spec = InferenceSpec(flip_test=True, multi_scale_inference=True, scales=tuple(arguments.scales))
    estimate = Thunder(arguments.refine, arguments.threads or 0) if arguments.refine else None
    engine = open_engine(spec, arguments.model, arguments.key, arguments.engine, arguments.threads)
    predictor = Predictor(engine, spec)
    entries = list_images("dir", arguments.images).entries
    found = []
    for entry in progress(entries, "finding people"):
        try:
            image = read_image(entry.path)
        except BodyPoseNetError as error:
            found.append(describe_image(entry.path, str(error), entry.fields))
            continue
        poses = predictor(image)
        poses = refine(poses, image, estimate) if estimate else lower_crowds(poses)
        found.append(describe_image(entry.path, poses, entry.fields))
    write_detections(arguments.output_file, engine.skeleton, predictor.spec, found)
    people = sum(len(entry.get("scores", [])) for entry in found)
    print_result(f"{people} people in {len(found)} photos: {arguments.output_file}")


if __name__ == "__main__":
    sys.exit(exit_code_of("pseudo_labels.py", main))
