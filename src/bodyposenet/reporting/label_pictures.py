"""Pictures of annotated people: photos with joints, limbs, boxes and masks as shapes over them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.coco import CocoImage
from bodyposenet.data.masks import MaskRegions, draw_mask
from bodyposenet.geometry import Affine
from bodyposenet.reporting.html import Markup, layered_image, quantity, shape, shape_group
from bodyposenet.reporting.image_regions import Region, read_region
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import MASK_VALID, Person, Visibility

LAYERS = {"pose": "joints and limbs", "box": "boxes", "mask": "masks"}
"""CSS class of each layer of the pictures -> its title."""

_MAX_ENLARGEMENT = 6.0
_MARGIN = 0.3
"""Margin around a person, relative to the person's size."""
_MIN_REGION = 48
"""Shortest side of a region of an image, in pixels."""
_WHOLE_IMAGE = 0.5
"""If the area of a region is larger than this share of the image, the whole image is shown."""
_FAR = 0.3
"""People whose extent is smaller than this, relative to the picture, are drawn with thin lines."""
_CONTOUR_TOLERANCE = 0.7
"""Largest distance of the simplified contours of a mask from the mask, in pixels."""
_LIGHTER = 0.55
"""Share of white in the color of a joint."""


@dataclass(frozen=True, eq=False)
class SamplePicture:
    """A training sample as the network sees it, with its target maps.

    Args:
        name: Caption.
        image: (H, W, 3) uint8 RGB, after augmentation.
        mask: (H, W) uint8, 0 where the loss is not computed.
        keypoints: (P, K, 2) float32, in pixels of the image.
        labeled: (P, K) bool.
        heatmaps: (H, W, 3) uint8 RGB, the target heatmaps over the image.
        pafs: (H, W, 3) uint8 RGB, the target PAFs over the image.
    """

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    labeled: NDArray[np.bool_]
    heatmaps: NDArray[np.uint8]
    pafs: NDArray[np.uint8]

    def render(self, skeleton: Skeleton) -> list[Markup]:
        """Return the picture with its labels, the heatmaps and the PAFs.

        Args:
            skeleton: Skeleton of the network.
        """
        shapes = list(_mask_shapes(self.mask))
        side = max(self.image.shape[:2])
        nothing_occluded = np.zeros(len(skeleton.joints), bool)
        for points, labeled in zip(self.keypoints.astype(np.float64), self.labeled, strict=True):
            points = np.where(labeled[:, None], points, np.nan)
            shapes += _pose_shapes(points, nothing_occluded, skeleton, side)
        height, width = self.image.shape[:2]
        inside = (self.keypoints >= 0) & (self.keypoints < (width, height))
        people = int((self.labeled & inside.all(axis=2)).any(axis=1).sum())
        labeled_people = quantity(people, "person", "people")
        return [
            layered_image(self.image, shapes, self.name, f"{labeled_people} with labels"),
            layered_image(self.heatmaps, [], "heatmaps"),
            layered_image(self.pafs, [], "PAFs"),
        ]


