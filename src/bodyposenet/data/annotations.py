"""Parse and normalize single person annotations in COCO's format.

Values that can be derived from the rest of an annotation are repaired and counted: numbers written
as text, missing boxes and areas, wrong keypoint counts. All other invalid values are errors.
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

from bodyposenet.data.segmentation import MAX_RELATIVE_COORDINATE, Region
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.types import Person

_INTEGER = re.compile(r"[-+]?[0-9]{1,19}", re.ASCII)

_NUMBERS = frozenset({int, float})
"""Types of JSON numbers, without bool."""

_NO_BOX = (0.0, 0.0, 0.0, 0.0)

Box = tuple[float, float, float, float]


class Extent(NamedTuple):
    """Area and box (x, y, width, height) of a segmentation, in pixels."""

    area: float
    box: Box


def parse_integer(entry: Mapping[str, Any], key: str, repairs: Counter[str]) -> int:
    """Read an integer; 12.0 and "12" are accepted as 12.

    Args:
        entry: JSON object.
        key: Key of the integer.
        repairs: Counts of repairs by description; modified in place.

    Returns:
        The integer.

    Raises:
        ValueError: The value is not an integer, or does not fit into 64 bits.
    """
    value = entry.get(key)
    number = to_integer(value)
    if number is None:
        raise ValueError(f"{key} must be an integer, got {shorten(value)}")
    if type(value) is not int:
        repairs["integers written as text or with a decimal point"] += 1
    return number


def to_integer(value: Any) -> int | None:
    """Convert a value to a 64-bit integer; None if it is not an integer."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and abs(value) < 2**63 else None


def shorten(value: Any) -> str:
    """Return the first 60 characters of the representation of a value."""
    return f"{value!r:.60}"


@dataclass(frozen=True)
class KeypointFormat:
    """How keypoints are stored in the annotations of a file.

    Args:
        annotated: Number of keypoints of each annotation.
        labeled: Visibility flags that mean "labeled".
        known: All valid visibility flags, or None to accept any.
        order: Index of each joint in the annotations, -1 for a joint that they do not have; or None
            if the keypoints and their order are the same.
    """

    annotated: int
    labeled: frozenset[int]
    known: frozenset[int] | None = None
    order: tuple[int, ...] | None = None

    @property
    def joints(self) -> int:
        """Number of keypoints of a person."""
        return self.annotated if self.order is None else len(self.order)

    @property
    def uses_all_annotated(self) -> bool:
        """Whether all keypoints of the annotations are among those of a person."""
        return self.order is None or {*self.order} >= {*range(self.annotated)}

    @property
    def unlabeled(self) -> NDArray[np.float64]:
        """(joints, 3) float64, the keypoints of a person without labeled keypoints."""
        keypoints = np.zeros((self.joints, 3))
        keypoints[:, 2] = min(0, *(flag - 1 for flag in self.labeled)) if self.labeled else 0
        return keypoints


