"""Precomputation of a teacher's maps of whole photos, for `distillation.maps` of a train spec.

`data.teacher_map_store` stores the maps, and `data.teacher_map_sampler` resamples them for training
samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger, progress
from bodyposenet.data.records import read_records
from bodyposenet.data.teacher_map_store import PhotoFingerprint, TeacherMapStore
from bodyposenet.directory_lock import directory_lock
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file, make_directory
from bodyposenet.geometry import Affine
from bodyposenet.inference.predictor import Predictor, network_affine
from bodyposenet.media.images import read_image
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.samples import dataset_sources, record_files
from bodyposenet.types import Maps

_MAX_LOGGED_ERRORS = 10

_SETTINGS = {
    "input_shape", "keep_aspect_ratio_mode", "output_stage_to_use", "multi_scale_inference",
    "scales", "flip_test",
}  # fmt: skip
"""Keys of the inference spec that the maps depend on."""


class Photo(NamedTuple):
    """A photo to compute maps of.

    Args:
        path: The image file.
        size: Height and width in the annotations, which determine whether EXIF orientation is
            applied, or None for those of the file.
    """

    path: Path
    size: tuple[int, int] | None = None


class ComputedMaps(NamedTuple):
    """Summary of a run of `compute_teacher_maps`.

    Args:
        computed: Number of photos whose maps were computed.
        kept: Number of photos whose maps existed already.
        failed: Number of photos that cannot be read.
        megabytes: Size of the maps of all these photos.
    """

    computed: int
    kept: int
    failed: int
    megabytes: float


def compute_teacher_maps(
    predictor: Predictor, photos: Sequence[Photo], folder: Path
) -> ComputedMaps:
    """Compute the maps of photos and write them to a folder. An interrupted run can be continued.

    The maps are averaged over the scales and the flip test of the predictor's spec, in the cells of
    the network input at scale 1.

    Args:
        predictor: The teacher. `model_path` of its spec is recorded in the folder.
        photos: The photos. Those that cannot be read are logged and skipped.
        folder: Folder for a header file and one file per photo. Created if missing.

    Returns:
        The numbers of photos, and the size of their maps.

    Raises:
        BodyPoseNetError: Two photos have the same file name, the folder holds maps of another
            teacher or other settings, another process writes to it, or the disk is full.
    """
    _check_names(photos)
    make_directory(folder)
    computed = kept = failed = size = 0
    with directory_lock(folder):
        store = TeacherMapStore.create(folder, predictor.engine.skeleton, _metadata(predictor))
        for photo in progress(photos, "teacher maps"):
            try:
                fingerprint, pixels = _read_photo(photo)
                exists = store.has(photo.path, fingerprint)
                maps = None if exists else _compute_maps(predictor, pixels)
            except _UnusablePhotoError as error:
                failed += 1
                if failed <= _MAX_LOGGED_ERRORS:
                    logger.warning("Skipped: %s", error.what)
                continue
            if maps is not None:
                store.write(photo.path, fingerprint, *maps)
            kept, computed = kept + exists, computed + (not exists)
            size += store.file_of(photo.path).stat().st_size
    return ComputedMaps(computed, kept, failed, size / 1e6)


def training_photos(spec: TrainSpec) -> list[Photo]:
    """Return the photos of a train spec's training records, without duplicates.

    Raises:
        BodyPoseNetError: Record files are missing or damaged.
    """
    sources = dataset_sources(spec, spec.dataset_specs())
    photos: dict[Path, Photo] = {}
    for pattern, files in record_files(spec, "train"):
        if not files:
            spec.fail(
                "dataloader.dataset_config.train_records_path",
                f"file not found: {pattern}",
                "Create it with dataset_convert, mode train.",
            )
        for file in files:
            for record in read_records(file):
                if record.dataset in sources:
                    path = sources[record.dataset].path(record.image_path)
                    photos[path] = Photo(path, (record.height, record.width))
    return list(photos.values())


class _UnusablePhotoError(BodyPoseNetError):
    """A photo that is skipped because it cannot be read or used."""


def _read_photo(photo: Photo) -> tuple[PhotoFingerprint, NDArray[np.uint8]]:
    """Read a photo, and its fingerprint, which identifies it in the store."""
    try:
        pixels = read_image(photo.path, photo.size)
    except BodyPoseNetError as error:
        raise _UnusablePhotoError(error.what, error.remedy) from error
    height, width = pixels.shape[:2]
    if photo.size is not None and photo.size != (height, width):
        raise _UnusablePhotoError(
            f"{photo.path}: is {width} x {height}, but annotated as "
            f"{photo.size[1]} x {photo.size[0]}"
        )
    return PhotoFingerprint(height, width, photo.path.stat().st_size), pixels


def _compute_maps(predictor: Predictor, pixels: NDArray[np.uint8]) -> tuple[Maps, Affine]:
    """Return a photo's maps in the cells at scale 1, and the transform from pixels to cells."""
    try:
        maps, to_network = predictor.maps(pixels)
    except BodyPoseNetError as error:  # The photo is too narrow.
        raise _UnusablePhotoError(error.what, error.remedy) from error
    pixels_to_cells = Affine.resize(maps.stride).inverse()
    at_scale_1, shape = network_affine(pixels.shape[0], pixels.shape[1], predictor.spec)
    to_cells = at_scale_1.then(pixels_to_cells)
    if np.allclose(at_scale_1.matrix, to_network.matrix):
        return maps, to_cells
    rows, columns = (-(-side // maps.stride) for side in shape)
    transform = to_network.then(pixels_to_cells).inverse().then(to_cells)
    heatmaps, pafs = (
        transform.resample(channels, rows, columns) for channels in (maps.heatmaps, maps.pafs)
    )
    return replace(maps, heatmaps=heatmaps, pafs=pafs), to_cells


def _check_names(photos: Iterable[Photo]) -> None:
    """Check that file names are unique: maps are stored by name, without the folder."""
    by_name: dict[str, Path] = {}
    for photo in photos:
        other = by_name.setdefault(photo.path.name, photo.path)
        if other != photo.path:
            raise BodyPoseNetError(
                f"{other} and {photo.path} have the same file name",
                "Rename one of them, or compute the maps of one dataset only.",
            )


def _metadata(predictor: Predictor) -> dict[str, object]:
    """Return the model and the settings, for the header of the folder."""
    path = predictor.spec.model_path
    model = None
    if path is not None and is_file(path):
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        model = {"name": Path(path).name, "sha256": digest}
    settings = predictor.spec.model_dump(mode="json", include=_SETTINGS)
    if not predictor.spec.multi_scale_inference:
        del settings["scales"]
    return {"model": model, "stride": predictor.engine.stride, "settings": settings}
