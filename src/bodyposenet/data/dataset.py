"""Records in, samples out: draw one affine map, decode the image, warp image, mask and people.

What a sample looks like depends on (seed, epoch, index) only, so any number of workers gives the
same samples. What else there is to do, targets and colors, the training device does in batch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.data.augmentation import (
    augmentation_affine,
    color_matrix,
    sample_augmentation,
    sample_colors,
)
from bodyposenet.data.image_cache import ImageCache
from bodyposenet.data.masks import read_mask
from bodyposenet.data.photo_reader import PhotoReader, reduced_size, reduction_for
from bodyposenet.data.records import RecordSet
from bodyposenet.data.regions import MAX_DISTANCE
from bodyposenet.data.teacher_map_sampler import SampleMaps, TeacherMapSampler
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.skeleton import JointMap, Skeleton
from bodyposenet.specs.dataloader import AugmentationConfig, ColorAugParams
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.types import MASK_VALID, PAD_VALUE, Record

_MOST_TRIES = 10
"""So many samples in a row that cannot be read are no single broken files any more."""


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """Where the images of a dataset lie, and how its joints become the skeleton's.

    Args:
        root: Folder that the records' paths are relative to.
        joint_map: From the dataset's joints to the skeleton's.
        labelled_flags: The dataset's visibility flags that mean "labelled".
        folders: Further folders that records may name files in.
    """

    root: Path
    joint_map: JointMap
    labelled_flags: tuple[int, ...]
    folders: tuple[Path, ...] = ()

    @classmethod
    def from_spec(cls, spec: DatasetSpec, root: Path, skeleton: Skeleton) -> DatasetSource:
        """The source that a dataset spec describes; its folders may lie outside the root."""
        labelled = tuple(spec.visibility_flags.labelled())
        return cls(root, skeleton.joints_from(spec.person.keypoints), labelled, spec.folders(root))

    @cached_property
    def _allowed(self) -> tuple[Path, ...]:
        return tuple(_absolute(folder) for folder in (self.root, *self.folders))

    def path(self, name: str) -> Path:
        """The image or mask file that a record names.

        Raises:
            BodyPoseNetError: It lies outside the dataset's folders, by an absolute path or by `..`.
        """
        path = self.root / name
        if not any(_absolute(path).is_relative_to(folder) for folder in self._allowed):
            raise BodyPoseNetError(
                f"{name}: a record names a file outside the dataset's folder {self.root}",
                "If it is right, name its folder in the dataset spec (images_root_dir_path, "
                "mask_root_dir_path).",
            )
        return path


def _absolute(path: Path) -> Path:
    """The path without `..`; symbolic links stay, as datasets are made of them."""
    return Path(os.path.normpath(Path.cwd() / path))


@dataclass(frozen=True, eq=False)
class Sample:
    """One training sample, or a batch of them with a leading B.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 255 where pixels count and 0 where unlabelled people are.
        keypoints: (P, K, 2) float32 in network pixels.
        labelled: (P, K) bool.
        known: (K,) bool, joints that the sample's dataset labels at all.
        without_mask: How many records had no mask file.
        color: (3, 4) float32, RGB in 0..255 goes to color @ (R, G, B, 1); None where colors do
            not vary.
        blur: () float32, standard deviation in network pixels, 0 for none; None as above.
        unreadable: What was wrong with the samples that this one replaces.
        teacher_heatmaps: (K + 1, h, w) float32, what a teacher says of the sample; None, like
            the next two, without precomputed teacher maps.
        teacher_pafs: (2 L, h, w) float32.
        teacher_cells: (h, w) bool, the cells where the teacher's maps count.
        without_maps: How many photos had no teacher maps.
        out_of_scale: How many samples were too large or too small for their teacher maps.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    labelled: NDArray[np.bool_]
    known: NDArray[np.bool_]
    without_mask: int
    color: NDArray[np.float32] | None = None
    blur: NDArray[np.float32] | None = None
    unreadable: tuple[BodyPoseNetError, ...] = ()
    teacher_heatmaps: NDArray[np.float32] | None = None
    teacher_pafs: NDArray[np.float32] | None = None
    teacher_cells: NDArray[np.bool_] | None = None
    without_maps: int = 0
    out_of_scale: int = 0

    def with_teacher(self, maps: SampleMaps) -> Sample:
        """Return the sample with what a teacher says of it."""
        return replace(
            self,
            teacher_heatmaps=maps.heatmaps,
            teacher_pafs=maps.pafs,
            teacher_cells=maps.cells,
            without_maps=int(maps.is_missing),
            out_of_scale=int(maps.is_out_of_scale),
        )