class PersonReader:
    """Parses annotations of people.

    Args:
        keypoint_format: How keypoints are stored in the file.
        repairs: Counts of repairs by description; modified in place.
    """

    def __init__(self, keypoint_format: KeypointFormat, repairs: Counter[str]) -> None:
        self._format = keypoint_format
        self._repairs = repairs
        self._unlabeled = keypoint_format.unlabeled
        self._unlabeled.setflags(write=False)  # shared by all people without keypoints

    def read(self, entry: Mapping[str, Any], annotation_id: int, height: int, width: int) -> Person:
        """Parse the annotation of a person.

        Args:
            entry: The annotation, a JSON object.
            annotation_id: Id of the annotation.
            height: Height of the image in pixels.
            width: Width of the image in pixels.

        Returns:
            The person.

        Raises:
            ValueError: The annotation is invalid and cannot be repaired.
        """
        farthest = MAX_RELATIVE_COORDINATE * max(height, width)
        keypoints, labeled = self._keypoints(entry, farthest)
        segmentation = _compact(entry.get("segmentation"))
        box, problem = self._annotated_box(entry, farthest)
        area = self._annotated_area(entry)
        if _is_empty(box) or not area:
            region = Region.from_segmentation(annotation_id, segmentation)
            extent = None if region is None else _measure(region, height, width)
            if _is_empty(box):
                box = self._derived_box(box, problem, extent, keypoints[labeled, :2])
            if not area:
                area = self._derived_area(area, box, extent, is_labeled=bool(labeled.any()))
        return Person(
            keypoints=keypoints,
            box=box,
            area=area,
            is_crowd=_is_crowd(entry),
            segmentation=segmentation,
            num_keypoints=int(np.count_nonzero(labeled)),
            annotation_id=annotation_id,
        )

    def _keypoints(
        self, entry: Mapping[str, Any], farthest: float
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return (joints, 3) keypoints, all finite, and which are labeled."""
        values = entry.get("keypoints")
        if not values and (values is None or isinstance(values, list)):
            self._check_count(entry, 0, 0)
            return self._unlabeled, np.zeros(self._format.joints, bool)
        annotated = self._format.annotated
        layout = f"3 for each of the {annotated} keypoints"
        triples = _floats("keypoints", values, 3 * annotated, layout, self._repairs)
        triples = triples.reshape(annotated, 3)
        if self._format.order is not None:
            triples = np.vstack([triples, np.zeros(3)])[list(self._format.order)]  # -1: zeros
        is_near = np.abs(triples).max() <= farthest  # False for NaN
        flags = triples[:, 2].tolist()
        if not is_near:
            flags = [0 if math.isnan(flag) else flag for flag in flags]
        self._check_flags(flags)
        states = [flag in self._format.labeled for flag in flags]
        self._check_count(entry, states.count(True), len(flags) - flags.count(0))
        labeled = np.array(states)
        if True not in states:
            return self._unlabeled, labeled
        if not is_near:
            triples[:, 2] = flags
            _move_unlabeled(triples, labeled, farthest)
        return triples, labeled

    def _check_flags(self, flags: Iterable[float]) -> None:
        """Raise an error about visibility flags that the dataset does not have."""
        known = self._format.known
        unknown = set() if known is None else {*flags} - known - {0}
        if unknown:
            raise ValueError(
                f"unknown visibility flag {min(unknown):g} of a keypoint; add it to "
                "visibility_flags of the dataset spec"
            )

    def _check_count(self, entry: Mapping[str, Any], labeled: int, flagged: int) -> None:
        """Count a `num_keypoints` that is neither the number of labeled nor of nonzero flags."""
        stated = entry.get("num_keypoints")
        if stated is None or not self._format.uses_all_annotated:
            return
        if to_integer(stated) not in (labeled, flagged):
            self._repairs["wrong values of num_keypoints, replaced by the count of flags"] += 1

    def _annotated_box(self, entry: Mapping[str, Any], farthest: float) -> tuple[Box, str]:
        """Return the annotated box and an empty text; or an empty box and what is wrong with it."""
        try:
            layout = "x, y, width, height"
            x, y, width, height = _floats(
                "bbox", entry.get("bbox"), 4, layout, self._repairs
            ).tolist()
        except ValueError as error:
            return _NO_BOX, str(error)
        edges = (x, y, width, height, x + width, y + height)
        if not all(abs(edge) <= farthest for edge in edges):
            return _NO_BOX, "bbox is far outside of the image or not finite"
        return (x, y, width, height), ""

    def _annotated_area(self, entry: Mapping[str, Any]) -> float | None:
        """Return the annotated area, or None if it is missing or invalid."""
        value = entry.get("area")
        if value is None:
            return None
        try:
            area = float(_floats("area", [value], 1, "", self._repairs)[0])
        except ValueError:
            return None
        return area if 0 <= area < math.inf else None

    def _derived_box(
        self, box: Box, problem: str, extent: Extent | None, points: NDArray[np.float64]
    ) -> Box:
        """Derive a box from the segmentation, or else from the labeled keypoints.

        Raises:
            ValueError: There is neither, and the annotated box is invalid.
        """
        around = _box_around(points) if len(points) else _NO_BOX
        if extent is not None:
            box, source = extent.box, "the segmentation"
        elif not _is_empty(around):
            box, source = around, "the labeled keypoints"
        elif not problem:
            return box
        elif len(points):  # one keypoint, or several in a line: an empty box at their position
            return around
        else:
            raise ValueError(problem)
        self._repairs[f"missing or empty boxes, replaced by the box of {source}"] += 1
        return box

    def _derived_area(
        self, area: float | None, box: Box, extent: Extent | None, *, is_labeled: bool
    ) -> float:
        """Derive an area from the segmentation, or else from the box."""
        state = "missing areas" if area is None else "areas of 0"
        if extent is not None:
            area, source = extent.area, "segmentation"
        else:
            area, source = max(box[2], 0) * max(box[3], 0), "box"
        if area:
            self._repairs[f"{state}, replaced by the area of the {source}"] += 1
        elif is_labeled:
            self._repairs["people with an area of 0, which no pose can match (OKS 0)"] += 1
        return area


def _move_unlabeled(
    triples: NDArray[np.float64], labeled: NDArray[np.bool_], farthest: float
) -> None:
    """Move keypoints that are far outside of the image or not finite to (0, 0), in place.

    Raises:
        ValueError: One of them is labeled.
    """
    is_near = np.abs(triples[:, :2]).max(axis=1) <= farthest
    if not is_near[labeled].all():
        raise ValueError("keypoints: a labeled one is far outside of the image or not finite")
    triples[~is_near, :2] = 0


def _is_crowd(entry: Mapping[str, Any]) -> bool:
    """Read `iscrowd`, which is 0 if missing."""
    value = entry.get("iscrowd")
    flag = 0 if value is None else int(value) if isinstance(value, bool) else to_integer(value)
    if flag not in (0, 1):
        raise ValueError(f"iscrowd must be 0 or 1, got {shorten(value)}")
    return bool(flag)


def _compact(segmentation: Any) -> Any:
    """Convert polygons to arrays, a quarter of the size of lists; keep anything else."""
    if not isinstance(segmentation, list):
        return segmentation
    if not all(isinstance(points, list) and _are_numbers(points) for points in segmentation):
        return segmentation
    try:
        return [np.array(points, np.float64) for points in segmentation]
    except OverflowError:
        return segmentation


def _measure(region: Region, height: int, width: int) -> Extent | None:
    """Measure a region; None if it is empty or invalid."""
    try:
        extent = Extent(*region.measure(height, width))
    except BodyPoseNetError:
        return None
    return extent if extent.area else None


def _is_empty(box: Box) -> bool:
    """Whether the width or height of a box (x, y, width, height) is not positive."""
    return min(box[2:]) <= 0


def _box_around(points: NDArray[np.float64]) -> Box:
    """Return the smallest box that contains points, (N, 2)."""
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right - left, bottom - top


def _floats(
    key: str, values: Any, count: int, layout: str, repairs: Counter[str]
) -> NDArray[np.float64]:
    """Convert a list to (count,) float64; null becomes NaN, text is parsed.

    `layout` describes the numbers in error messages.

    Raises:
        ValueError: The value is not a list of this many numbers.
    """
    if not isinstance(values, list):
        raise ValueError(f"{key} must be a list of numbers, got {shorten(values)}")
    if len(values) != count:
        raise ValueError(f"{key}: expected {count} numbers ({layout}), got {len(values)}")
    if not _are_numbers(values):
        values = [_float(key, value) for value in values]
        repairs["boxes, areas and lists of keypoints with text or null"] += 1
    try:
        return np.array(values, np.float64)
    except OverflowError as error:
        raise ValueError(f"{key} has a number that is too large") from error


def _are_numbers(values: Collection[Any]) -> bool:
    """Return whether all values are JSON numbers, which a bool is not."""
    return _NUMBERS.issuperset(map(type, values))


def _float(key: str, value: Any) -> float | int:
    """Convert a number, the text of one, or null (NaN)."""
    if value is None:
        return math.nan
    if type(value) in _NUMBERS:
        return value
    try:
        return float(value if isinstance(value, str) else "")
    except ValueError as error:
        raise ValueError(f"{key} must contain numbers only, got {shorten(value)}") from error
