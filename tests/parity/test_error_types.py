"""Error types are those of a plain implementation of coco-analyze's rules, with pycocotools."""

import contextlib
import io
from collections import Counter

import numpy as np
import pytest
from pycocotools import coco, cocoeval

from bodyposenet.evaluation.error_types import ErrorType, find_errors
from bodyposenet.evaluation.image_poses import arrange_images
from bodyposenet.skeleton import COCO_JOINTS, oks_sigmas

from ..evaluation.scenes import COCO, random_scene, read

SIGMAS = np.array(oks_sigmas(COCO_JOINTS))


def similarities(annotation, points, order):
    """Similarities to the labels of a person in some order of the joints; -1 without a label."""
    keypoints = np.reshape(annotation["keypoints"], (17, 3))[list(order)]
    squares = ((keypoints[:, :2] - points) ** 2).sum(axis=1)
    values = np.exp(-squares / (2 * SIGMAS) ** 2 / annotation["area"] / 2)
    return np.where(keypoints[:, 2] > 0, values, -1)


def reference_counts(annotations, results) -> Counter[str]:
    """Count the types; joints that are not detected are misses."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = annotations
        truth.createIndex()
        found = truth.loadRes(results)
        evaluation = cocoeval.COCOeval(truth, found, "keypoints")
        evaluation.params.iouThrs = np.array([0.1])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
    counts: Counter[str] = Counter()
    for image in filter(None, evaluation.evalImgs):
        people = truth.imgToAnns[image["image_id"]]
        pairs = zip(image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True)
        for pose_id, person_id, is_ignored in pairs:
            if person_id and not is_ignored:
                person = truth.anns[int(person_id)]
                others = [one for one in people if one is not person]
                points = np.reshape(found.anns[pose_id]["keypoints"], (17, 3))[:, :2]
                rows = [
                    similarities(one, points, order)
                    for order in (range(17), COCO.mirrored)
                    for one in (person, *others)
                ]
                counts.update(_types(np.array(rows), person, len(others) + 1))
    return counts


def _types(rows, person, people):
    best, winner = rows.max(axis=0), rows.argmax(axis=0)
    for joint in np.flatnonzero(np.array(person["keypoints"][2::3]) > 0):
        if best[joint] < 0.5:
            yield "miss"
        elif winner[joint] == 0:
            yield "good" if best[joint] >= 0.85 else "jitter"
        else:
            yield "inversion" if winner[joint] == people else "swap"


@pytest.mark.parametrize("seed", range(2))
def test_the_types_are_those_of_coco_analyze(seed):
    annotations, results = random_scene(np.random.default_rng(seed), 60)
    images = arrange_images(read(annotations), results, 17, [1, 2])
    counts: Counter[str] = Counter()
    for image in images:
        types = find_errors(image.best_poses(20), SIGMAS, COCO.mirrored).types
        counts.update(ErrorType(kind).label for kind in types[types >= 0])
    counts["miss"] += counts.pop("undetected")
    assert counts == reference_counts(annotations, results)
    assert min(counts.values()) > 0 and len(counts) == 5
