"""Write annotated images as an annotation file in COCO's keypoint format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bodyposenet.files import write_json
from bodyposenet.types import Person

if TYPE_CHECKING:
    # Imports a package of the extra `eval`, which `doctor` does not need.
    from bodyposenet.data.coco import CocoImage


def write_coco(path: Path, images: Iterable[CocoImage], category: Mapping[str, Any]) -> None:
    """Write an annotation file.

    Args:
        path: The file.
        images: Annotated images; annotation ids must be unique.
        category: Category of all people: `id`, `name` and `keypoints`.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    images = list(images)
    content = {
        "images": [_image_entry(image) for image in images],
        "annotations": [
            annotation_entry(person, image.image_id, category["id"])
            for image in images
            for person in image.persons
        ],
        "categories": [dict(category)],
    }
    write_json(path, content, indent=None)


def _image_entry(image: CocoImage) -> dict[str, Any]:
    """Return an image as an entry of `images`."""
    entry: dict[str, Any] = {
        "id": image.image_id,
        "file_name": image.file_name,
        "height": image.height,
        "width": image.width,
    }
    return entry if image.crowd_index is None else entry | {"crowdIndex": image.crowd_index}


def annotation_entry(person: Person, image_id: int, category_id: int) -> dict[str, Any]:
    """Return a person as an entry of `annotations`; coordinates are rounded to 0.01 pixels.

    Args:
        person: The person.
        image_id: Id of the image.
        category_id: Id of the category.
    """
    keypoints = person.keypoints.copy()
    keypoints[:, :2] = keypoints[:, :2].round(2)
    return {
        "id": person.annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": int(person.is_crowd),
        "num_keypoints": person.num_keypoints,
        "keypoints": keypoints.reshape(-1).tolist(),
        "bbox": list(person.box),
        "area": person.area,
        "segmentation": _plain_segmentation(person.segmentation),
    }


def _plain_segmentation(segmentation: Any) -> Any:
    """Return a segmentation with its polygons as lists."""
    if not isinstance(segmentation, list):
        return segmentation
    return [
        polygon.tolist() if isinstance(polygon, np.ndarray) else polygon for polygon in segmentation
    ]
