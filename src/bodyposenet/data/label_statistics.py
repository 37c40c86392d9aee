"""Statistics of annotated people: how many, how large, which joints are labeled, limb lengths.

`bpnet browse` plots them, and `data.label_checks` finds suspicious labels in the same arrays.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.coco import CocoImage
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Person


@dataclass(frozen=True, eq=False)
class LabeledPeople:
    """The people with labeled keypoints of a dataset, without crowds, as arrays.

    Args:
        images: Image of each of the P people.
        persons: The people, in the order of the dataset.
        points: (P, D, 2) float64, x and y in image pixels, NaN where a joint is not labeled.
        boxes: (P, 4) float64, x, y, width, height in image pixels.
        image_sizes: (P, 2) float64, width and height of each person's image in pixels.
    """

    images: tuple[CocoImage, ...]
    persons: tuple[Person, ...]
    points: NDArray[np.float64]
    boxes: NDArray[np.float64]
    image_sizes: NDArray[np.float64]

    @classmethod
    def collect(
        cls, images: Sequence[CocoImage], joints: int, labeled_flags: Collection[int]
    ) -> LabeledPeople:
        """Collect the labeled people of images.

        Args:
            images: Annotated images.
            joints: Number D of joints.
            labeled_flags: Visibility flags that mean "labeled".
        """
        pairs = [(image, person) for image in images for person in image.persons]
        pairs = [(image, person) for image, person in pairs if person.is_labeled]
        keypoints = np.array([person.keypoints for _, person in pairs]).reshape(-1, joints, 3)
        labeled = np.isin(keypoints[..., 2], list(labeled_flags))
        return cls(
            tuple(image for image, _ in pairs),
            tuple(person for _, person in pairs),
            np.where(labeled[..., None], keypoints[..., :2], np.nan),
            np.array([person.box for _, person in pairs]).reshape(-1, 4),
            np.array([(image.width, image.height) for image, _ in pairs], np.float64).reshape(
                -1, 2
            ),
        )

    def __len__(self) -> int:
        return len(self.persons)

    @cached_property
    def labeled(self) -> NDArray[np.bool_]:
        """(P, D) whether each joint is labeled."""
        return ~np.isnan(self.points[..., 0])

    @cached_property
    def sizes(self) -> NDArray[np.float64]:
        """(P,) longer side of each person's box in pixels, at least 1."""
        return np.maximum(self.boxes[:, 2:].max(axis=1, initial=0), 1.0)

    def limb_lengths(self, skeleton: Skeleton) -> NDArray[np.float64]:
        """Return the (P, L) lengths of limbs in pixels, NaN where a joint is not labeled."""
        starts, ends = np.array(skeleton.limbs, np.intp).reshape(-1, 2).T
        return np.linalg.norm(self.points[:, starts] - self.points[:, ends], axis=2)


@dataclass(frozen=True, eq=False)
class LabelStatistics:
    """Statistics of the annotations of a dataset.

    Args:
        skeleton: Joints of the dataset, and the limbs between them.
        people_per_image: (I,) int64, number of people in each image, without crowds.
        image_sizes: (I, 2) int64, width and height of each image in pixels.
        crowds: Number of crowd regions.
        unlabeled_people: Number of people without labeled keypoints, who are masked in training.
        joint_counts: (D,) int64, number of people in whom each joint is labeled.
        joints_per_person: (P,) int64, number of labeled joints of each labeled person.
        person_sizes: (P,) float64, longer side of the box of each labeled person in pixels.
        relative_sizes: (P,) float64, the same relative to the longer side of the image.
        limb_lengths: (P, L) float64, length of each limb relative to the person's size, NaN where
            a joint is not labeled.
    """

    skeleton: Skeleton
    people_per_image: NDArray[np.int64]
    image_sizes: NDArray[np.int64]
    crowds: int
    unlabeled_people: int
    joint_counts: NDArray[np.int64]
    joints_per_person: NDArray[np.int64]
    person_sizes: NDArray[np.float64]
    relative_sizes: NDArray[np.float64]
    limb_lengths: NDArray[np.float64]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.people_per_image)

    @property
    def people(self) -> int:
        """Number of people, without crowds."""
        return int(self.people_per_image.sum())

    @property
    def labeled_people(self) -> int:
        """Number of people with labeled keypoints."""
        return len(self.person_sizes)

    @property
    def median_limb_lengths(self) -> NDArray[np.float64]:
        """(L,) median length of each limb relative to the person's size; NaN if never labeled."""
        return column_medians(self.limb_lengths)


def label_statistics(
    images: Sequence[CocoImage], skeleton: Skeleton, labeled_flags: Collection[int]
) -> LabelStatistics:
    """Compute the statistics of annotated images.

    Args:
        images: Annotated images.
        skeleton: Joints of the dataset, in its order, and limbs; see `data.dataset_skeleton`.
        labeled_flags: Visibility flags that mean "labeled".

    Returns:
        The statistics.
    """
    people = LabeledPeople.collect(images, len(skeleton.joints), labeled_flags)
    labeled, sizes = people.labeled, people.sizes
    persons = [person for image in images for person in image.persons]
    return LabelStatistics(
        skeleton,
        np.array([sum(not p.is_crowd for p in image.persons) for image in images], np.int64),
        np.array([(image.width, image.height) for image in images], np.int64).reshape(-1, 2),
        crowds=sum(person.is_crowd for person in persons),
        unlabeled_people=sum(not p.is_crowd and not p.is_labeled for p in persons),
        joint_counts=labeled.sum(axis=0),
        joints_per_person=labeled.sum(axis=1),
        person_sizes=sizes,
        relative_sizes=sizes / people.image_sizes.max(axis=1, initial=1),
        limb_lengths=people.limb_lengths(skeleton) / sizes[:, None],
    )


def column_medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of each column of (N, M) values without NaN; NaN for empty columns."""
    counts = np.count_nonzero(~np.isnan(values), axis=0)
    ordered = np.sort(values, axis=0)  # NaN last
    ranks = np.stack([np.maximum(counts - 1, 0) // 2, counts // 2])
    if not len(values):
        return np.full(values.shape[1], np.nan)
    middle = np.take_along_axis(ordered, np.minimum(ranks, len(values) - 1), axis=0)
    return np.where(counts > 0, middle.mean(axis=0), np.nan)
