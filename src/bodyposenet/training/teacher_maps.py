"""Compute a teacher's maps of whole photos once, for `distillation.maps` of a train spec."""

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

_TOLD_ONE_BY_ONE = 10

_SETTINGS = {
    "input_shape", "keep_aspect_ratio_mode", "output_stage_to_use", "multi_scale_inference",
    "scales", "flip_test",
}  # fmt: skip
"""Keys of the inference spec that the maps depend on."""


class Photo(NamedTuple):
    """A photo to compute maps of.

    Args:
        path: The image file.
        size: Height and width that annotations state; None: as the file has it. It decides whether
            a photo with EXIF orientation is turned.
    """

    path: Path
    size: tuple[int, int] | None = None


class ComputedMaps(NamedTuple):
    """What a run has done.

    Args:
        computed: Photos whose maps were computed.
        kept: Photos whose maps were there already.
        failed: Photos that cannot be read.
        megabytes: Of all files of these photos.
    """

    computed: int
    kept: int
    failed: int
    megabytes: float


def compute_teacher_maps(
    predictor: Predictor, photos: Sequence[Photo], folder: Path
) -> ComputedMaps:
    """Compute the maps of photos and write them to a folder; run again, it continues.

    The maps are those of the predictor: averaged over the scales and the flip test of its spec,
    here on the cells of the input at scale 1.

    Args:
        predictor: The teacher. Its spec's `model_path` names the file.
        photos: What to compute maps of; photos that cannot be read are logged and skipped.
        folder: Receives a header file and one file per photo.

    Raises:
        BodyPoseNetError: Two photos have the same name, the folder holds maps of another teacher
            or other settings, another process writes there, or the disk is full.
    """
    _check_names(photos)
    make_directory(folder)
    computed = kept = failed = size = 0
    with directory_lock(folder):
        maps_folder = TeacherMapStore.create(folder, predictor.engine.skeleton, _origin(predictor))
        for photo in progress(photos, "computing teacher maps"):
            try:
                stamp, pixels = _read(photo)
                is_there = maps_folder.has(photo.path, stamp)
                found = None if is_there else _compute(predictor, pixels)
            except _UnusablePhotoError as error:
                failed += 1
                if failed <= _TOLD_ONE_BY_ONE:
                    logger.warning("skipped: %s", error.what)
                continue
            if found is not None:
                maps_folder.write(photo.path, stamp, *found)
            kept, computed = kept + is_there, computed + (not is_there)
            size += maps_folder.file_of(photo.path).stat().st_size
    return ComputedMaps(computed, kept, failed, size / 1e6)


def training_photos(spec: TrainSpec) -> list[Photo]:
    """Return the photos of a train spec's training records, each once.

    Raises:
        BodyPoseNetError: Record files are missing or damaged.
    """
    sources = dataset_sources(spec, spec.dataset_specs())
    photos: dict[Path, Photo] = {}
    for pattern, files in record_files(spec, "train"):
        if not files:
            spec.fail(
                "dataloader.dataset_config.train_records_path",
                f"no such file: {pattern}",
                "Make it with dataset_convert, mode train.",
            )
        for file in files:
            for record in read_records(file):
                if record.dataset in sources:
                    path = sources[record.dataset].path(record.image_path)
                    photos[path] = Photo(path, (record.height, record.width))
    return list(photos.values())


class _UnusablePhotoError(BodyPoseNetError):
    """A photo that is skipped."""


def _read(photo: Photo) -> tuple[PhotoFingerprint, NDArray[np.uint8]]:
    try:
        pixels = read_image(photo.path, photo.size)
    except BodyPoseNetError as error:
        raise _UnusablePhotoError(error.what, error.remedy) from error
    height, width = pixels.shape[:2]
    if photo.size not in (None, (height, width)):
        raise _UnusablePhotoError(
            f"{photo.path}: is {width} x {height}, its record states another size"
        )
    return PhotoFingerprint(height, width, photo.path.stat().st_size), pixels


def _compute(predictor: Predictor, pixels: NDArray[np.uint8]) -> tuple[Maps, Affine]:
    """The maps of a photo on the cells of scale 1, and the map from photo pixels to them."""
    try:
        maps, to_network = predictor.maps(pixels)
    except BodyPoseNetError as error:  # a photo that is too narrow
        raise _UnusablePhotoError(error.what, error.remedy) from error
    cells_of = Affine.resize(maps.stride).inverse()
    at_scale_1, shape = network_affine(pixels.shape[0], pixels.shape[1], predictor.spec)
    to_cells = at_scale_1.then(cells_of)
    if np.allclose(at_scale_1.matrix, to_network.matrix):
        return maps, to_cells
    rows, columns = (-(-side // maps.stride) for side in shape)
    moving = to_network.then(cells_of).inverse().then(to_cells)
    heatmaps, pafs = (
        moving.resample(channels, rows, columns) for channels in (maps.heatmaps, maps.pafs)
    )
    return replace(maps, heatmaps=heatmaps, pafs=pafs), to_cells


def _check_names(photos: Iterable[Photo]) -> None:
    """Files of maps have the names of the photos, without their folders."""
    by_name: dict[str, Path] = {}
    for photo in photos:
        other = by_name.setdefault(photo.path.name, photo.path)
        if other != photo.path:
            raise BodyPoseNetError(
                f"{other} and {photo.path} have the same name",
                "Rename one of them, or compute the maps of one dataset only.",
            )


def _origin(predictor: Predictor) -> dict[str, object]:
    """The model and the settings, as the header of the folder keeps them."""
    path = predictor.spec.model_path
    model = None
    if path is not None and is_file(path):
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        model = {"name": Path(path).name, "sha256": digest}
    settings = predictor.spec.model_dump(mode="json", include=_SETTINGS)
    if not predictor.spec.multi_scale_inference:
        del settings["scales"]
    return {"model": model, "stride": predictor.engine.stride, "settings": settings}