@dataclass(frozen=True, eq=False)
class LabelPainter:
    """Renders annotated images of a dataset.

    Args:
        folder: Folder of the images.
        skeleton: Joints of the dataset, in its order, and limbs.
        visibility: Meaning of the visibility flags.
    """

    folder: Path
    skeleton: Skeleton
    visibility: Mapping[int, Visibility]

    def whole(self, image: CocoImage, details: str) -> Markup:
        """Return a picture of an image with all its people.

        Args:
            image: The image.
            details: Second line of the caption.

        Raises:
            BodyPoseNetError: The image cannot be read.
        """
        region = Region(0, 0, image.width, image.height)
        return self._render(image, region, image.file_name, details)

    def suspects(
        self, image: CocoImage, ids: Collection[int], joints: Collection[str], caption: str,
    ) -> Markup:  # fmt: skip
        """Return a picture of some people of an image, with the other people pale.

        Args:
            image: The image.
            ids: Annotation ids of the people.
            joints: Names of the joints that are marked.
            caption: First line of the caption; the second one has the image and the ids.

        Raises:
            BodyPoseNetError: The image cannot be read.
        """
        people = [person for person in image.persons if person.annotation_id in ids]
        region = _region_of(image, [self._points(person) for person in people], people)
        listed = ", ".join(map(str, sorted(ids)))
        details = f"{image.file_name}, annotation {listed}" if ids else image.file_name
        return self._render(image, region, caption, details, ids, joints)

    def _render(
        self, image: CocoImage, region: Region, caption: str, details: str,
        ids: Collection[int] = (), joints: Collection[str] = (),
    ) -> Markup:  # fmt: skip
        """Render a region."""
        path, image_size = self.folder / image.file_name, (image.height, image.width)
        picture, to_picture = read_region(path, image_size, region, _MAX_ENLARGEMENT)
        size = picture.shape[:2]
        mask = draw_mask(MaskRegions.from_image(image))
        shapes = list(_mask_shapes(to_picture.warp(mask, *size, outside=MASK_VALID)))
        for person in image.persons:
            shapes += self._person_shapes(person, to_picture, max(size), ids, joints)
        return layered_image(picture, shapes, caption, details)

    def _person_shapes(
        self, person: Person, to_picture: Affine, side: int, ids: Collection[int],
        joints: Collection[str],
    ) -> Iterator[Markup]:  # fmt: skip
        """Yield the box and the pose of a person."""
        x, y, width, height = person.box
        corners = to_picture.apply(np.array([[x, y], [x + width, y + height]]) - 0.5)
        (left, top), (right, bottom) = corners.tolist()
        kind = "crowd" if person.is_crowd else f"{person.num_keypoints} labeled joints"
        is_suspect = person.annotation_id in ids
        box = shape(
            f"M{left:.1f} {top:.1f}H{right:.1f}V{bottom:.1f}H{left:.1f}z", "box",
            tooltip=f"annotation {person.annotation_id}: {kind}",
        )  # fmt: skip
        points = to_picture.apply(self._points(person))
        marked = [self.skeleton.joints.index(name) for name in joints] if is_suspect else []
        pose = _pose_shapes(points, self._occluded(person), self.skeleton, side, marked)
        if ids and not is_suspect:
            yield shape_group("faded", [box, *pose])
        else:
            yield from (box, *pose)

    def _points(self, person: Person) -> NDArray[np.float64]:
        """Return (D, 2) joints in image pixels, NaN where a joint is not labeled."""
        labeled = [flag for flag, meaning in self.visibility.items() if meaning.is_labeled]
        is_labeled = np.isin(person.keypoints[:, 2], labeled)
        return np.where(is_labeled[:, None], person.keypoints[:, :2], np.nan)

    def _occluded(self, person: Person) -> NDArray[np.bool_]:
        """Return (D,) whether each joint is labeled but not visible."""
        flags = [f for f, m in self.visibility.items() if m is not Visibility.VISIBLE]
        return np.isin(person.keypoints[:, 2], flags)


def _region_of(
    image: CocoImage, points: Sequence[NDArray[np.float64]], people: Sequence[Person]
) -> Region:
    """Return a square region around people, or the image if it is similar.

    The region can extend beyond the image by half of the image's size, to show joints outside of
    it.
    """
    whole = Region(0, 0, image.width, image.height)
    if not people:
        return whole
    boxes = np.array([person.box for person in people])
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:], *points])
    corners = corners[~np.isnan(corners[:, 0])]
    low, high = corners.min(axis=0), corners.max(axis=0)
    extent = max(float((high - low).max()), _MIN_REGION)
    margin, half = _MARGIN * extent, (0.5 + _MARGIN) * extent
    center, size = (low + high) / 2, np.array([image.width, image.height], np.float64)
    # Of the surroundings of the image, only those near joints outside of it are shown.
    first = np.where(low < 0, np.maximum(low - margin, -size / 2), 0)
    last = np.where(high > size, np.minimum(high + margin, 1.5 * size), size)
    low = np.clip(center - half, first, size - 1)
    high = np.clip(center + half, low + 1, last)
    is_inside = (first == 0).all() and (last == size).all()
    if is_inside and (high - low).prod() > _WHOLE_IMAGE * size.prod():
        return whole
    return Region(*low.tolist(), *(high - low).tolist())


