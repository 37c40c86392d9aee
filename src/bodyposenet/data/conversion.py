"""Choose the training records of annotated images, and write TFRecord files.

See the TAO reference, section 3.
"""

from __future__ import annotations

import math
import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TypeVar

import numpy as np

from bodyposenet.console import logger, progress
from bodyposenet.data.coco import CocoImage
from bodyposenet.data.records import write_records
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file, is_folder
from bodyposenet.specs.dataset import DatasetSpec, FilteringParams, Split
from bodyposenet.types import Person, Record


@dataclass(frozen=True, eq=False)
class Anchor:
    """An image, and the person that a record of it is centred on.

    Args:
        image: The image.
        person_index: Index of the person among the image's people.
    """

    image: CocoImage
    person_index: int


def find_anchors(
    images: Iterable[CocoImage], spec: DatasetSpec
) -> tuple[list[Anchor], Counter[str]]:
    """Choose what records to make: one per main person.

    Where `duplicate_data_with_each_person_as_center` is false it is one per image, centred on its
    first main person, or else on its first labelled person: the filters are about main persons.

    Args:
        images: The images, with their people.
        spec: The filters.

    Returns:
        The records to make, in the order of the images and people; what is left out -> how often.
    """
    anchors: list[Anchor] = []
    skipped: Counter[str] = Counter()
    for image in images:
        mains, filtered = choose_anchor_persons(image.persons, spec.data_filtering_params)
        skipped.update(filtered)
        if not spec.duplicate_data_with_each_person_as_center:
            skipped["main persons beside the first of their image"] += len(mains[1:])
            mains = mains[:1] or _labelled(image.persons)[:1]
        if not mains:
            skipped["images without a main person"] += 1
        anchors.extend(Anchor(image, index) for index in mains)
    return anchors, skipped


def choose_anchor_persons(
    persons: Sequence[Person], params: FilteringParams
) -> tuple[list[int], Counter[str]]:
    """Choose the people that records are centred on (TAO reference, section 3.2).

    The least area is height x width of the filter against the area of the segmentation, as in the
    original; people too close to one another are told by the larger side of the accepted one's box.

    Returns:
        Indices of the main persons, and why others are left out -> how many.
    """
    chosen: list[int] = []
    skipped: Counter[str] = Counter()
    least_area = params.min_acceptable_height * params.min_acceptable_width
    for index, person in enumerate(persons):
        if person.is_crowd:
            reason = "a crowd"
        elif person.num_keypoints < params.min_acceptable_kpts:
            reason = f"fewer than {params.min_acceptable_kpts:g} labelled keypoints"
        elif person.area < least_area:
            reason = (
                f"smaller than {least_area:g} pixels (min_acceptable_height x min_acceptable_width)"
            )
        elif min(person.box[2:]) <= 0:
            reason = "an empty box"
        elif any(_is_close(person, persons[other], params) for other in chosen):
            reason = "too close to another main person"
        else:
            chosen.append(index)
            continue
        skipped[f"people without a record of their own: {reason}"] += 1
    return chosen, skipped


def _is_close(person: Person, accepted: Person, params: FilteringParams) -> bool:
    reach = params.min_acceptable_interperson_dist_ratio * max(accepted.box[2:])
    return math.dist(person.center, accepted.center) < reach


def _labelled(persons: Sequence[Person]) -> list[int]:
    """Indices of the people that a record can be centred on at all."""
    return [i for i, p in enumerate(persons) if p.is_labelled and min(p.box[2:]) > 0]


def make_record(anchor: Anchor, dataset: str, split: Split) -> Record:
    """The record of a anchor: its main person first, then all others with labelled keypoints.

    Args:
        anchor: Image and main person.
        dataset: Name of the dataset.
        split: Names the folders of images and masks.
    """
    image = anchor.image
    others = [p for i, p in enumerate(image.persons) if i != anchor.person_index and p.is_labelled]
    persons = [image.persons[anchor.person_index], *others]
    return Record(
        image_id=image.image_id,
        image_path=posixpath.join(split.images_root_dir_path, image.file_name),
        mask_path=posixpath.join(split.mask_root_dir_path, image.mask_name),
        height=image.height,
        width=image.width,
        dataset=dataset,
        joints=np.stack([person.keypoints for person in persons]),
        scales=np.array([person.box[3] for person in persons]),
        centers=np.array([person.center for person in persons]),
        person_index=anchor.person_index,
    )


