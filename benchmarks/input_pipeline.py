"""Training samples per second and core: 640 x 480 photos to 256 x 256, with TAO's augmentation.

python -m benchmarks.input_pipeline [--images DIR] [--quick] [--json FILE]

One process, no workers. A sample is everything that a worker prepares; targets, normalization and
color augmentation run on the training device. The baseline, `original`, does everything on the CPU,
like TAO: warps of image and mask in float32, and targets in loops. Photos are synthetic, or
read from a folder; people are random. Their number and sizes, and the share of photos with masked
regions, are those of COCO's records.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

from bodyposenet import Affine, BodyPoseNetError
from bodyposenet.data.augmentation import augmentation_affine, sample_augmentation
from bodyposenet.data.dataset import DatasetSource, SampleSet
from bodyposenet.data.image_cache import ImageCache
from bodyposenet.data.masks import encode_png
from bodyposenet.data.records import RecordSet, write_records
from bodyposenet.data.reduced_images import ReducedImageReader, reduction_for
from bodyposenet.demo import draw_scene
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.dataloader import AugmentationConfig, SpatialAugParams
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton
from bodyposenet.types import MASK_VALID, Record

from . import harness
from .original.targets import loop_targets

Floats = NDArray[np.float32]

_SIZE, _STRIDE, _CHANNELS = 256, 8, 57
_DATASET = "made-up"

_DRAWN, _JPEG_QUALITY, _GRAIN = (480, 640), 90, 6.0
"""Drawn photos: size, JPEG quality, and standard deviation of the noise, for files as large as
COCO's."""

_PERSON_HEIGHTS = np.array([0.16, 0.24, 0.36, 0.55, 0.8])
_QUANTILES = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
"""Heights of the anchor persons of COCO's records, as shares of the photo's long side."""

_RECORDS_BY_PEOPLE = np.array([692, 499, 418, 295, 289, 155, 129, 179, 163, 128, 63, 77, 92])
"""Records of COCO with 1, 2, 3 ... people; 4.5 on average, as crowded photos have many records."""

_LABELED_SHARE = 0.67
"""Share of labeled keypoints of the people in COCO's records."""

_MASKED_SHARE = 0.4
"""Share of COCO's records whose photo shows people without keypoints, or a crowd."""

_ORIGINAL_MASK = ".jpeg"
"""TAO writes its masks as JPEG (TAO reference, section 3.4)."""

_AUGMENTATION = AugmentationConfig(
    spatial_aug_params=SpatialAugParams(
        flip_lr_prob=0.5, rotate_deg_max=40.0, translate_max_x=40.0, translate_max_y=40.0
    )
)
"""The augmentation of TAO's guide."""


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Time the samples of a small dataset: pipeline, pipeline with an image cache, and baseline."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    count, turns = (60, 5) if arguments.quick else (200, 11)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = _make_dataset(folder, arguments.images, count)
        records = RecordSet([folder / "records"])
        skeleton = load_skeleton(DEFAULT_POSE_CONFIGURATION)
        source = DatasetSource(folder, skeleton.joints_from(COCO_JOINTS), labeled_flags=(1, 2))
        sets = [
            SampleSet(records, {_DATASET: source}, _AUGMENTATION, _SIZE, _SIZE, 0, cache)
            for cache in (None, ImageCache(folder / "cache"))
        ]
        maps = [_to_input(record, number) for number, record in enumerate(written)]
        cases = {
            "pipeline": lambda: _load_all(sets[0]),
            "cached": lambda: _load_all(sets[1]),
            "original": lambda: _load_all_like_original(records, source, maps),
            "reading records": lambda: list(records),
            "decoding": lambda: _decode_all(folder, written, maps),
        }
        seconds = harness.time_alternately(cases, turns)
        sizes = [photo.stat().st_size for photo in folder.glob("*.jpg")]
    return {
        "images_per_s_per_core": count / seconds["pipeline"],
        "over_original": seconds["original"] / seconds["pipeline"],
        "images_per_s_per_core_original": count / seconds["original"],
        "images_per_s_per_core_cached": count / seconds["cached"],
        "share_of_reading_records": seconds["reading records"] / seconds["pipeline"],
        "share_of_decoding": seconds["decoding"] / seconds["pipeline"],
        "kb_per_photo": sum(sizes) / count / 1000,
    }


def _make_dataset(folder: Path, images: Path | None, count: int) -> list[Record]:
    """Write photos, masks and their records."""
    photos = _gather_photos(folder, images, count)
    records = [_make_record(photo, number) for number, photo in enumerate(photos)]
    write_records(folder / "records", records)
    return records