def _pose_shapes(
    points: NDArray[np.float64], occluded: NDArray[np.bool_], skeleton: Skeleton, side: int,
    marked: Sequence[int] = (),
) -> list[Markup]:  # fmt: skip
    """Return the limbs and joints of a person as a group, or nothing without labeled joints.

    Args:
        points: (D, 2) joints in picture pixels, NaN where a joint is not labeled.
        occluded: (D,) bool, joints that are drawn as rings.
        skeleton: Joints and limbs.
        side: Longer side of the picture in pixels.
        marked: Indices of joints that are marked as suspicious.
    """
    labeled = ~np.isnan(points[:, 0])
    if not labeled.any():
        return []
    dots = {
        k: f"M{points[k, 0]:.1f} {points[k, 1]:.1f}h0" for k in np.flatnonzero(labeled).tolist()
    }
    lines = {
        k: f"M{points[a, 0]:.1f} {points[a, 1]:.1f}L{points[b, 0]:.1f} {points[b, 1]:.1f}"
        for k, (a, b) in enumerate(skeleton.limbs)
        if labeled[a] and labeled[b]
    }
    shapes = [shape("".join(dots[k] for k in marked if k in dots), "suspect")] if marked else []
    shapes.append(shape("".join(lines.values()), "halo"))
    shapes += [shape(path, "limb", color=_hex(skeleton.colors[k])) for k, path in lines.items()]
    colors = _joint_colors(skeleton)
    for joint, path in dots.items():
        state = ", occluded" if occluded[joint] else ""
        tooltip = skeleton.joints[joint].replace("_", " ") + state
        shapes.append(shape(path, "joint", color=colors[joint], tooltip=tooltip))
        if occluded[joint]:
            shapes.append(shape(path, "occluded"))
    extent = float(np.ptp(points[labeled], axis=0).max())
    return [shape_group("pose far" if extent < _FAR * side else "pose", shapes)]


def _mask_shapes(mask: NDArray[np.uint8]) -> Iterator[Markup]:
    """Yield the contours of the regions that the loss excludes, of a (H, W) mask."""
    excluded = (mask < MASK_VALID // 2).astype(np.uint8)
    contours, _ = cv2.findContours(excluded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    paths = []
    for contour in contours:
        points = cv2.approxPolyDP(contour, _CONTOUR_TOLERANCE, closed=True)[:, 0].tolist()
        paths.append("M" + "L".join(f"{x} {y}" for x, y in points) + "z")
    if paths:
        yield shape("".join(paths), "mask", tooltip="excluded from the loss")


def _joint_colors(skeleton: Skeleton) -> list[str]:
    """Return a light tint of the color of a limb that ends in each joint."""
    colors = []
    for joint in range(len(skeleton.joints)):
        limbs = [k for k, limb in enumerate(skeleton.limbs) if joint in limb]
        sides = [k for k in limbs if skeleton.limbs[k][1] == joint] or limbs
        base = np.array(skeleton.colors[sides[0]] if sides else (255, 255, 255))
        red, green, blue = (base + _LIGHTER * (255 - base)).round().astype(int).tolist()
        colors.append(_hex((red, green, blue)))
    return colors


def _hex(color: tuple[int, int, int]) -> str:
    """Format an RGB color for HTML."""
    return "#{:02x}{:02x}{:02x}".format(*color)
