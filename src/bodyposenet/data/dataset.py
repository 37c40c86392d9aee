"""Training samples: augmented images, masks and keypoints made from training records.

For each sample, one random affine map is applied to the image, the mask and the people. A sample
depends only on (seed, epoch, index), so the number of worker processes does not matter. Targets and
colors are computed later, in batches on the training device.
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
from bodyposenet.data.records import RecordSet
from bodyposenet.data.reduced_images import ReducedImageReader, reduced_size, reduction_for
from bodyposenet.data.segmentation import MAX_RELATIVE_COORDINATE
from bodyposenet.data.teacher_map_sampler import SampleMaps, TeacherMapSampler
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.skeleton import JointMap, Skeleton
from bodyposenet.specs.dataloader import AugmentationConfig, ColorAugParams
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.types import MASK_VALID, PAD_VALUE, Record

_MAX_REPLACEMENTS = 10
"""If this many consecutive records cannot be read, an error is returned instead of a sample."""


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """Image folders and joint mapping of one dataset.

    Args:
        root: Folder to which the paths in records are relative.
        joint_map: Mapping from the dataset's joints to the skeleton's.
        labeled_flags: The dataset's visibility flags that mean "labeled".
        folders: More folders in which the files of records can be.
    """

    root: Path
    joint_map: JointMap
    labeled_flags: tuple[int, ...]
    folders: tuple[Path, ...] = ()

    @classmethod
    def from_spec(cls, spec: DatasetSpec, root: Path, skeleton: Skeleton) -> DatasetSource:
        """Create the source that a dataset spec describes.

        Args:
            spec: Dataset spec; its image and mask folders can be outside of the root.
            root: Root folder of the dataset.
            skeleton: Skeleton of the network.

        Returns:
            The source.
        """
        labeled = tuple(spec.visibility_flags.labeled())
        return cls(root, skeleton.joints_from(spec.person.keypoints), labeled, spec.folders(root))

    @cached_property
    def _allowed_folders(self) -> tuple[Path, ...]:
        """Absolute paths of the folders in which the files of records must be."""
        return tuple(_absolute(folder) for folder in (self.root, *self.folders))

    def path(self, name: str) -> Path:
        """Return the path of an image or mask file of a record.

        Args:
            name: Path in the record, relative to the root or absolute.

        Returns:
            The path, which need not exist.

        Raises:
            BodyPoseNetError: The file is outside of the dataset's folders, because of an absolute
                path or `..`.
        """
        path = self.root / name
        if not any(_absolute(path).is_relative_to(folder) for folder in self._allowed_folders):
            raise BodyPoseNetError(
                f"{name}: path in a record is outside of the dataset folder {self.root}",
                "If the path is correct, add its folder to the dataset spec (images_root_dir_path, "
                "mask_root_dir_path).",
            )
        return path


def _absolute(path: Path) -> Path:
    """Make a path absolute and remove `..` without resolving symbolic links."""
    return Path(os.path.normpath(Path.cwd() / path))


@dataclass(frozen=True, eq=False)
class Sample:
    """One training sample, or a batch of samples: arrays then have a leading dimension B.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 255 where the loss is computed, 0 at people without labels.
        keypoints: (P, K, 2) float32 in network pixels.
        labeled: (P, K) bool, whether a keypoint is labeled.
        known: (K,) bool, whether the dataset labels a joint at all.
        without_mask: Number of samples without a mask file.
        color: (3, 4) float32 color matrix, maps RGB in 0..255 to color @ (R, G, B, 1); None
            without color augmentation.
        blur: () float32, standard deviation of the blur in network pixels, 0 for no blur; None
            without color augmentation.
        unreadable: Errors of the unreadable samples that this one replaces.
        teacher_heatmaps: (K + 1, h, w) float32, precomputed heatmaps of a teacher; this and the
            next two are None if there are no precomputed teacher maps.
        teacher_pafs: (2 L, h, w) float32, its PAFs.
        teacher_cells: (h, w) bool, the cells where the teacher's maps are used.
        without_maps: Number of samples without teacher maps.
        out_of_scale: Number of samples that are too large or too small for their teacher maps.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    labeled: NDArray[np.bool_]
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
        """Return the sample with a teacher's maps."""
        return replace(
            self,
            teacher_heatmaps=maps.heatmaps,
            teacher_pafs=maps.pafs,
            teacher_cells=maps.cells,
            without_maps=int(maps.is_missing),
            out_of_scale=int(maps.is_out_of_scale),
        )


