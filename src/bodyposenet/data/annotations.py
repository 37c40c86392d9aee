"""Normalize annotations: numbers written as text, missing boxes and areas, wrong counts.

What follows from the rest of an annotation is repaired and counted; anything else is an error.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.regions import MAX_DISTANCE, Region
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.types import Person

_WHOLE_NUMBER = re.compile(r"[-+]?[0-9]{1,19}", re.ASCII)

_NUMBERS = frozenset({int, float})
"""Types of JSON's numbers, without bool."""

_NO_BOX = (0.0, 0.0, 0.0, 0.0)

Box = tuple[float, float, float, float]


class Outlined(NamedTuple):
    """Area and box (x, y, width, height) of a segmentation, in pixels."""

    area: float
    box: Box


def whole_number(entry: Mapping[str, Any], key: str, repairs: Counter[str]) -> int:
    """Read a whole number; 12.0 and "12" are 12.

    Args:
        entry: Holds the number.
        key: Its name.
        repairs: What was repaired -> how often; is added to.

    Raises:
        ValueError: It is something else, or does not fit into 64 bits.
    """
    value = entry.get(key)
    number = as_whole_number(value)
    if number is None:
        raise ValueError(f"{key} must be a whole number, not {shorten(value)}")
    if type(value) is not int:
        repairs["whole numbers that were text or had a decimal point"] += 1
    return number


def as_whole_number(value: Any) -> int | None:
    """The whole number of 64 bits that a value is or resembles; None if it does not."""
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        value = int(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) < 2**63 else None


def shorten(value: Any) -> str:
    """A value as Python writes it, or how it begins."""
    return f"{value!r:.60}"


@dataclass(frozen=True)
class KeypointFormat:
    """How annotations state keypoints.

    Args:
        joints: How many there are.
        labelled: Visibility flags of keypoints that are labelled.
        known: All flags that may occur; None accepts any.
        order: Where each joint stands in the annotations; None in their own order.
    """

    joints: int
    labelled: frozenset[int]
    known: frozenset[int] | None = None
    order: tuple[int, ...] | None = None

    @property
    def unlabelled(self) -> NDArray[np.float64]:
        """(joints, 3) keypoints of a person without labelled ones."""
        keypoints = np.zeros((self.joints, 3))
        keypoints[:, 2] = min(0, *(flag - 1 for flag in self.labelled)) if self.labelled else 0
        return keypoints


