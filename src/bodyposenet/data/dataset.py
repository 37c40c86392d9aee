"""Records in, samples out: decode the image, draw one affine map, warp image, mask and people.

What a sample looks like depends on (seed, epoch, index) only, so any number of workers gives the
same samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from bodyposenet.data.augmentation import draw_variation, sample_affine
from bodyposenet.data.records import RecordSet
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.media.encoded import has_exif, is_jpeg
from bodyposenet.media.source import read_image
from bodyposenet.skeleton import JointMap, Skeleton
from bodyposenet.specs.dataloader import AugmentationConfig
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.types import VALID, Record

_OUTSIDE_IMAGE = 127


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """Where the images of a dataset lie, and how its joints become the skeleton's.

    Args:
        root: Folder that the records' paths are relative to.
        joint_map: From the dataset's joints to the skeleton's.
        labelled_flags: The dataset's visibility flags that mean "labelled".
    """

    root: Path
    joint_map: JointMap
    labelled_flags: tuple[int, ...]

    @classmethod
    def from_spec(cls, spec: DatasetSpec, root: Path, skeleton: Skeleton) -> DatasetSource:
        """The source that a dataset spec describes."""
        flags = spec.visibility_flags.classes()
        labelled = tuple(flag for flag, meaning in flags.items() if meaning.is_labelled)
        return cls(root, skeleton.joints_from(spec.person.keypoints), labelled)


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
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    labelled: NDArray[np.bool_]
    known: NDArray[np.bool_]
    without_mask: int


class SampleSet:
    """The samples of a set of records.

    Args:
        records: The records.
        sources: Dataset name -> its source.
        augmentation: How samples vary.
        height: Of the network input.
        width: Of the network input.
        seed: Of all random numbers.
    """

    def __init__(
        self,
        records: RecordSet,
        sources: Mapping[str, DatasetSource],
        augmentation: AugmentationConfig,
        height: int,
        width: int,
        seed: int,
    ) -> None:
        self._records = records
        self._sources = sources
        self._augmentation = augmentation
        self._size = (height, width)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, place: tuple[int, int]) -> Sample | BodyPoseNetError:
        """The sample of (epoch, index); an error is returned, so that workers can hand it over."""
        try:
            return self._sample(*place)
        except BodyPoseNetError as error:
            return error

    def _sample(self, epoch: int, index: int) -> Sample:
        record = self._records[index]
        source = self._source(record)
        random = np.random.default_rng((self._seed, epoch, index))
        params = self._augmentation.spatial_aug_params
        variation = draw_variation(params, record.height, record.width, random)
        height, width = self._size
        to_input = sample_affine(self._augmentation, variation, record, height, width)
        image = _read_training_image(source.root / record.image_path, record)
        mask = _read_mask(source.root / record.mask_path, record)
        keypoints, labelled = _people(record, source, to_input)
        known = source.joint_map.known
        if variation.flip_lr:
            mirrored = list(source.joint_map.skeleton.mirrored)
            keypoints, labelled, known = (
                keypoints[:, mirrored],
                labelled[:, mirrored],
                known[mirrored],
            )
        return Sample(
            to_input.warp(image, height, width, outside=_OUTSIDE_IMAGE),
            _all_valid(height, width)
            if mask is None
            else to_input.warp(mask, height, width, outside=VALID),
            keypoints,
            labelled,
            known,
            int(mask is None),
        )

    def _source(self, record: Record) -> DatasetSource:
        if record.dataset not in self._sources:
            raise BodyPoseNetError(
                f"a record comes from the dataset {record.dataset}, the train spec knows "
                f"{', '.join(self._sources)}",
                "Add its dataset spec to dataloader.dataset_config.dataset_specs.",
            )
        return self._sources[record.dataset]


def stack(samples: Sequence[Sample | BodyPoseNetError]) -> Sample | BodyPoseNetError:
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
    )


def _people(
    record: Record, source: DatasetSource, to_input: Affine
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    joints, named = record.joints.shape[1], len(source.joint_map.dataset_joints)
    if joints != named:
        raise BodyPoseNetError(
            f"a record of {record.dataset} (image {record.image_id}) has {joints} joints, its "
            f"dataset spec names {named}",
            "Convert the dataset again with the dataset spec that the train spec names.",
        )
    labelled = np.isin(record.joints[..., 2], source.labelled_flags)
    keypoints, labelled = source.joint_map.keypoints(record.joints[..., :2], labelled)
    return to_input.apply(keypoints).astype(np.float32), labelled


def _read_training_image(path: Path, record: Record) -> NDArray[np.uint8]:
    """RGB pixels of the size that the record says, turned as in inference (EXIF).

    JPEGs without EXIF, as in COCO, take the quick decoder.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be read: {error.strerror}",
            "root_data_path of the train spec must be the dataset's root_directory_path.",
        ) from error
    image = None
    if is_jpeg(content) and not has_exif(content):
        with suppress(ValueError):  # a damaged file: the general reader tells
            image = simplejpeg.decode_jpeg(content, colorspace="RGB")
    if image is None:
        image = read_image(path, (record.height, record.width))
    if image.shape[:2] != (record.height, record.width):
        raise BodyPoseNetError(
            f"{path}: the image is {image.shape[1]} x {image.shape[0]}, its record says "
            f"{record.width} x {record.height}",
            "Convert the dataset again, with --check_files.",
        )
    return image


def _read_mask(path: Path, record: Record) -> NDArray[np.uint8] | None:
    """The mask, of pure 0 and 255 (TAO's JPEG masks are not), or None where there is no file."""
    if not path.is_file():
        return None
    mask = (
        cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
        if path.stat().st_size
        else None
    )
    if mask is None or mask.shape != (record.height, record.width):
        raise BodyPoseNetError(
            f"{path}: no mask of {record.width} x {record.height} pixels",
            "Make the masks again: dataset_convert --generate_masks.",
        )
    return cv2.threshold(mask, 127, VALID, cv2.THRESH_BINARY)[1]  # type: ignore[return-value]


def _all_valid(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width), VALID, np.uint8)