class SampleSet:
    """Map-style dataset of training samples.

    Args:
        records: Training records.
        sources: Sources by dataset name.
        augmentation: Augmentation settings.
        height: Height of the network input.
        width: Width of the network input.
        seed: Random seed.
        cache: Cache of decoded images, or None to decode the files every time.
        teacher_maps: Precomputed maps of a teacher, or None without distillation from maps.
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
        self._images = ReducedImageReader()

    def with_augmentation(self, augmentation: AugmentationConfig) -> SampleSet:
        """Return a set of the same records with other augmentation and without teacher maps."""
        height, width = self._size
        return SampleSet(
            self._records, self._sources, augmentation, height, width, self._seed, self._cache
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, place: tuple[int, int]) -> Sample | BodyPoseNetError:
        """Make a sample of an epoch.

        A record whose image, mask or data cannot be read is replaced by the next readable one
        (after the last record comes the first); `Sample.unreadable` has the errors.

        Args:
            place: (epoch, index).

        Returns:
            The sample. Or an error, returned instead of raised so that worker processes can pass it
            on: a record does not match the spec, or many consecutive records cannot be read.
        """
        epoch, index = place
        unreadable: list[BodyPoseNetError] = []
        for offset in range(min(_MAX_REPLACEMENTS, len(self))):
            position = (index + offset) % len(self)
            try:
                record = self._records[position]
                mismatch = self._spec_mismatch(record)
                if mismatch is not None:
                    return mismatch
                sample = self._sample(epoch, position, record)
                return replace(sample, unreadable=tuple(unreadable)) if unreadable else sample
            except BodyPoseNetError as error:
                unreadable.append(error)
        return unreadable[0]

    def _spec_mismatch(self, record: Record) -> BodyPoseNetError | None:
        """Return an error if a record does not match the train spec, else None."""
        if record.dataset not in self._sources:
            return BodyPoseNetError(
                f"record of image {record.image_id}: unknown dataset {record.dataset}; the train "
                f"spec has {', '.join(self._sources)}",
                "Add its dataset spec to dataloader.dataset_config.dataset_specs.",
            )
        joints = record.joints.shape[1]
        expected = len(self._sources[record.dataset].joint_map.dataset_joints)
        if joints != expected:
            return BodyPoseNetError(
                f"record of image {record.image_id} of {record.dataset}: expected {expected} "
                f"joints as in the dataset spec, got {joints}",
                "Convert the dataset again with the dataset spec that the train spec names.",
            )
        return None

    def _sample(self, epoch: int, index: int, record: Record) -> Sample:
        """Read the files of a record and apply a random augmentation."""
        source = self._sources[record.dataset]
        rng = np.random.default_rng((self._seed, epoch, index))
        params = self.augmentation.spatial_aug_params
        parameters = sample_augmentation(params, record.height, record.width, rng)
        to_input = augmentation_affine(self.augmentation, parameters, record, *self._size)
        image = self._warped_image(source.path(record.image_path), record, to_input)
        mask, without_mask = self._warped_mask(source.path(record.mask_path), record, to_input)
        keypoints, labeled = _warped_keypoints(record, source, to_input)
        known = source.joint_map.known
        if to_input.mirrors:
            mirrored = list(source.joint_map.skeleton.mirrored)
            keypoints, labeled, known = (
                keypoints[:, mirrored],
                labeled[:, mirrored],
                known[mirrored],
            )
        color, blur = self._color_and_blur(rng)
        sample = Sample(image, mask, keypoints, labeled, known, without_mask, color, blur)
        if self._teacher_maps is None:
            return sample
        maps = self._teacher_maps.sample(
            source.path(record.image_path), (record.height, record.width), to_input, self._size
        )
        return sample.with_teacher(maps)

    def _warped_image(self, path: Path, record: Record, to_input: Affine) -> NDArray[np.uint8]:
        """Read an image, from the cache if there is one, and warp it to the network input."""
        height, width, reduction = record.height, record.width, reduction_for(to_input)
        decode = partial(self._images.read, path, height, width, reduction)
        if self._cache is None:
            pixels = decode()
        else:
            size = reduced_size(height, width, reduction)
            pixels = self._cache.pixels(path, reduction, size, decode)
        to_input = Affine.resize(reduction).then(to_input)
        return to_input.warp(pixels, *self._size, outside=PAD_VALUE)

    def _warped_mask(
        self, path: Path, record: Record, to_input: Affine
    ) -> tuple[NDArray[np.uint8], int]:
        """Return the warped mask and the number of missing mask files, 0 or 1."""
        try:
            mask, missing = read_mask(path, record.height, record.width), 0
        except FileNotFoundError:
            mask, missing = None, 1
        if mask is None:
            return np.full(self._size, MASK_VALID, np.uint8), missing
        return to_input.warp(mask, *self._size, outside=MASK_VALID), missing

    def _color_and_blur(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | tuple[None, None]:
        """Sample color matrix and blur.

        These are the last random numbers of a sample, so that the other ones are the same with and
        without color augmentation.
        """
        if self._colors is None:
            return None, None
        parameters = sample_colors(self._colors, rng)
        return color_matrix(parameters), np.array(parameters.blur_sigma, np.float32)


def collate(samples: Sequence[Sample | BodyPoseNetError]) -> Sample | BodyPoseNetError:
    """Collate samples into a batch, padded with unlabeled people to the same number.

    Args:
        samples: Samples, or errors of `SampleSet.__getitem__`.

    Returns:
        The batch, or the first error if there is one.
    """
    good = [sample for sample in samples if isinstance(sample, Sample)]
    if len(good) < len(samples):
        return next(sample for sample in samples if isinstance(sample, BodyPoseNetError))
    people = max(len(sample.keypoints) for sample in good)
    joints = len(good[0].known)
    keypoints = np.zeros((len(good), people, joints, 2), np.float32)
    labeled = np.zeros((len(good), people, joints), bool)
    for row, sample in enumerate(good):
        keypoints[row, : len(sample.keypoints)] = sample.keypoints
        labeled[row, : len(sample.labeled)] = sample.labeled
    return Sample(
        np.stack([sample.image for sample in good]),
        np.stack([sample.mask for sample in good]),
        keypoints,
        labeled,
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
    """Stack arrays along a new first dimension; None if the samples do not have the array."""
    present = [array for array in arrays if array is not None]
    return np.stack(present) if present else None


def _warped_keypoints(
    record: Record, source: DatasetSource, to_input: Affine
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return keypoints in network pixels, (P, K, 2) float32, and which are labeled, (P, K) bool."""
    labeled = np.isin(record.joints[..., 2], source.labeled_flags)
    # Unlabeled joints have a weight of 0 in the loss, but they must still be finite.
    points = np.where(labeled[..., None], record.joints[..., :2], 0)
    if not (np.abs(points) <= MAX_RELATIVE_COORDINATE * max(record.height, record.width)).all():
        raise BodyPoseNetError(
            f"record of image {record.image_id} of {record.dataset}: a labeled joint is far "
            "outside of the image or not finite",
            "Correct the annotation and convert the dataset again.",
        )
    keypoints, labeled = source.joint_map.keypoints(points, labeled)
    return to_input.apply(keypoints).astype(np.float32), labeled
