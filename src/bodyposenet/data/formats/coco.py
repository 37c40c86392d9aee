"""COCO's keypoint format, including the exports of CVAT in it, and CrowdPose's annotations.

Predictions are written as results for an evaluation and as annotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bodyposenet.data.formats.document import (
    PERSON,
    AnnotationFile,
    AnnotationFormat,
    CocoDocument,
)
from bodyposenet.data.formats.predictions import (
    MISSING,
    ImagePredictions,
    OutputFormat,
    PredictedImage,
    annotation_skeleton,
)
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import write_json
from bodyposenet.skeleton import Skeleton

_RESULTS, _DATASET = "results.json", "predictions.json"

_CATEGORY_ID = 1


def _is_coco(file: AnnotationFile) -> bool:
    """Return whether a file is a JSON object."""
    return not file.is_xml and not file.is_yaml and not file.json.has_list()


def _read(file: AnnotationFile) -> CocoDocument:
    """Read a file whose lists of images and annotations are parsed on access."""
    for key in ("images", "annotations"):
        if not file.json.has_list(key):
            raise BodyPoseNetError(
                f"{file.path}: missing list `{key}`", "Use an annotation file in COCO's format."
            )
    images, annotations, categories = map(
        file.json.elements, ("images", "annotations", "categories")
    )
    return CocoDocument(images, annotations, categories)


FORMAT = AnnotationFormat("coco", "COCO", _is_coco, _read)


def _write_images(folder: Path, predictions: ImagePredictions) -> None:
    """Write results.json, the list that COCO's evaluation reads, and predictions.json.

    Both have the joints of the `annotation_skeleton`. The second is a dataset of the same
    people, for tools that import one.

    Args:
        folder: Existing folder of the files.
        predictions: The predictions.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    skeleton = annotation_skeleton(predictions.skeleton)
    results: list[Mapping[str, Any]] = []
    annotations: list[Mapping[str, Any]] = []
    for image in predictions.images:
        results += image.poses.to_coco(image.image_id, skeleton.joints)
        annotations += _annotations(image, len(annotations) + 1)
    write_json(folder / _RESULTS, results, indent=None)
    document = {
        "info": {"description": f"Predictions of {predictions.model}"},
        "images": [_describe(image) for image in predictions.images],
        "annotations": annotations,
        "categories": [_category(skeleton)],
    }
    write_json(folder / _DATASET, document, indent=None)


def _describe(image: PredictedImage) -> dict[str, Any]:
    values = {
        "id": image.image_id, "file_name": image.name, "width": image.width, "height": image.height,
    }  # fmt: skip
    return values | {"coco_url": image.address} if image.address else values


def _annotations(image: PredictedImage, first_id: int) -> list[dict[str, Any]]:
    """Return the annotations of the people in an image, with ids from `first_id`."""
    labels = image.labels()
    points, flags = labels.keypoints.round(3).tolist(), labels.visibility.tolist()
    boxes = labels.boxes.round(2)
    sizes = (boxes[:, 2:] - boxes[:, :2]).round(2)
    return [
        {
            "id": first_id + person,
            "image_id": image.image_id,
            "category_id": _CATEGORY_ID,
            "keypoints": [
                number
                for point, flag in zip(points[person], flags[person], strict=True)
                for number in (*point, flag)
            ],
            "num_keypoints": sum(flag != MISSING for flag in flags[person]),
            "bbox": [*boxes[person, :2].tolist(), *sizes[person].tolist()],
            "area": round(float(sizes[person].prod()), 2),
            "iscrowd": 0,
            "score": round(float(labels.scores[person]), 5),
        }
        for person in range(len(labels))
    ]


def _category(skeleton: Skeleton) -> dict[str, Any]:
    """Return the category of people, with limbs counted from 1."""
    return {
        "id": _CATEGORY_ID,
        "name": PERSON,
        "supercategory": PERSON,
        "keypoints": list(skeleton.joints),
        "skeleton": [[start + 1, end + 1] for start, end in skeleton.limbs],
    }


OUTPUT_FORMAT = OutputFormat("coco", (_RESULTS, _DATASET), _write_images)