class SampleSet:
    """The samples of a set of records.

    Args:
        records: The records.
        sources: Dataset name -> its source.
        augmentation: How samples vary.
        height: Of the network input.
        width: Of the network input.
        seed: Of all random numbers.
        cache: Keeps decoded images; None: they are decoded every time.
        teacher_maps: Maps of a teacher for the photos, moved into the samples; None: no teacher.
    """

    def __init__(
        self,
        records: RecordSet,
        sources: Mapping[str, DatasetSource],
        augmentation: AugmentationConfig,
        height: int,
        width: int,
        seed: int,
        cache: ImageCache | None = None,
        teacher_maps: TeacherMapSampler | None = None,
    ) -> None:
        self._records = records
        self._sources = sources
        self.augmentation = augmentation
        colors = augmentation.color_aug_params
        self._colors = None if colors == ColorAugParams() else colors
        self._size = (height, width)
        self._seed = seed
        self._cache = cache
        self._teacher_maps = teacher_maps
        self._photos = PhotoReader()

    def with_augmentation(self, augmentation: AugmentationConfig) -> SampleSet:
        """Return the same records with another augmentation, without teacher maps."""
        height, width = self._size
        return SampleSet(
            self._records, self._sources, augmentation, height, width, self._seed, self._cache
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, place: tuple[int, int]) -> Sample | BodyPoseNetError:
        """The sample of (epoch, index); an error is returned, so that workers can hand it over.

        Where a record, image or mask cannot be read, the next one that can takes its place, and
        says so (`unreadable`); the last is followed by the first. What is wrong with the spec, or
        with many samples in a row, is an error.
        """
        epoch, index = place
        unreadable: list[BodyPoseNetError] = []
        for following in range(min(_MOST_TRIES, len(self))):
            at = (index + following) % len(self)
            try:
                record = self._records[at]
                mistake = self._mistake(record)
                if mistake is not None:
                    return mistake
                sample = self._sample(epoch, at, record)
                return replace(sample, unreadable=tuple(unreadable)) if unreadable else sample
            except BodyPoseNetError as error:
                unreadable.append(error)
        return unreadable[0]

    def _mistake(self, record: Record) -> BodyPoseNetError | None:
        """Why a record does not fit the spec, if so."""
        if record.dataset not in self._sources:
            return BodyPoseNetError(
                f"a record comes from the dataset {record.dataset}, the train spec knows "
                f"{', '.join(self._sources)}",
                "Add its dataset spec to dataloader.dataset_config.dataset_specs.",
            )
        joints = record.joints.shape[1]
        named = len(self._sources[record.dataset].joint_map.dataset_joints)
        if joints != named:
            return BodyPoseNetError(
                f"a record of {record.dataset} (image {record.image_id}) has {joints} joints, its "
                f"dataset spec names {named}",
                "Convert the dataset again with the dataset spec that the train spec names.",
            )
        return None

    def _sample(self, epoch: int, index: int, record: Record) -> Sample:
        source = self._sources[record.dataset]
        random = np.random.default_rng((self._seed, epoch, index))
        params = self.augmentation.spatial_aug_params
        variation = sample_augmentation(params, record.height, record.width, random)
        to_input = augmentation_affine(self.augmentation, variation, record, *self._size)
        image = self._warped_image(source.path(record.image_path), record, to_input)
        mask, without_mask = self._warped_mask(source.path(record.mask_path), record, to_input)
        keypoints, labelled = _people(record, source, to_input)
        known = source.joint_map.known
        if to_input.mirrors:
            mirrored = list(source.joint_map.skeleton.mirrored)
            keypoints, labelled, known = (
                keypoints[:, mirrored],
                labelled[:, mirrored],
                known[mirrored],
            )
        color, blur = self._color_and_blur(random)
        sample = Sample(image, mask, keypoints, labelled, known, without_mask, color, blur)
        if self._teacher_maps is None:
            return sample
        maps = self._teacher_maps.sample(
            source.path(record.image_path), (record.height, record.width), to_input, self._size
        )
        return sample.with_teacher(maps)

    def _warped_image(self, path: Path, record: Record, to_input: Affine) -> NDArray[np.uint8]:
        height, width, divisor = record.height, record.width, reduction_for(to_input)
        decode = partial(self._photos.read, path, height, width, divisor)
        if self._cache is None:
            pixels = decode()
        else:
            size = reduced_size(height, width, divisor)
            pixels = self._cache.pixels(path, divisor, size, decode)
        to_input = Affine.resize(divisor).then(to_input)
        return to_input.warp(pixels, *self._size, outside=PAD_VALUE)

    def _warped_mask(
        self, path: Path, record: Record, to_input: Affine
    ) -> tuple[NDArray[np.uint8], int]:
        """The mask, and how many mask files are missing: 0 or 1."""
        try:
            mask, missing = read_mask(path, record.height, record.width), 0
        except FileNotFoundError:
            mask, missing = None, 1
        if mask is None:
            return np.full(self._size, MASK_VALID, np.uint8), missing
        return to_input.warp(mask, *self._size, outside=MASK_VALID), missing

    def _color_and_blur(
        self, random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | tuple[None, None]:
        """Drawn last, so that varied colors leave all else as it is without them."""
        if self._colors is None:
            return None, None
        variation = sample_colors(self._colors, random)
        return color_matrix(variation), np.array(variation.blur_sigma, np.float32)


def collate(samples: Sequence[Sample | BodyPoseNetError]) -> Sample | BodyPoseNetError:
    """Make a batch: people are filled up with unlabelled ones; the first error, if there is one."""
    good = [sample for sample in samples if isinstance(sample, Sample)]
    if len(good) < len(samples):
        return next(sample for sample in samples if isinstance(sample, BodyPoseNetError))
    people = max(len(sample.keypoints) for sample in good)
    joints = len(good[0].known)
    keypoints = np.zeros((len(good), people, joints, 2), np.float32)
    labelled = np.zeros((len(good), people, joints), bool)
    for row, sample in enumerate(good):
        keypoints[row, : len(sample.keypoints)] = sample.keypoints
        labelled[row, : len(sample.labelled)] = sample.labelled
    return Sample(
        np.stack([sample.image for sample in good]),
        np.stack([sample.mask for sample in good]),
        keypoints,
        labelled,
        np.stack([sample.known for sample in good]),
        sum(sample.without_mask for sample in good),
        _stacked([sample.color for sample in good]),
        _stacked([sample.blur for sample in good]),
        tuple(error for sample in good for error in sample.unreadable),
        _stacked([sample.teacher_heatmaps for sample in good]),
        _stacked([sample.teacher_pafs for sample in good]),
        _stacked([sample.teacher_cells for sample in good]),
        sum(sample.without_maps for sample in good),
        sum(sample.out_of_scale for sample in good),
    )


def _stacked(arrays: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    """One array with a leading B, or None where the samples have none."""
    there = [array for array in arrays if array is not None]
    return np.stack(there) if there else None


def _people(
    record: Record, source: DatasetSource, to_input: Affine
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    labelled = np.isin(record.joints[..., 2], source.labelled_flags)
    # Whatever stands at joints that are not labelled, maps multiply it by 0: it must be finite.
    places = np.where(labelled[..., None], record.joints[..., :2], 0)
    if not (np.abs(places) <= MAX_DISTANCE * max(record.height, record.width)).all():
        raise BodyPoseNetError(
            f"a record of {record.dataset} (image {record.image_id}) has a labelled joint far "
            "outside of its image, or at no finite place",
            "Correct the annotation and convert the dataset again.",
        )
    keypoints, labelled = source.joint_map.keypoints(places, labelled)
    return to_input.apply(keypoints).astype(np.float32), labelled
