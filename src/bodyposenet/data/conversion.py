"""Convert annotated images to training records: choose anchor persons and write TFRecord files.

Each record is centered on one person of its image, the anchor person. See the TAO reference,
section 3.
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
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file, is_folder
from bodyposenet.specs.dataset import DatasetSpec, FilteringParams, Split
from bodyposenet.types import Person, Record

Item = TypeVar("Item")

_SEED = 42
"""TAO's seed: records are in the same order as in TAO's files."""


@dataclass(frozen=True, eq=False)
class Anchor:
    """An image and its anchor person, for one training record.

    Args:
        image: The image.
        person_index: Index of the anchor person among the people of the image.
    """

    image: CocoImage
    person_index: int


def find_anchors(
    images: Iterable[CocoImage], spec: DatasetSpec
) -> tuple[list[Anchor], Counter[str]]:
    """Choose the records to write.

    There is one record per anchor person. If `duplicate_data_with_each_person_as_center` is false,
    there is one per image, for its first anchor person, or else for its first labeled person.

    Args:
        images: Annotated images.
        spec: Dataset spec with the filters.

    Returns:
        Anchors in the order of the images and their people, and counts of what was skipped by
        reason.
    """
    anchors: list[Anchor] = []
    skipped: Counter[str] = Counter()
    for image in images:
        indices, filtered = choose_anchor_persons(image.persons, spec.data_filtering_params)
        skipped.update(filtered)
        if not spec.duplicate_data_with_each_person_as_center:
            skipped["anchor persons after the first one of their image"] += len(indices[1:])
            indices = indices[:1] or _labeled(image.persons)[:1]
        if not indices:
            skipped["images without an anchor person"] += 1
        anchors.extend(Anchor(image, index) for index in indices)
    return anchors, skipped


def choose_anchor_persons(
    persons: Sequence[Person], params: FilteringParams
) -> tuple[list[int], Counter[str]]:
    """Choose the people on whom records are centered (TAO reference, section 3.2).

    As in TAO, the product of minimum height and width is compared with the segmentation area. The
    minimum distance to an accepted person is relative to the longer side of that person's box.

    Args:
        persons: People of one image.
        params: Filters.

    Returns:
        Indices of the anchor persons, and numbers of the other people by reason.
    """
    chosen: list[int] = []
    skipped: Counter[str] = Counter()
    least_area = params.min_acceptable_height * params.min_acceptable_width
    for index, person in enumerate(persons):
        if person.is_crowd:
            reason = "a crowd"
        elif person.num_keypoints < params.min_acceptable_kpts:
            reason = f"fewer than {params.min_acceptable_kpts:g} labeled keypoints"
        elif person.area < least_area:
            reason = (
                f"smaller than {least_area:g} pixels (min_acceptable_height x min_acceptable_width)"
            )
        elif min(person.box[2:]) <= 0:
            reason = "an empty box"
        elif any(_is_close(person, persons[other], params) for other in chosen):
            reason = "too close to another anchor person"
        else:
            chosen.append(index)
            continue
        skipped[f"people who are not anchor persons: {reason}"] += 1
    return chosen, skipped


def _is_close(person: Person, accepted: Person, params: FilteringParams) -> bool:
    """Return whether a person is too close to an accepted anchor person."""
    reach = params.min_acceptable_interperson_dist_ratio * max(accepted.box[2:])
    return math.dist(person.center, accepted.center) < reach


def _labeled(persons: Sequence[Person]) -> list[int]:
    """Return the indices of labeled people with a non-empty box."""
    return [i for i, p in enumerate(persons) if p.is_labeled and min(p.box[2:]) > 0]


def make_record(anchor: Anchor, dataset: str, split: Split) -> Record:
    """Create a record: the anchor person first, then all others with labeled keypoints.

    Args:
        anchor: Image and anchor person.
        dataset: Name of the dataset.
        split: Folders of images and masks.

    Returns:
        The record.
    """
    image = anchor.image
    others = [p for i, p in enumerate(image.persons) if i != anchor.person_index and p.is_labeled]
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
    """Check that at least one image exists, as a guard against a wrong image folder.

    Args:
        images: Annotated images.
        folder: Image folder.

    Raises:
        BodyPoseNetError: No image exists.
    """
    if images and not any(is_file(folder / image.file_name) for image in images):
        raise BodyPoseNetError(
            f"{folder}: none of the {len(images)} annotated images found, for example "
            f"{images[0].file_name}",
            "Check root_directory_path and images_root_dir_path of the dataset spec.",
        )


def check_mask_names(images: Iterable[CocoImage]) -> None:
    """Check that no two images have the same mask file name.

    Args:
        images: Annotated images.

    Raises:
        BodyPoseNetError: Two images have the same mask file name.
    """
    by_name: dict[str, CocoImage] = {}
    for image in images:
        name = posixpath.normpath(image.mask_name)
        other = by_name.setdefault(name, image)
        if other is not image:
            raise BodyPoseNetError(
                f"images {other.image_id} ({other.file_name}) and {image.image_id} "
                f"({image.file_name}) have the same mask file name {name}",
                "Rename the images so that they differ in more than the extension.",
            )


def check_mask_folder(root: Path, split: Split) -> None:
    """Check that masks cannot overwrite images.

    Args:
        root: Root folder of the dataset.
        split: Folders of images and masks.

    Raises:
        BodyPoseNetError: Images and masks have the same folder.
    """
    images, masks = root / split.images_root_dir_path, root / split.mask_root_dir_path
    exist = is_folder(images) and is_folder(masks)
    if images.samefile(masks) if exist else images.resolve() == masks.resolve():
        raise BodyPoseNetError(
            f"{masks}: mask folder and image folder are the same; masks would overwrite images",
            "Set mask_root_dir_path of the dataset spec to another folder.",
        )


def write_shards(
    output: Path,
    anchors: Sequence[Anchor],
    spec: DatasetSpec,
    split: Split,
    partitions: int,
    shards: int,
) -> dict[str, int]:
    """Write the records of anchors to TFRecord files.

    Args:
        output: Path prefix of the files, see `shard_path`.
        anchors: Anchors, one per record.
        spec: Dataset spec.
        split: Folders of images and masks.
        partitions: Number of partitions, see `distribute`.
        shards: Number of shards per partition.

    Returns:
        Numbers of people in records and of files, by description.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    from bodyposenet.data.records import write_records  # needs packages of the extra `train`

    files = 0
    for partition, pieces in enumerate(distribute(anchors, partitions, shards)):
        for shard, piece in enumerate(pieces):
            path = shard_path(output, partition, partitions, shard, shards)
            records = (make_record(anchor, spec.dataset, split) for anchor in piece)
            written = write_records(path, progress(records, path.name, len(piece)))
            logger.info("%s: %d records", path, written)
            files += 1
    images = {anchor.image.image_id: anchor.image for anchor in anchors}
    people = sum(person.is_labeled for image in images.values() for person in image.persons)
    return {"people in records": people, "TFRecord files": files}