class PersonReader:
    """Makes people of the annotations of a file.

    Args:
        labelling: How the file states keypoints.
        repairs: What was repaired -> how often; is added to.
    """

    def __init__(self, labelling: KeypointFormat, repairs: Counter[str]) -> None:
        self._labelling = labelling
        self._repairs = repairs
        self._nobody = labelling.unlabelled
        self._nobody.setflags(write=False)  # shared by all people without keypoints

    def read(self, entry: Mapping[str, Any], annotation_id: int, height: int, width: int) -> Person:
        """The person of an annotation.

        Args:
            entry: The annotation.
            annotation_id: Its id.
            height: Of the image, in pixels.
            width: Of the image, in pixels.

        Raises:
            ValueError: It cannot be repaired.
        """
        farthest = MAX_DISTANCE * max(height, width)
        keypoints, labelled = self._keypoints(entry, farthest)
        segmentation = _compact(entry.get("segmentation"))
        box, problem = self._stated_box(entry, farthest)
        area = self._stated_area(entry)
        if _is_empty(box) or not area:
            region = Region.from_segmentation(annotation_id, segmentation)
            outlined = None if region is None else _measure(region, height, width)
            if _is_empty(box):
                box = self._other_box(box, problem, outlined, keypoints[labelled, :2])
            if not area:
                area = self._other_area(area, box, outlined, is_labelled=bool(labelled.any()))
        return Person(
            keypoints=keypoints,
            box=box,
            area=area,
            is_crowd=_is_crowd(entry),
            segmentation=segmentation,
            num_keypoints=int(np.count_nonzero(labelled)),
            annotation_id=annotation_id,
        )

    def _keypoints(
        self, entry: Mapping[str, Any], farthest: float
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(joints, 3) keypoints, those that are not labelled at a finite place; which are."""
        values, joints = entry.get("keypoints"), self._labelling.joints
        if not values and (values is None or isinstance(values, list)):
            self._check_count(entry, 0, 0)
            return self._nobody, np.zeros(joints, bool)
        explained = f"3 for each of the dataset spec's {joints} keypoints"
        triples = _floats("keypoints", values, 3 * joints, explained, self._repairs)
        triples = triples.reshape(joints, 3)
        if self._labelling.order is not None:
            triples = triples[list(self._labelling.order)]
        is_near = np.abs(triples).max() <= farthest  # NaN is not
        flags = triples[:, 2].tolist()
        if not is_near:
            flags = [0 if math.isnan(flag) else flag for flag in flags]
        self._check_flags(flags)
        states = [flag in self._labelling.labelled for flag in flags]
        self._check_count(entry, states.count(True), len(flags) - flags.count(0))
        labelled = np.array(states)
        if True not in states:
            return self._nobody, labelled
        if not is_near:
            triples[:, 2] = flags
            _move_unlabelled(triples, labelled, farthest)
        return triples, labelled

    def _check_flags(self, flags: Iterable[float]) -> None:
        known = self._labelling.known
        unknown = set() if known is None else {*flags} - known - {0}
        if unknown:
            raise ValueError(
                f"a keypoint has the visibility flag {min(unknown):g}, which visibility_flags of "
                "the dataset spec do not name"
            )

    def _check_count(self, entry: Mapping[str, Any], labelled: int, flagged: int) -> None:
        """Count a `num_keypoints` that is wrong by the flags that mean labelled, and by COCO's."""
        stated = entry.get("num_keypoints")
        if stated is not None and as_whole_number(stated) not in (labelled, flagged):
            self._repairs["values of num_keypoints that were wrong (counted from the flags)"] += 1

    def _stated_box(self, entry: Mapping[str, Any], farthest: float) -> tuple[Box, str]:
        """The box of an annotation; or an empty one, and why it cannot be used."""
        try:
            explained = "x, y, width, height"
            x, y, width, height = _floats(
                "bbox", entry.get("bbox"), 4, explained, self._repairs
            ).tolist()
        except ValueError as error:
            return _NO_BOX, str(error)
        edges = (x, y, width, height, x + width, y + height)
        if not all(abs(edge) <= farthest for edge in edges):
            return _NO_BOX, "bbox lies far outside of the image, or holds no finite number"
        return (x, y, width, height), ""

    def _stated_area(self, entry: Mapping[str, Any]) -> float | None:
        """The area of an annotation; None if it states none that can be used."""
        value = entry.get("area")
        if value is None:
            return None
        try:
            area = float(_floats("area", [value], 1, "", self._repairs)[0])
        except ValueError:
            return None
        return area if 0 <= area < math.inf else None

    def _other_box(
        self, box: Box, problem: str, outlined: Outlined | None, points: NDArray[np.float64]
    ) -> Box:
        """The box of an outline, else around the labelled keypoints, instead of an empty one.

        Raises:
            ValueError: There is neither, and the stated box has a problem.
        """
        around = _box_around(points) if len(points) else _NO_BOX
        if outlined is not None:
            box, source = outlined.box, "the segmentation"
        elif not _is_empty(around):
            box, source = around, "the labelled keypoints"
        elif not problem:
            return box
        elif len(points):  # a single keypoint, or a row of them: where the person is, at least
            return around
        else:
            raise ValueError(problem)
        self._repairs[f"boxes that were missing or empty, taken from {source}"] += 1
        return box

    def _other_area(
        self, area: float | None, box: Box, outlined: Outlined | None, *, is_labelled: bool
    ) -> float:
        """The area of an outline, else of the box, instead of none or 0."""
        stated = "missing" if area is None else "0"
        if outlined is not None:
            area, source = outlined.area, "segmentation"
        else:
            area, source = max(box[2], 0) * max(box[3], 0), "box"
        if area:
            self._repairs[f"areas that were {stated}, taken from the {source}"] += 1
        elif is_labelled:
            self._repairs["people without any area, whom no pose can match (OKS 0)"] += 1
        return area


def _move_unlabelled(
    triples: NDArray[np.float64], labelled: NDArray[np.bool_], farthest: float
) -> None:
    """Move keypoints that are far away, or at no finite place, to 0, 0.

    Raises:
        ValueError: One of them is labelled.
    """
    is_near = np.abs(triples[:, :2]).max(axis=1) <= farthest
    if not is_near[labelled].all():
        raise ValueError("keypoints: a labelled one lies far outside of the image or is not finite")
    triples[~is_near, :2] = 0


def _is_crowd(entry: Mapping[str, Any]) -> bool:
    value = entry.get("iscrowd")
    flag = 0 if value is None else int(value) if isinstance(value, bool) else as_whole_number(value)
    if flag not in (0, 1):
        raise ValueError(f"iscrowd must be 0 or 1, not {shorten(value)}")
    return bool(flag)


def _compact(segmentation: Any) -> Any:
    """Polygons as arrays, a quarter the size of lists; whatever else there is stays as it is."""
    if not isinstance(segmentation, list):
        return segmentation
    if not all(isinstance(points, list) and _are_numbers(points) for points in segmentation):
        return segmentation
    try:
        return [np.array(points, np.float64) for points in segmentation]
    except OverflowError:
        return segmentation


def _measure(region: Region, height: int, width: int) -> Outlined | None:
    """Area and box of a region; None if it is empty or cannot be drawn."""
    try:
        outlined = Outlined(*region.measure(height, width))
    except BodyPoseNetError:
        return None
    return outlined if outlined.area else None


def _is_empty(box: Box) -> bool:
    """Whether a box (x, y, width, height) has no inside."""
    return min(box[2:]) <= 0


def _box_around(points: NDArray[np.float64]) -> Box:
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right - left, bottom - top


def _floats(
    key: str, values: Any, count: int, explained: str, repairs: Counter[str]
) -> NDArray[np.float64]:
    """(count,) numbers of a list; null becomes NaN, and text the number that it shows.

    Raises:
        ValueError: It is not a list of so many numbers.
    """
    if not isinstance(values, list):
        raise ValueError(f"{key} must be a list of numbers, not {shorten(values)}")
    if len(values) != count:
        raise ValueError(f"{key}: expected {count} numbers ({explained}), got {len(values)}")
    if not _are_numbers(values):
        values = [_float(key, value) for value in values]
        repairs["boxes, areas and lists of keypoints with text or null in them"] += 1
    try:
        return np.array(values, np.float64)
    except OverflowError as error:
        raise ValueError(f"{key} holds a number that is too large") from error


def _are_numbers(values: Collection[Any]) -> bool:
    return _NUMBERS.issuperset(map(type, values))


def _float(key: str, value: Any) -> float | int:
    if value is None:
        return math.nan
    if type(value) in _NUMBERS:
        return value
    try:
        return float(value if isinstance(value, str) else "")
    except ValueError as error:
        raise ValueError(f"{key} must hold numbers only, not {shorten(value)}") from error
