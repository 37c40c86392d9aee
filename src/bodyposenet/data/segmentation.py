"""Rasterize and measure segmentations (polygons, RLE) and boxes by COCO's rules.

COCO's implementation is imported where it is used: only the extra `eval` installs it, but every
command that reads annotations or writes them in the format of a tool imports this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.types import Person

MAX_RELATIVE_COORDINATE = 10
"""Largest allowed coordinate of regions, boxes and keypoints, as a multiple of the longer side of
the image, because the time for rasterizing grows with the coordinates."""

_MAX_PERIMETER = 2_000_000
"""Largest allowed perimeter of a polygon in pixels; rasterizing needs about 40 bytes per pixel."""


@dataclass(frozen=True)
class Region:
    """The area of one annotation.

    Args:
        annotation_id: Id of the annotation, for error messages.
        outline: Polygons [[x, y, x, y, ...], ...] as lists or arrays, or a dict with COCO's RLE.
        is_box: Whether the outline is the box, because there is no segmentation.
    """

    annotation_id: int
    outline: list[Any] | dict[str, Any]
    is_box: bool

    @classmethod
    def from_person(cls, person: Person) -> Region:
        """Return the region of a person's segmentation, or of the box if there is none."""
        region = cls.from_segmentation(person.annotation_id, person.segmentation)
        if region is not None:
            return region
        x, y, width, height = person.box
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        return cls(person.annotation_id, [corners], is_box=True)

    @classmethod
    def from_segmentation(cls, annotation_id: int, segmentation: Any) -> Region | None:
        """Return the region of a segmentation, or None if it has no polygon of three points."""
        outline = segmentation
        if isinstance(outline, list):
            outline = [
                points
                for points in outline
                if isinstance(points, list | np.ndarray) and len(points) > 5
            ]
        return cls(annotation_id, outline, is_box=False) if outline else None

    def measure(self, height: int, width: int) -> tuple[float, tuple[float, float, float, float]]:
        """Measure the part of the region inside of an image.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.

        Returns:
            Area in pixels, and box (x, y, width, height).

        Raises:
            BodyPoseNetError: As `rasterize_regions`.
        """
        from faster_coco_eval.core import mask as coco_mask

        encoded = _encode_region(self, height, width)
        x, y, columns, rows = coco_mask.toBbox(encoded).tolist()
        return float(coco_mask.area(encoded)), (x, y, columns, rows)


def rasterize_regions(regions: Sequence[Region], height: int, width: int) -> NDArray[np.bool_]:
    """Rasterize the union of regions with COCO's implementation.

    Args:
        regions: The regions.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        (height, width) bool.

    Raises:
        BodyPoseNetError: A segmentation is invalid, or a box is far outside of the image.
    """
    from faster_coco_eval.core import mask as coco_mask

    if not regions:
        return np.zeros((height, width), bool, order="F")
    encoded = [_encode_region(region, height, width) for region in regions]
    return coco_mask.decode(coco_mask.merge(encoded)).view(bool)


def _encode_region(region: Region, height: int, width: int) -> dict[str, Any]:
    """Encode a region as COCO's RLE."""
    from faster_coco_eval.core import mask as coco_mask

    try:
        if isinstance(region.outline, list):
            polygons = [_polygon(points, height, width) for points in region.outline]
            parts = coco_mask.frPyObjects(polygons, height, width)
            return coco_mask.merge(parts)  # type: ignore[arg-type]  # a list, of a list
        rle = region.outline
        if list(rle["size"]) != [height, width]:
            raise ValueError(f"expected the image size [{height}, {width}], got {rle['size']}")
        if isinstance(rle["counts"], list):
            rle = coco_mask.frPyObjects(rle, height, width)
        coco_mask.decode(rle)  # checks that the runs fill the image; merge() does not
        return rle  # type: ignore[return-value]  # a dict, of a dict
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        outline = "box" if region.is_box else "segmentation"
        raise BodyPoseNetError(
            f"annotation {region.annotation_id}: invalid {outline}: {error}",
            "Correct it in the annotation file, or remove it.",
        ) from error


def _polygon(points: Any, height: int, width: int) -> list[float]:
    """Check the coordinates of a polygon and convert them to floats.

    Raises:
        ValueError: The polygon is invalid or too large.
    """
    numbers = np.array(points, np.float64)
    if numbers.ndim != 1 or len(numbers) % 2:
        raise ValueError(f"expected pairs of x and y, got a polygon of {len(points)} values")
    if not np.abs(numbers).max() <= MAX_RELATIVE_COORDINATE * max(height, width):
        raise ValueError("coordinates are far outside of the image or NaN")
    corners = numbers.reshape(-1, 2)
    if np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum() > _MAX_PERIMETER:
        raise ValueError(f"perimeter of a polygon exceeds {_MAX_PERIMETER:,} pixels")
    return numbers.tolist()
