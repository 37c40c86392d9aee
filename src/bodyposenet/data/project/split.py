"""Split annotated images into training and validation images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bodyposenet.data.coco import CocoImage
from bodyposenet.errors import BodyPoseNetError


def split_images(
    images: Sequence[CocoImage], share: float
) -> tuple[list[CocoImage], list[CocoImage]]:
    """Split images; images with and without labeled people are split separately.

    The choice depends on the file names only, through a hash: it is the same at every run, and
    images that are added later change it little.

    Args:
        images: Annotated images.
        share: Share of the validation images, from 0 to 1.

    Returns:
        Training images and validation images, in their order; both have labeled people.

    Raises:
        BodyPoseNetError: There are fewer than two images with labeled people.
    """
    labeled = [image for image in images if any(p.is_labeled for p in image.persons)]
    others = [image for image in images if not any(p.is_labeled for p in image.persons)]
    if len(labeled) < 2:
        raise BodyPoseNetError(
            f"{len(labeled)} images with labeled people: at least two are needed, one of them to "
            "measure the accuracy",
            "Annotate more images, or give the validation data with --val_annotations.",
        )
    count = min(max(round(share * len(labeled)), 1), len(labeled) - 1)
    chosen = {*_first_by_hash(labeled, count), *_first_by_hash(others, round(share * len(others)))}
    return (
        [image for image in images if image.file_name not in chosen],
        [image for image in images if image.file_name in chosen],
    )


def _first_by_hash(images: Sequence[CocoImage], count: int) -> list[str]:
    """Return the file names with the smallest hashes."""

    def _hash(name: str) -> bytes:
        return hashlib.sha256(name.encode(errors="surrogatepass")).digest()

    return sorted((image.file_name for image in images), key=_hash)[:count]
