"""Thresholds, pose NMS and a limb-length prior of the decoder, and the precision of what is drawn.

python -m benchmarks.decoding_options --dataset_spec FILE [--model FILE] [--input_size N]
    [--limit N] [--threads N] [--quick] [--json FILE]

The maps of all test images are computed once (OpenVINO), and decoded with every setting. AP is
reported for the images with an even and with an odd id, so that settings can be chosen on one half
and checked on the other one.

- `pose_nms`: of two poses with an OKS above .5 the one with the lower score is dropped.
- `length_prior`: OpenPose's penalty for limbs that are longer than a share of the image's longer
  side.
- `precision`, `recall` of people with a minimum score, at OKS .5; `crowd`: in images with at least
  five labeled people; `false_people`: people per image if all annotated boxes, enlarged by a fifth,
  are painted over.
- `inferred`: share of the joints inferred by `complete_pose` that are on the person (OKS .5), by
  their score; joints of detected people, labeled or not.

Without a dataset spec nothing is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from bodyposenet import Affine, Maps, Poses, Skeleton, decode
from bodyposenet.data.coco import CocoImage
from bodyposenet.decoding import DecodingOptions, accurate
from bodyposenet.decoding.accurate.connections import score_connections
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.evaluation.evaluator import load_test_images
from bodyposenet.evaluation.image_poses import (
    ImagePoses,
    arrange_images,
    keypoint_similarities,
)
from bodyposenet.evaluation.oks_matching import match_people
from bodyposenet.inference.models import DEFAULT_MODEL_FOLDER, INT8_FILE, open_engine
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import read_image
from bodyposenet.skeleton import oks_sigmas
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec

from . import harness

_THRESHOLDS = [(0.05, 0.02), (0.02, 0.02), (0.03, 0.02), (0.08, 0.02), (0.1, 0.02), (0.05, 0.0),
               (0.05, 0.05), (0.05, 0.08)]  # fmt: skip
"""Heatmap and PAF thresholds, the defaults first."""
_LENGTHS = (0.15, 0.25, 0.5)
"""Longest limbs without a penalty, relative to the longer side of the image."""
_MIN_SCORES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Minimum scores of people."""
_JOINT_SCORES = (0.0, 0.011, 0.02, 0.05, 0.1, 0.2, 0.5, 1.01)
"""Borders of the ranges of joint scores; .01 is that of a joint without support in the heatmap."""
_MATCH = 0.5
"""OKS of a correct person or joint."""
_CROWD = 5
"""Labeled people of a crowded image."""
_MARGIN = 0.2
"""Enlargement of the boxes that are painted over."""
_GRAY = 128
_QUICK_IMAGES = 20

Change = Callable[[Poses], Poses]


class _Photo(NamedTuple):
    """A test image, the maps of the network, and the affine map from image to network pixels."""

    image: CocoImage
    maps: Maps
    to_network: Affine


