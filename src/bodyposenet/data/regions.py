"""Regions of images as COCO's polygons or run-length encodings, rasterized by COCO's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.types import Person

MAX_DISTANCE = 10
"""Regions, boxes and keypoints farther away than so many image sizes are errors: the time that
drawing takes grows with the distance."""

_LONGEST = 2_000_000
"""Pixels around a polygon; drawing takes some 40 bytes for each."""


@dataclass(frozen=True)
class Region:
    """The area of one annotation.

    Args:
        annotation_id: Of the annotation, to name it in errors.
        outline: Polygons [[x, y, x, y, ...], ...], lists or arrays, or a dict with COCO's RLE.
        is_box: There is no segmentation, the outline is the box.
    """

    annotation_id: int
    outline: list[Any] | dict[str, Any]
    is_box: bool

    @classmethod
    def from_person(cls, person: Person) -> Region:
        """The segmentation of a person, or the box where there is none."""
        outlined = cls.from_segmentation(person.annotation_id, person.segmentation)
        if outlined is not None:
            return outlined
        x, y, width, height = person.box
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        return cls(person.annotation_id, [corners], is_box=True)

    @classmethod
    def from_segmentation(cls, annotation_id: int, segmentation: Any) -> Region | None:
        """A segmentation; None where there is none: polygons need three points."""
        outline = segmentation
        if isinstance(outline, list):
            outline = [
                points
                for points in outline
                if isinstance(points, list | np.ndarray) and len(points) > 5
            ]
        return cls(annotation_id, outline, is_box=False) if outline else None

    def measure(self, height: int, width: int) -> tuple[float, tuple[float, float, float, float]]:
        """The area in pixels and the box (x, y, width, height) of what lies within an image.

        Raises:
            BodyPoseNetError: As `rasterize_regions`.
        """
        encoded = _encode_region(self, height, width)
        x, y, columns, rows = coco_mask.toBbox(encoded).tolist()
        return float(coco_mask.area(encoded)), (x, y, columns, rows)


def rasterize_regions(regions: Sequence[Region], height: int, width: int) -> NDArray[np.bool_]:
    """Where any of the regions is, by COCO's own rasterizing.

    Returns:
        (height, width) bool.

    Raises:
        BodyPoseNetError: A segmentation is broken, or a box lies far outside.
    """
    if not regions:
        return np.zeros((height, width), bool, order="F")
    encoded = [_encode_region(region, height, width) for region in regions]
    return coco_mask.decode(coco_mask.merge(encoded)).view(bool)


def _encode_region(region: Region, height: int, width: int) -> dict[str, Any]:
    """COCO's RLE of a region."""
    try:
        if isinstance(region.outline, list):
            polygons = [_polygon(points, height, width) for points in region.outline]
            parts = coco_mask.frPyObjects(polygons, height, width)
            return coco_mask.merge(parts)  # type: ignore[arg-type]  # a list, of a list
        rle = region.outline
        if list(rle["size"]) != [height, width]:
            raise ValueError(f"its size is {rle['size']}, the image's [{height}, {width}]")
        if isinstance(rle["counts"], list):
            rle = coco_mask.frPyObjects(rle, height, width)
        coco_mask.decode(rle)  # finds runs that do not fill the image; merging does not
        return rle  # type: ignore[return-value]  # a dict, of a dict
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        outline = "box" if region.is_box else "segmentation"
        raise BodyPoseNetError(
            f"annotation {region.annotation_id}: its {outline} is broken: {error}",
            "Correct it in the annotation file, or take it out.",
        ) from error


def _polygon(points: Any, height: int, width: int) -> list[float]:
    numbers = np.array(points, np.float64)
    if numbers.ndim != 1 or len(numbers) % 2:
        raise ValueError(f"a polygon of {len(points)} numbers has no x and y for each point")
    if not np.abs(numbers).max() <= MAX_DISTANCE * max(height, width):
        raise ValueError("it lies far outside of the image, or holds NaN")
    corners = numbers.reshape(-1, 2)
    if np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum() > _LONGEST:
        raise ValueError(f"a polygon is more than {_LONGEST:,} pixels around")
    return numbers.tolist()
