"""Sample sets of a train spec: training samples, and validation samples without augmentation."""

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
    """Return the image folder and the joint mapping of each dataset of a train spec.

    Raises:
        BodyPoseNetError: A root folder is missing, or a dataset shares no joint with the skeleton.
    """
    config = spec.dataloader.dataset_config
    sources = {}
    for name, dataset_spec in dataset_specs.items():
        if name in config.root_data_paths:
            place = ("dataloader", "dataset_config", "root_data_paths", name)
            root = spec.existing_path(place, config.root_data_paths[name])
        elif config.root_data_path is not None:
            root = spec.existing_path(f"{_DATASET_CONFIG}.root_data_path", config.root_data_path)
        else:
            root = dataset_spec.root()
        source = DatasetSource.from_spec(dataset_spec, root, spec.skeleton)
        known = source.joint_map.known
        missing = [
            joint
            for joint, is_known in zip(spec.skeleton.joints, known, strict=True)
            if not is_known
        ]
        if not known.any():
            spec.fail(
                ("dataloader", "dataset_config", "dataset_specs", name),
                f"the dataset has no joint name in common with the skeleton {spec.skeleton.name}",
                "Use the joint names of the pose configuration in the dataset spec.",
            )
        if missing:
            logger.info(
                "Dataset %s has no labels for %s: these joints are not trained on it",
                name, ", ".join(missing),
            )  # fmt: skip
        sources[name] = source
    return sources


def training_samples(
    spec: TrainSpec,
    sources: Mapping[str, DatasetSource],
    teacher_maps: TeacherMapSampler | None = None,
) -> SampleSet:
    """Build the set of training samples.

    Args:
        spec: The train spec.
        sources: Image folders and joint mappings by dataset; see `dataset_sources`.
        teacher_maps: Precomputed teacher maps to add to the samples, or None.

    Raises:
        BodyPoseNetError: Record files are missing, damaged or empty.
    """
    place = f"{_DATASET_CONFIG}.train_records_path"
    records, missing = _open_records(spec, "train")
    if missing:
        spec.fail(
            place, f"file not found: {missing[0]}", "Create it with dataset_convert, mode train."
        )
    if not len(records):
        spec.fail(place, "the files hold no records", "See the summary of dataset_convert.")
    augmentation = spec.dataloader.augmentation_config
    params = augmentation.spatial_aug_params
    if spec.skeleton.unpaired and (params.flip_lr_prob or params.flip_tb_prob):
        logger.warning(
            "Joints without a counterpart on the other side: %s. They keep their names in flipped "
            "images; check the joint names of the pose configuration",
            ", ".join(spec.skeleton.unpaired),
        )
    return _sample_set(spec, records, sources, augmentation, teacher_maps)


def validation_samples(spec: TrainSpec, sources: Mapping[str, DatasetSource]) -> SampleSet | None:
    """Build the set of samples of the validation loss, without augmentation.

    Returns:
        The samples, or None if there are no validation records.

    Raises:
        BodyPoseNetError: The files are damaged, or contain a dataset without a dataset spec.
    """
    records, missing = _open_records(spec, "val")
    if missing or not len(records):
        reason = f"file not found: {', '.join(missing)}" if missing else "no validation records"
        logger.info("Validation loss is off: %s", reason)
        return None
    augmentation = spec.dataloader.augmentation_config
    samples = without_augmentation(_sample_set(spec, records, sources, augmentation))
    first = samples[0, 0]
    if isinstance(first, BodyPoseNetError):  # Fail now rather than after the first epochs.
        raise first
    return samples


def without_augmentation(samples: SampleSet) -> SampleSet:
    """Return the same samples with the same cropping, but without random augmentation."""
    augmentation = samples.augmentation
    scale = augmentation.spatial_aug_params.target_person_scale
    return samples.with_augmentation(
        AugmentationConfig(
            spatial_augmentation_mode=augmentation.spatial_augmentation_mode,
            spatial_aug_params=SpatialAugParams(target_person_scale=scale),
        )
    )


def record_files(spec: TrainSpec, kind: Literal["train", "val"]) -> list[tuple[str, list[Path]]]:
    """Return each file pattern of the spec with the files that match it, sorted by name.

    Folders are relative to the working directory, or else to the spec. A file that matches two
    patterns counts twice.

    Raises:
        BodyPoseNetError: A pattern is invalid.
    """
    config = spec.dataloader.dataset_config
    folder = getattr(config, f"{kind}_records_folder_path")
    matches = []
    for pattern in getattr(config, f"{kind}_records_path"):
        path = Path(folder) / pattern
        if not is_folder(path.parent) and is_folder((spec.folder / path).parent):
            path = spec.folder / path
        try:
            files = [path] if is_file(path) else sorted(path.parent.glob(path.name))
        except (OSError, ValueError) as error:  # OSError: the name is too long.
            place = f"{_DATASET_CONFIG}.{kind}_records_path"
            spec.fail(
                place,
                f"{pattern}: invalid file pattern: {error}",
                "Use, for example, train-fold-*.",
            )
        matches.append((str(path), files))
    return matches


def _open_records(spec: TrainSpec, kind: Literal["train", "val"]) -> tuple[RecordSet, list[str]]:
    """Open the records of all files; also return the patterns that match no file."""
    matches = record_files(spec, kind)
    records = RecordSet([path for _, files in matches for path in files])
    return records, [pattern for pattern, files in matches if not files]


def _sample_set(
    spec: TrainSpec,
    records: RecordSet,
    sources: Mapping[str, DatasetSource],
    augmentation: AugmentationConfig,
    teacher_maps: TeacherMapSampler | None = None,
) -> SampleSet:
    """Build a sample set at the input size of the train spec."""
    dims, folder = spec.dataloader.image_config.image_dims, spec.dataloader.image_cache_dir
    cache = None if folder is None else ImageCache(Path(folder))
    return SampleSet(
        records, sources, augmentation, dims.height, dims.width, spec.random_seed, cache,
        teacher_maps,
    )  # fmt: skip
