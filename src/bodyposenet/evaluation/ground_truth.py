"""Ground truth and detections as the two datasets that COCO's evaluation compares.

Both are in COCO's format, with what the evaluation reads: people as category 1, numbered from 1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.coco import CocoImage
from bodyposenet.types import Person

PERSON = 1


def ground_truth(
    images: Sequence[CocoImage],
    counts: NDArray[np.bool_],
    labelled_flags: Collection[int],
) -> dict[str, Any]:
    """Write down the people of some images.

    Args:
        images: The images to evaluate.
        counts: (D,) which keypoints count; the others are taken for not labelled.
        labelled_flags: Flags of a labelled keypoint.
    """
    people = (
        {"image_id": image.image_id, **_describe_person(person, counts, labelled_flags)}
        for image in images
        for person in image.persons
    )
    return _dataset(people, [image.image_id for image in images])


def detections(results: Sequence[Mapping[str, Any]], image_ids: Collection[int]) -> dict[str, Any]:
    """Write down results, with the box and area that COCO gives them.

    COCO takes both from all keypoints of a result, found or not.
    """
    poses = []
    for result in results:
        x, y = result["keypoints"][0::3], result["keypoints"][1::3]
        width, height = max(x) - min(x), max(y) - min(y)
        box = [min(x), min(y), width, height]
        poses.append({**result, "bbox": box, "area": width * height})
    return _dataset(poses, image_ids)


def _describe_person(
    person: Person, counts: NDArray[np.bool_], labelled_flags: Collection[int]
) -> dict[str, Any]:
    is_labelled = np.isin(person.keypoints[:, 2], list(labelled_flags))
    keypoints = np.column_stack([person.keypoints[:, :2], is_labelled])
    keypoints[~(is_labelled & counts)] = 0
    return {
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int(keypoints[:, 2].sum()),
        "bbox": list(person.box),
        "area": person.area,
        "iscrowd": int(person.is_crowd),
    }


def _dataset(people: Iterable[Mapping[str, Any]], image_ids: Iterable[int]) -> dict[str, Any]:
    return {
        "images": [{"id": image_id} for image_id in image_ids],
        "categories": [{"id": PERSON, "name": "person"}],
        "annotations": [
            {**person, "id": number, "category_id": PERSON}
            for number, person in enumerate(people, start=1)
        ],
    }
