"""An annotation file in COCO's keypoint format in, checked images with their people out.

All that cannot be used is collected and told in one error; what may stand in such a file but is
not for us (other categories, annotations of no image) is left out and counted.
"""

from __future__ import annotations

import gc
import math
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import read_json
from bodyposenet.types import Person

_MOST_PIXELS = 2**30
"""OpenCV reads no larger images."""

_FLAWS_TOLD = 10

_NUMBERS = frozenset({int, float})
"""Types of JSON's numbers; a bool is none."""


@dataclass(frozen=True, eq=False)
class CocoImage:
    """An image and its people.

    Args:
        image_id: COCO's image id.
        file_name: Relative to the folder of the images.
        height: In pixels.
        width: In pixels.
        persons: All annotations of the image, crowds too, in the order of the file.
    """

    image_id: int
    file_name: str
    height: int
    width: int
    persons: tuple[Person, ...]

    @property
    def mask_name(self) -> str:
        """Path of the mask in the folder of the masks: PNG, since JPEG would blur its borders."""
        return posixpath.splitext(self.file_name)[0] + ".png"


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """What an annotation file holds.

    Args:
        images: Its images, in the order of the file.
        left_out: What was not used -> how often.
    """

    images: list[CocoImage]
    left_out: Counter[str]

    def annotated_images(self) -> list[CocoImage]:
        """The images with annotations."""
        return [image for image in self.images if image.persons]


def load_coco(path: Path, joints: tuple[str, ...]) -> list[CocoImage]:
    """Read the images of an annotation file; what is left out is said in the log.

    Args:
        path: The annotation file.
        joints: Names of the keypoints, in the order of the annotations.

    Raises:
        BodyPoseNetError: As `read_coco`.
    """
    dataset = read_coco(path, joints)
    for kind, count in dataset.left_out.items():
        logger.warning("%s: left out: %d %s", path, count, kind)
    return dataset.images


def read_coco(path: Path, joints: tuple[str, ...]) -> CocoDataset:
    """Read an annotation file.

    People are the annotations of the category `person`, or all of them where no category has that
    name. `iscrowd` may be missing (0), as may `area` (the box's), `segmentation`, and, for people
    without labelled keypoints, `keypoints`.

    Args:
        path: The annotation file.
        joints: Names of the keypoints, in the order of the annotations.

    Raises:
        BodyPoseNetError: The file is missing or broken; or ids occur twice, values are missing, of
            the wrong type or not finite, there are more or fewer keypoints than joints, or the
            file names them in another order.
    """
    with _collector_at_rest():
        content = _read_lists(path)
        person_ids = _person_categories(path, content.get("categories"), joints)
        entries, flaws = _read_images(content["images"])
        people = _read_people(content["annotations"], entries, person_ids, len(joints))
        _tell(path, [*flaws, *people.flaws])
    images = [
        CocoImage(image_id, *entry, tuple(people.of_image[image_id]))
        for image_id, entry in entries.items()
    ]
    return CocoDataset(images, people.left_out)


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Garbage collection would walk millions of new objects again and again: twice the time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _read_lists(path: Path) -> dict[str, Any]:
    """The content of the file, with lists of images and annotations in it."""
    content = read_json(
        path,
        "Check annotation_root_dir_path of the dataset spec; copy the file again if it is cut off.",
    )
    for key in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise BodyPoseNetError(
                f"{path}: has no list `{key}`", "Give an annotation file in COCO's format."
            )
    return content


def _person_categories(path: Path, categories: Any, joints: tuple[str, ...]) -> tuple[Any, ...]:
    """Ids of the categories named person; empty where there are none: all annotations count."""
    if not isinstance(categories, list):
        return ()
    persons = [c for c in categories if isinstance(c, dict) and c.get("name") == "person"]
    for category in persons:
        named = category.get("keypoints")
        if isinstance(named, list) and named != list(joints) and set(joints) == {*map(str, named)}:
            raise BodyPoseNetError(
                f"{path}: names the keypoints in another order than the dataset spec: {named}",
                "Write the keypoints of the dataset spec's category in the order of this file.",
            )
    return tuple(category.get("id") for category in persons)


def _read_images(entries: list[Any]) -> tuple[dict[int, tuple[str, int, int]], list[str]]:
    """Image id -> file name, height and width; and the flaws."""
    flaws: list[str] = []
    images: dict[int, tuple[str, int, int]] = {}
    for entry in entries:
        try:
            image_id = _integer(entry, "id")
            if image_id in images:
                raise ValueError("the id is given twice")
            height, width = _integer(entry, "height"), _integer(entry, "width")
            if height < 1 or width < 1 or height * width > _MOST_PIXELS:
                raise ValueError(f"an image cannot be {width} x {height} pixels")
            images[image_id] = _file_name(entry), height, width
        except (AttributeError, OverflowError, ValueError) as error:
            flaws.append(f"{_name('image', entry)}: {error}")
    return images, flaws


