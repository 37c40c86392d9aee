"""COCO-WholeBody: COCO's keypoints with those of feet, face and hands, 133 in total.

See https://github.com/jin-s13/COCO-WholeBody/blob/master/data_format.md. The names are those of
MMPose (`configs/_base_/datasets/coco_wholebody.py`), as the files do not name them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bodyposenet.data.formats import coco
from bodyposenet.data.formats.document import (
    VISIBLE,
    AnnotationFile,
    AnnotationFormat,
    CocoDocument,
)
from bodyposenet.skeleton import COCO_JOINTS

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")


def _hand(side: str) -> tuple[str, ...]:
    """Return the names of a hand's keypoints."""
    fingers = (f"{side}_{finger}{number}" for finger in _FINGERS for number in range(1, 5))
    return (f"{side}_hand_root", *fingers)


_PARTS = {
    "foot_kpts": (
        "left_big_toe", "left_small_toe", "left_heel",
        "right_big_toe", "right_small_toe", "right_heel",
    ),
    "face_kpts": tuple(f"face-{number}" for number in range(68)),
    "lefthand_kpts": _hand("left"),
    "righthand_kpts": _hand("right"),
}  # fmt: skip
"""Keys of annotations in addition to `keypoints`, and names of their keypoints."""

JOINTS = (*COCO_JOINTS, *(name for names in _PARTS.values() for name in names))
"""Names of all keypoints: body, feet, face, left and right hand."""


class _Joined:
    """Annotations whose keypoints are joined to one list; can be iterated repeatedly.

    Args:
        annotations: The annotations of the file.
    """

    def __init__(self, annotations: Iterable[Any]) -> None:
        self._annotations = annotations

    def __iter__(self) -> Iterator[Any]:
        for entry in self._annotations:
            if isinstance(entry, Mapping) and isinstance(entry.get("keypoints"), list):
                joined = list(entry["keypoints"])
                for key, names in _PARTS.items():
                    values = entry.get(key) or [0] * 3 * len(names)
                    joined += _with_flags(values) if isinstance(values, list) else [values]
                entry = {**entry, "keypoints": joined, "num_keypoints": None}  # of the body only
            yield entry


def _with_flags(triples: list[Any]) -> list[Any]:
    """Return keypoints whose visibilities are COCO's flags.

    Those of feet, face and hands can be fractions; all above 0 are reliable (data_format.md).
    """
    return [
        VISIBLE if index % 3 == 2 and type(value) is float and value > 0 and value % 1 else value
        for index, value in enumerate(triples)
    ]


def _is_wholebody(file: AnnotationFile) -> bool:
    """Return whether the first annotation of a JSON object has keypoints of the feet."""
    if not coco.FORMAT.detect(file):
        return False
    entry = next(iter(file.json.elements("annotations")), None)
    return isinstance(entry, Mapping) and "foot_kpts" in entry


def _read(file: AnnotationFile) -> CocoDocument:
    """Read a file, whose annotations are joined on access."""
    document = coco.FORMAT.read(file)
    categories = [
        {**entry, "keypoints": list(JOINTS)} if entry.get("keypoints") else entry
        for entry in document.categories
        if isinstance(entry, Mapping)
    ]
    return CocoDocument(document.images, _Joined(document.annotations), categories)


FORMAT = AnnotationFormat("coco_wholebody", "COCO-WholeBody", _is_wholebody, _read)
