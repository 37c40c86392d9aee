"""COCO's keypoint format, including the exports of CVAT in it, and CrowdPose's annotations."""

from __future__ import annotations

from bodyposenet.data.formats.document import AnnotationFile, AnnotationFormat, CocoDocument
from bodyposenet.errors import BodyPoseNetError


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