def check_images_exist(images: Sequence[CocoImage], folder: Path) -> None:
    """Make sure that one image exists at least: records of files in another place are useless.

    Args:
        images: The images.
        folder: What their file names are relative to.

    Raises:
        BodyPoseNetError: There is none of them.
    """
    if images and not any(is_file(folder / image.file_name) for image in images):
        raise BodyPoseNetError(
            f"{folder}: has none of the {len(images)} images that the annotations name; the first "
            f"is {images[0].file_name}",
            "Check root_directory_path and images_root_dir_path of the dataset spec.",
        )


def check_mask_names(images: Iterable[CocoImage]) -> None:
    """Make sure that every image has a mask of its own.

    Raises:
        BodyPoseNetError: Names collide.
    """
    owners: dict[str, CocoImage] = {}
    for image in images:
        name = posixpath.normpath(image.mask_name)
        other = owners.setdefault(name, image)
        if other is not image:
            raise BodyPoseNetError(
                f"the images {other.image_id} ({other.file_name}) and {image.image_id} "
                f"({image.file_name}) would share the mask {name}",
                "Give the images file names that differ in more than the extension.",
            )


def check_mask_folder(root: Path, split: Split) -> None:
    """Make sure that no mask overwrites an image, be it one that nobody annotated.

    Args:
        root: Folder of the dataset.
        split: Names the folders of images and masks.

    Raises:
        BodyPoseNetError: Both are the same folder.
    """
    images, masks = root / split.images_root_dir_path, root / split.mask_root_dir_path
    there = is_folder(images) and is_folder(masks)
    if images.samefile(masks) if there else images.resolve() == masks.resolve():
        raise BodyPoseNetError(
            f"{masks}: is the folder of the images too; masks would overwrite images",
            "Give mask_root_dir_path of the dataset spec another folder.",
        )


def write_shards(
    output: Path,
    anchors: Sequence[Anchor],
    spec: DatasetSpec,
    split: Split,
    partitions: int,
    shards: int,
) -> dict[str, int]:
    """Write the records of the anchors.

    Args:
        output: Folder of the files, and how their names begin.
        anchors: What to make records of.
        spec: Gives the name of the dataset.
        split: Names the folders of images and masks.
        partitions: How many; see `distribute`.
        shards: Of each partition.

    Returns:
        How many people are in the records, and how many files there are.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    files = 0
    for partition, pieces in enumerate(distribute(anchors, partitions, shards)):
        for shard, piece in enumerate(pieces):
            path = shard_path(output, partition, partitions, shard, shards)
            records = (make_record(anchor, spec.dataset, split) for anchor in piece)
            written = write_records(path, progress(records, path.name, len(piece)))
            logger.info("%s: %d records", path, written)
            files += 1
    images = {anchor.image.image_id: anchor.image for anchor in anchors}
    people = sum(person.is_labelled for image in images.values() for person in image.persons)
    return {"people in records": people, "TFRecord files": files}


Item = TypeVar("Item")

_SEED = 42
"""TAO's own: the records come in the order that TAO writes them in."""


def distribute(items: Sequence[Item], partitions: int, shards: int) -> list[list[list[Item]]]:
    """Deal items out to partitions, shuffle each and cut it into shards, as TAO does.

    Args:
        items: What to distribute; item i goes to partition i mod `partitions`.
        partitions: How many; 0 means one.
        shards: Of each partition; 0 means one. The last one takes what is left over.

    Returns:
        Partitions of shards of items.
    """
    random = Random(_SEED)
    step, pieces = max(partitions, 1), max(shards, 1)
    result = []
    for number in range(step):
        partition = list(items[number::step])
        # Python's shuffle with a random function, which went with Python 3.11 (TAO reference,
        # section 3.6).
        for i in range(len(partition) - 1, 0, -1):
            j = int(random.random() * (i + 1))
            partition[i], partition[j] = partition[j], partition[i]
        size = len(partition) // pieces
        bounds = [*(size * k for k in range(pieces)), len(partition)]
        result.append([partition[start:end] for start, end in pairwise(bounds)])
    return result


def shard_path(output: Path, partition: int, partitions: int, shard: int, shards: int) -> Path:
    """Name of a shard's file: `<output>-fold-000-of-001-shard-00000-of-00004`.

    Without partitions (0) the fold is left out of it, without shards (0) the shard.
    """
    name = output.name
    if partitions:
        name += f"-fold-{partition:03d}-of-{partitions:03d}"
    if shards:
        name += f"-shard-{shard:05d}-of-{shards:05d}"
    return output.with_name(name)