def _file_name(entry: Mapping[str, Any]) -> str:
    """The image's path, which must stay within the folder of the images (and of the masks)."""
    name = entry.get("file_name")
    if not isinstance(name, str) or "\0" in name or re.split(r"[/\\]", name)[-1] in ("", "."):
        raise ValueError(f"file_name is no name of a file: {name!r}")
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    if ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
        raise ValueError(f"file_name must lie within the folder of the images: {name!r}")
    return name


@dataclass(frozen=True, eq=False)
class _People:
    """The people of an annotation file.

    Args:
        of_image: Image id -> its people.
        left_out: Annotations that were not used -> how many.
        flaws: What cannot be used, and why.
    """

    of_image: dict[int, list[Person]]
    left_out: Counter[str]
    flaws: list[str]


def _read_people(
    annotations: list[Any], images: Iterable[int], person_ids: tuple[Any, ...], joints: int
) -> _People:
    people = _People({image_id: [] for image_id in images}, Counter(), [])
    ids: set[int] = set()
    for annotation in annotations:
        try:
            if person_ids and annotation.get("category_id", person_ids[0]) not in person_ids:
                people.left_out["annotations of other categories"] += 1
            elif (image_id := _integer(annotation, "image_id")) not in people.of_image:
                people.left_out["annotations of an image that the file does not list"] += 1
            else:
                annotation_id = _integer(annotation, "id")
                if annotation_id in ids:
                    raise ValueError("the id is given twice")
                ids.add(annotation_id)
                people.of_image[image_id].append(_read_person(annotation, joints))
        except (AttributeError, OverflowError, ValueError) as error:
            people.flaws.append(f"{_name('annotation', annotation)}: {error}")
    return people


def _read_person(annotation: Mapping[str, Any], joints: int) -> Person:
    x, y, width, height = _numbers(annotation, "bbox", 4, "x, y, width, height").tolist()
    if annotation.get("keypoints") in (None, []) and not annotation.get("num_keypoints"):
        keypoints = np.zeros((joints, 3))
    else:
        explained = f"3 for each of the dataset spec's {joints} keypoints"
        keypoints = _numbers(annotation, "keypoints", 3 * joints, explained).reshape(joints, 3)
    labelled = annotation.get("num_keypoints")
    if labelled is None:
        labelled = int(np.count_nonzero(keypoints[:, 2]))
    else:
        labelled = _integer(annotation, "num_keypoints")
        if not 0 <= labelled <= joints:
            raise ValueError(f"num_keypoints is {labelled}, of {joints} keypoints")
    area, is_crowd = annotation.get("area", width * height), annotation.get("iscrowd", 0)
    if type(area) not in _NUMBERS or not math.isfinite(area):
        raise ValueError(f"area is no finite number: {area!r}")
    if is_crowd not in (0, 1):
        raise ValueError(f"iscrowd must be 0 or 1, not {is_crowd!r}")
    return Person(
        keypoints=keypoints,
        box=(x, y, width, height),
        area=float(area),
        is_crowd=bool(is_crowd),
        segmentation=annotation.get("segmentation"),
        num_keypoints=labelled,
        annotation_id=_integer(annotation, "id"),
    )


def _numbers(entry: Mapping[str, Any], key: str, count: int, explained: str) -> NDArray[np.float64]:
    values = entry.get(key)
    if not isinstance(values, list):
        raise ValueError(f"{key} is missing, or no list of numbers")
    if len(values) != count:
        raise ValueError(f"{key} holds {len(values)} numbers, not {count} ({explained})")
    if not _NUMBERS.issuperset(map(type, values)):
        raise ValueError(f"{key} holds something that is no number")
    numbers = np.array(values, np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{key} holds a value that is no finite number")
    return numbers


def _integer(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise ValueError(f"{key} must be a whole number, not {value!r}")
    return value


def _name(kind: str, entry: Any) -> str:
    return f"{kind} {entry.get('id')!r}" if isinstance(entry, dict) else f"{kind} {entry!r}"


def _tell(path: Path, flaws: Sequence[str]) -> None:
    if not flaws:
        return
    told = "\n".join(f"  {flaw}" for flaw in flaws[:_FLAWS_TOLD])
    more = f"\n  and {len(flaws) - _FLAWS_TOLD} more" if len(flaws) > _FLAWS_TOLD else ""
    raise BodyPoseNetError(
        f"{path}: {len(flaws)} entries cannot be used:\n{told}{more}",
        "Correct them in the file, or take them out.",
    )