def distribute(items: Sequence[Item], partitions: int, shards: int) -> list[list[list[Item]]]:
    """Distribute items to partitions, shuffle each partition and split it into shards, as TAO does.

    Args:
        items: Items; item i goes to partition i mod `partitions`.
        partitions: Number of partitions; 0 means one.
        shards: Number of shards per partition; 0 means one. The last shard takes the remainder.

    Returns:
        List of partitions, each a list of shards, each a list of items.
    """
    random = Random(_SEED)
    step, pieces = max(partitions, 1), max(shards, 1)
    result = []
    for number in range(step):
        partition = list(items[number::step])
        # Same as random.shuffle(partition, random.random), whose second argument Python 3.11
        # removed (TAO reference, section 3.6).
        for i in range(len(partition) - 1, 0, -1):
            j = int(random.random() * (i + 1))
            partition[i], partition[j] = partition[j], partition[i]
        size = len(partition) // pieces
        bounds = [*(size * k for k in range(pieces)), len(partition)]
        result.append([partition[start:end] for start, end in pairwise(bounds)])
    return result


def shard_path(output: Path, partition: int, partitions: int, shard: int, shards: int) -> Path:
    """Return the path of a shard: `<output>-fold-000-of-001-shard-00000-of-00004`.

    Args:
        output: Path prefix.
        partition: Index of the partition.
        partitions: Number of partitions; 0 omits `-fold-...`.
        shard: Index of the shard in its partition.
        shards: Number of shards per partition; 0 omits `-shard-...`.

    Returns:
        The path.
    """
    name = output.name
    if partitions:
        name += f"-fold-{partition:03d}-of-{partitions:03d}"
    if shards:
        name += f"-shard-{shard:05d}-of-{shards:05d}"
    return output.with_name(name)
