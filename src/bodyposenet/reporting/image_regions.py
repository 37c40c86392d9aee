"""Regions of images at the size of a picture in a report."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.geometry import Affine
from bodyposenet.media.images import read_image
from bodyposenet.types import PAD_VALUE

_MAX_SIDE = 480
"""Longest side of a picture in pixels."""


class Region(NamedTuple):
    """A part of an image, which can extend beyond it, in pixels of the annotated size."""

    x: float
    y: float
    width: float
    height: float


class RegionPicture(NamedTuple):
    """A region of an image, scaled.

    Args:
        pixels: (H, W, 3) uint8 RGB, gray outside of the image.
        to_picture: Map from pixels of the annotated size to those of the picture.
    """

    pixels: NDArray[np.uint8]
    to_picture: Affine


def read_region(
    path: str | Path, annotated_size: tuple[int, int], region: Region, max_scale: float
) -> RegionPicture:
    """Read a region of an image, scaled so that its longer side fits into a report.

    Args:
        path: The image file, which can have another size than the annotated one.
        annotated_size: Height and width of the image that coordinates refer to.
        region: The region.
        max_scale: Largest enlargement.

    Raises:
        BodyPoseNetError: The image cannot be read.
    """
    scale = min(_MAX_SIDE / max(region.width, region.height), max_scale)
    rows, columns = (max(round(side * scale), 1) for side in (region.height, region.width))
    image = read_image(path, annotated_size)
    height, width = annotated_size
    to_annotated = Affine.resize(width / image.shape[1], height / image.shape[0])
    to_picture = Affine.translation(-region.x, -region.y).then(Affine.resize(scale))
    pixels = to_annotated.then(to_picture).warp(image, rows, columns, outside=PAD_VALUE)
    return RegionPicture(pixels, to_picture)