class _Test(NamedTuple):
    """Test images and what is needed to evaluate them."""

    dataset: DatasetSpec
    skeleton: Skeleton
    photos: list[_Photo]

    @property
    def sigmas(self) -> NDArray[np.float64]:
        """(D,) OKS sigmas of the dataset's keypoints."""
        joints = self.dataset.person.keypoints
        return np.array(self.dataset.person.sigmas or oks_sigmas(joints))

    def poses(self, options: DecodingOptions, photo: _Photo) -> Poses:
        """Decode the maps of a photo to poses in image pixels."""
        return decode(photo.maps, self.skeleton, options).transform(photo.to_network.inverse())

    def ap(self, options: DecodingOptions, change: Change | None = None) -> dict[str, float]:
        """Return the AP on the images with an even and with an odd id."""
        return {
            name: self._ap([photo for photo in self.photos if photo.image.image_id % 2 == half],
                           options, change)
            for half, name in enumerate(("even", "odd"))
        }  # fmt: skip

    def _ap(
        self, photos: Sequence[_Photo], options: DecodingOptions, change: Change | None
    ) -> float:
        joints, results = self.dataset.person.keypoints, []
        for photo in photos:
            poses = self.poses(options, photo)
            results += (change(poses) if change else poses).to_coco(photo.image.image_id, joints)
        return evaluate_poses(
            results, [photo.image for photo in photos], joints, self.skeleton,
            sigmas=self.dataset.person.sigmas,
            labeled_flags=self.dataset.visibility_flags.labeled(),
        ).ap  # fmt: skip


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Evaluate every setting, and the precision of people and inferred joints."""
    if arguments.dataset_spec is None:
        print("Nothing to measure: give --dataset_spec.")
        return {}
    dataset = DatasetSpec.load(arguments.dataset_spec)
    images = load_test_images(dataset, _QUICK_IMAGES if arguments.quick else arguments.limit)
    engine = open_engine(
        InferenceSpec(), str(arguments.model), engine="openvino", threads=arguments.threads
    )
    size = (arguments.input_size, arguments.input_size)
    predictor = Predictor(engine, InferenceSpec(input_shape=size))
    folder = dataset.images_folder("test")
    pixels = {
        image.image_id: read_image(folder / image.file_name, (image.height, image.width))
        for image in images
    }
    photos = [_Photo(image, *predictor.maps(pixels[image.image_id])) for image in images]
    test = _Test(dataset, engine.skeleton, photos)
    painted = [
        _Photo(image, *predictor.maps(_paint_over(pixels[image.image_id], image)))
        for image in images
    ]
    return (
        _settings(test)
        | _people(test, _Test(dataset, engine.skeleton, painted))
        | _inferred_joints(test)
    )


def _settings(test: _Test) -> dict[str, float]:
    """Return the AP of every setting, without and with `complete_pose`."""
    figures: dict[str, float] = {}
    for mode, complete_pose in (("accurate", False), ("complete_pose", True)):
        options = partial(DecodingOptions, complete_pose=complete_pose)
        for heatmap, paf in _THRESHOLDS:
            for half, ap in test.ap(options("accurate", heatmap, paf)).items():
                figures[f"{mode}_{heatmap:g}_{paf:g}_ap_{half}"] = ap
        change = partial(_suppress_duplicates, sigmas=np.array(oks_sigmas(test.skeleton.joints)))
        for half, ap in test.ap(options(), change).items():
            figures[f"{mode}_pose_nms_ap_{half}"] = ap
        for share in _LENGTHS:
            with _length_prior(share):
                for half, ap in test.ap(options()).items():
                    figures[f"{mode}_length_prior_{share:g}_ap_{half}"] = ap
    return figures


def _suppress_duplicates(poses: Poses, sigmas: NDArray[np.float64]) -> Poses:
    """Drop poses that resemble a pose with a higher score, by the joints that both have."""
    kept: list[int] = []
    points = np.nan_to_num(poses.keypoints.astype(np.float64))
    found = ~np.isnan(poses.keypoints[..., 0])
    for person in np.argsort(-poses.scores, kind="stable").tolist():
        both = found[kept] & found[person]
        extents = np.ptp(poses.keypoints[person][found[person]], axis=0)
        area = np.array([max(float(extents.prod()), 1.0)])
        similarities = keypoint_similarities(points[kept], points[[person]], area, sigmas)[:, 0]
        oks = (similarities * both).sum(axis=1) / np.maximum(both.sum(axis=1), 1)
        if not (oks > _MATCH).any():
            kept.append(person)
    return poses[sorted(kept)]


@contextmanager
def _length_prior(share: float) -> Iterator[None]:
    """Decode with a penalty for long limbs, as in OpenPose.

    Args:
        share: Longest limbs without a penalty, relative to the longer side of the maps.
    """

    def with_penalty(
        pafs: NDArray[np.float32], limbs: NDArray[np.int64], points: NDArray[np.float64],
        scores: NDArray[np.float64], first: NDArray[np.int64], threshold: float,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:  # fmt: skip
        connections, weights = score_connections(pafs, limbs, points, scores, first, threshold)
        _, start, end = connections.T
        lengths = np.maximum(np.hypot(*(points[end] - points[start]).T), 1e-6)
        penalties = np.minimum(share * max(pafs.shape[1:]) / lengths - 1, 0)
        weights = weights + penalties * np.sqrt(scores[start] * scores[end])
        return connections[weights > 0], weights[weights > 0]

    with mock.patch.object(accurate, "score_connections", with_penalty):
        yield


def _people(test: _Test, painted: _Test) -> dict[str, float]:
    """Return precision and recall of people with a minimum score, with the default options."""
    options, joints = DecodingOptions(complete_pose=True), test.dataset.person.keypoints
    results = [
        result
        for photo in test.photos
        for result in test.poses(options, photo).to_coco(photo.image.image_id, joints)
    ]
    images = arrange_images(
        [photo.image for photo in test.photos], results, len(joints),
        test.dataset.visibility_flags.labeled(),
    )  # fmt: skip
    false_scores = np.concatenate([painted.poses(options, each).scores for each in painted.photos])
    figures: dict[str, float] = {}
    crowded = [image for image in images if image.num_people >= _CROWD]
    for prefix, chosen in (("", images), ("crowd_", crowded)):
        if not chosen:
            continue
        scores, correct, counted = (
            np.concatenate(values)
            for values in zip(*(_judge(image, test.sigmas) for image in chosen), strict=True)
        )
        people = sum(image.num_people for image in chosen)
        for minimum in _MIN_SCORES:
            shown = (scores >= minimum) & counted
            found = int((shown & correct).sum())
            figures[f"{prefix}precision_{minimum:g}"] = found / max(int(shown.sum()), 1)
            figures[f"{prefix}recall_{minimum:g}"] = found / max(people, 1)
    for minimum in _MIN_SCORES:
        count = int((false_scores >= minimum).sum())
        figures[f"false_people_{minimum:g}"] = count / len(painted.photos)
    return figures


def _match(image: ImagePoses, sigmas: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the index of the person who is matched with each pose of an image, or -1."""
    return match_people(
        image.oks(sigmas)[None], image.ignored[None], image.crowds, np.array([_MATCH])
    )[0, 0]