def _gather_photos(folder: Path, images: Path | None, count: int) -> list[Path]:
    """Write `count` JPEG files: copies of given images, repeated in order, or synthetic images."""
    found = [] if images is None else sorted(images.glob("*.jpg"))
    if images is not None and not found:
        raise BodyPoseNetError(
            f"No .jpg files found in {images}", "Give --images a folder of JPEG photos."
        )
    photos = [folder / f"{number}.jpg" for number in range(count)]
    for number, photo in enumerate(photos):
        if found:
            shutil.copyfile(found[number % len(found)], photo)
        else:
            photo.write_bytes(_draw_photo(np.random.default_rng(number)))
    return photos


def _draw_photo(random: np.random.Generator) -> bytes:
    pixels, _ = draw_scene(random, *_DRAWN)
    grain = random.normal(0, _GRAIN, (*_DRAWN, 1)).astype(np.float32)
    pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    return simplejpeg.encode_jpeg(pixels, _JPEG_QUALITY, "RGB", "444")


def _make_record(photo: Path, number: int) -> Record:
    """Return a record with random people of a photo, and write its mask beside the photo."""
    random = np.random.default_rng((1, number))
    rows, columns, *_ = simplejpeg.decode_jpeg_header(photo.read_bytes())
    size = height, width = int(rows), int(columns)
    shares = _RECORDS_BY_PEOPLE / _RECORDS_BY_PEOPLE.sum()
    people = 1 + int(random.choice(len(shares), p=shares))
    heights = np.interp(random.random(people), _QUANTILES, _PERSON_HEIGHTS) * max(size)
    heights = np.minimum(heights, height)
    centers = random.uniform(0.2, 0.8, (people, 2)) * (width, height)
    around = random.normal(0, 0.25, (people, len(COCO_JOINTS), 2)) * heights[:, None, None]
    flags = 2 * (random.random((people, len(COCO_JOINTS), 1)) < _LABELED_SHARE)
    joints = np.concatenate([centers[:, None] + around, flags.astype(float)], axis=2)
    mask = np.full(size, MASK_VALID, np.uint8)
    if random.random() < _MASKED_SHARE:
        place, axes = random.uniform(0, (width, height)), random.uniform(10, 100, 2)
        cv2.ellipse(mask, place.astype(int).tolist(), axes.astype(int).tolist(), 0, 0, 360, 0, -1)
    photo.with_suffix(".png").write_bytes(encode_png(mask))
    cv2.imwrite(str(photo.with_suffix(_ORIGINAL_MASK)), mask)
    return Record(
        number, photo.name, photo.with_suffix(".png").name, height, width, _DATASET, joints,
        heights, centers,
    )  # fmt: skip


def _to_input(record: Record, number: int) -> Affine:
    """Return a random augmentation as an affine map from the photo to the network input."""
    random = np.random.default_rng((2, number))
    params = _AUGMENTATION.spatial_aug_params
    parameters = sample_augmentation(params, record.height, record.width, random)
    return augmentation_affine(_AUGMENTATION, parameters, record, _SIZE, _SIZE)


def _load_all(samples: SampleSet) -> None:
    for index in range(len(samples)):
        sample = samples[0, index]
        if isinstance(sample, BodyPoseNetError):
            raise sample


def _decode_all(folder: Path, records: Sequence[Record], maps: Sequence[Affine]) -> None:
    """Read and decode the photos, which is a part of loading the samples."""
    reader = ReducedImageReader()
    for record, to_input in zip(records, maps, strict=True):
        path = folder / record.image_path
        reader.read(path, record.height, record.width, reduction_for(to_input))


def _load_all_like_original(
    records: RecordSet, source: DatasetSource, maps: Sequence[Affine]
) -> None:
    for record, to_input in zip(records, maps, strict=True):
        _original_pixels(record, source.root, to_input)
        labeled = np.isin(record.joints[..., 2], source.labeled_flags)
        keypoints, labeled = source.joint_map.keypoints(record.joints[..., :2], labeled)
        keypoints = to_input.apply(keypoints)
        loop_targets(keypoints, labeled, source.joint_map.skeleton, _SIZE, _SIZE)


def _original_pixels(record: Record, root: Path, to_input: Affine) -> tuple[Floats, Floats]:
    """Return image and mask, converted to float before the warp (TAO reference, section 4)."""
    decoded = cv2.imread(str(root / record.image_path))
    image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.float32)  # type: ignore[arg-type]
    path = (root / record.mask_path).with_suffix(_ORIGINAL_MASK)
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32)  # type: ignore[union-attr]
    size, matrix = (_SIZE, _SIZE), to_input.matrix
    image = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(127,) * 3)
    mask = cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(MASK_VALID,))
    cells = mask[::_STRIDE, ::_STRIDE, None] / np.float32(MASK_VALID)
    normalized = image / np.float32(256) - np.float32(0.5)
    return normalized, np.repeat(cells, _CHANNELS, axis=2)  # type: ignore[return-value]


if __name__ == "__main__":
    flags = harness.parser("input_pipeline", __doc__)
    flags.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of JPEG photos; default: synthetic images",
    )
    harness.run("input_pipeline", flags, measure)
