"""A train spec in, its sample sets out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from bodyposenet.console import logger
from bodyposenet.data.dataset import DatasetSource, SampleSet
from bodyposenet.data.image_cache import ImageCache
from bodyposenet.data.records import RecordSet
from bodyposenet.data.teacher_map_sampler import TeacherMapSampler
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file, is_folder
from bodyposenet.specs.dataloader import AugmentationConfig, SpatialAugParams
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.training import TrainSpec

_DATASET_CONFIG = "dataloader.dataset_config"


def dataset_sources(
    spec: TrainSpec, dataset_specs: Mapping[str, DatasetSpec]
) -> dict[str, DatasetSource]:
    """Where the images of each dataset lie, and how its joints map.

    Raises:
        BodyPoseNetError: A root folder is missing, or a dataset shares no joint with the skeleton.
    """
    config = spec.dataloader.dataset_config
    sources = {}
    for name, dataset_spec in dataset_specs.items():
        if name in config.root_data_paths:
            place = ("dataloader", "dataset_config", "root_data_paths", name)
            root = spec.existing_path(place, config.root_data_paths[name])
        else:
            root = spec.existing_path(f"{_DATASET_CONFIG}.root_data_path", config.root_data_path)
        source = DatasetSource.from_spec(dataset_spec, root, spec.skeleton)
        known = source.joint_map.known
        missing = [
            joint for joint, there in zip(spec.skeleton.joints, known, strict=True) if not there
        ]
        if not known.any():
            spec.fail(
                ("dataloader", "dataset_config", "dataset_specs", name),
                f"the dataset shares no joint name with the skeleton {spec.skeleton.name}",
                "Name the keypoints of the dataset spec as the pose configuration does.",
            )
        if missing:
            logger.info("%s does not label %s: not trained there", name, ", ".join(missing))
        sources[name] = source
    return sources


def training_samples(
    spec: TrainSpec,
    sources: Mapping[str, DatasetSource],
    teacher_maps: TeacherMapSampler | None = None,
) -> SampleSet:
    """The samples to train on.

    Args:
        spec: The train spec.
        sources: Where the images lie, by dataset.
        teacher_maps: Precomputed maps of a teacher that come with the samples.

    Raises:
        BodyPoseNetError: Record files are missing, broken or empty.
    """
    place = f"{_DATASET_CONFIG}.train_records_path"
    records, missing = _open_records(spec, "train")
    if missing:
        spec.fail(place, f"no such file: {missing[0]}", "Make it with dataset_convert, mode train.")
    if not len(records):
        spec.fail(place, "the files hold no records", "See the summary of dataset_convert.")
    augmentation = spec.dataloader.augmentation_config
    params = augmentation.spatial_aug_params
    if spec.skeleton.unpaired and (params.flip_lr_prob or params.flip_tb_prob):
        logger.warning(
            "joints of one side without a counterpart on the other: %s. Mirrored images keep them "
            "as they are: check their names",
            ", ".join(spec.skeleton.unpaired),
        )
    return _sample_set(spec, records, sources, augmentation, teacher_maps)


def validation_samples(spec: TrainSpec, sources: Mapping[str, DatasetSource]) -> SampleSet | None:
    """The samples of the validation loss, nothing random in them; None where there are none.

    Raises:
        BodyPoseNetError: The files are broken, or hold a dataset that the spec does not name.
    """
    records, missing = _open_records(spec, "val")
    if missing or not len(records):
        why = f"no such file: {', '.join(missing)}" if missing else "no validation records"
        logger.info("validation loss is off: %s", why)
        return None
    augmentation = spec.dataloader.augmentation_config
    samples = unvaried(_sample_set(spec, records, sources, augmentation))
    first = samples[0, 0]
    if isinstance(first, BodyPoseNetError):  # better now than after the first epochs
        raise first
    return samples


def unvaried(samples: SampleSet) -> SampleSet:
    """The same samples with the same framing, without anything random."""
    augmentation = samples.augmentation
    scale = augmentation.spatial_aug_params.target_person_scale
    return samples.with_augmentation(
        AugmentationConfig(
            spatial_augmentation_mode=augmentation.spatial_augmentation_mode,
            spatial_aug_params=SpatialAugParams(target_person_scale=scale),
        )
    )


def _sample_set(
    spec: TrainSpec,
    records: RecordSet,
    sources: Mapping[str, DatasetSource],
    augmentation: AugmentationConfig,
    teacher_maps: TeacherMapSampler | None = None,
) -> SampleSet:
    dims, folder = spec.dataloader.image_config.image_dims, spec.dataloader.image_cache_dir
    cache = None if folder is None else ImageCache(Path(folder))
    return SampleSet(
        records, sources, augmentation, dims.height, dims.width, spec.random_seed, cache,
        teacher_maps,
    )  # fmt: skip


def record_files(spec: TrainSpec, kind: Literal["train", "val"]) -> list[tuple[str, list[Path]]]:
    """Each pattern of the spec, and the files that it names, in order of their names.

    Folders are relative to the working directory, or else to the spec. A file that is named twice
    counts twice.

    Raises:
        BodyPoseNetError: A pattern cannot name any file.
    """
    config = spec.dataloader.dataset_config
    folder = getattr(config, f"{kind}_records_folder_path")
    named = []
    for pattern in getattr(config, f"{kind}_records_path"):
        path = Path(folder) / pattern
        if not is_folder(path.parent):
            path = spec.folder / path
        try:
            found = [path] if is_file(path) else sorted(path.parent.glob(path.name))
        except (OSError, ValueError) as error:  # OSError: a name that is too long
            place = f"{_DATASET_CONFIG}.{kind}_records_path"
            spec.fail(place, f"{pattern}: not a file pattern: {error}", "For example train-fold-*.")
        named.append((str(path), found))
    return named


def _open_records(spec: TrainSpec, kind: Literal["train", "val"]) -> tuple[RecordSet, list[str]]:
    """The records of all files, and the patterns that name none."""
    named = record_files(spec, kind)
    records = RecordSet([path for _, found in named for path in found])
    return records, [pattern for pattern, found in named if not found]