def _judge(
    image: ImagePoses, sigmas: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the scores of the poses of an image, which are correct, and which count."""
    matched = _match(image, sigmas)
    counts = ~np.append(image.ignored, False)[matched]  # -1 is the appended one
    return image.scores, matched >= 0, counts


def _inferred_joints(test: _Test) -> dict[str, float]:
    """Return the share of inferred joints that are on the person, by their score."""
    options, joints = DecodingOptions(complete_pose=True), test.dataset.person.keypoints
    scores, correct = [np.zeros(0)], [np.zeros(0, bool)]
    flags = test.dataset.visibility_flags.labeled()
    for photo in test.photos:
        poses = test.poses(options, photo)
        poses = poses[np.argsort(-poses.scores, kind="stable")]
        (image,) = arrange_images(
            [photo.image], poses.to_coco(photo.image.image_id, joints), len(joints), flags
        )
        if not len(poses) or not image.num_people:
            continue
        matched = _match(image, test.sigmas)
        similarities = keypoint_similarities(image.poses, image.truth, image.areas, test.sigmas)
        order = [test.skeleton.joints.index(joint) for joint in joints]
        for pose in np.flatnonzero(matched >= 0):
            person = matched[pose]
            if image.ignored[person] or poses.inferred is None:
                continue
            inferred = poses.inferred[pose][order]
            on_person = image.labeled[person] & (similarities[pose, person] >= _MATCH)
            scores.append(poses.keypoint_scores[pose][order][inferred].astype(np.float64))
            correct.append(on_person[inferred])
    all_scores, all_correct = np.concatenate(scores), np.concatenate(correct)
    figures: dict[str, float] = {}
    for low, high in pairwise(_JOINT_SCORES):
        chosen = (all_scores >= low) & (all_scores < high)
        figures[f"inferred_{low:g}_to_{high:g}"] = int(chosen.sum())
        figures[f"inferred_{low:g}_to_{high:g}_on_person"] = float(
            all_correct[chosen].mean() if chosen.any() else np.nan
        )
    return figures


def _paint_over(pixels: NDArray[np.uint8], image: CocoImage) -> NDArray[np.uint8]:
    """Return a copy of an image with gray rectangles instead of the annotated people."""
    painted = pixels.copy()
    for person in image.persons:
        x, y, width, height = person.box
        left, top = x - _MARGIN / 2 * width, y - _MARGIN / 2 * height
        right, bottom = left + (1 + _MARGIN) * width, top + (1 + _MARGIN) * height
        rows = slice(max(int(top), 0), max(int(np.ceil(bottom)), 0))
        painted[rows, max(int(left), 0) : max(int(np.ceil(right)), 0)] = _GRAY
    return painted


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("decoding_options", __doc__)
    harness.add_dataset_flags(flags)
    flags.add_argument(
        "--model", type=Path, default=DEFAULT_MODEL_FOLDER / INT8_FILE, metavar="FILE",
        help="an exported model; default: the default model in INT8",
    )  # fmt: skip
    flags.add_argument("--input_size", type=int, default=368, metavar="N", help="default: 368")
    return flags


if __name__ == "__main__":
    harness.run("decoding_options", _flags(), measure)
