"""List the files that a training opens, for `remote_training.py pack`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bodyposenet import BodyPoseNetError
from bodyposenet.data.records import read_records
from bodyposenet.data.teacher_map_store import HEADER_FILE, TeacherMapStore
from bodyposenet.evaluation.evaluator import load_test_images
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.training import DEFAULT_WEIGHTS, TrainSpec
from bodyposenet.training.samples import dataset_sources, record_files


def files_of(spec: TrainSpec) -> Iterator[Path]:
    """Yield all files that a training with this spec opens, except for the spec itself.

    Raises:
        BodyPoseNetError: A file is missing or damaged.
    """
    yield from _named_files(spec)
    dataset_specs = spec.dataset_specs()
    sources = dataset_sources(spec, dataset_specs)
    maps = None
    if spec.distillation and spec.distillation.maps:
        maps = TeacherMapStore.open(spec.existing_path("distillation.maps", spec.distillation.maps))
        yield maps.path / HEADER_FILE
    for path in _record_files(spec):
        yield path
        for record in read_records(path):
            if record.dataset not in sources:
                raise BodyPoseNetError(
                    f"{path}: a record belongs to the dataset {record.dataset}, which has no spec",
                    "Add its dataset spec to dataloader.dataset_config.dataset_specs.",
                )
            root = sources[record.dataset].root
            yield root / record.image_path
            if (root / record.mask_path).is_file():
                yield root / record.mask_path
            if maps is not None and maps.file_of(root / record.image_path).is_file():
                yield maps.file_of(root / record.image_path)
    for dataset_spec in dataset_specs.values():
        yield from _test_data(dataset_spec, spec.validation_max_images)


def _named_files(spec: TrainSpec) -> Iterator[Path]:
    """Yield the files that the spec names: specs, weights, teacher and pose configuration."""
    for name, path in spec.dataloader.dataset_config.dataset_specs.items():
        yield spec.existing_path(("dataloader", "dataset_config", "dataset_specs", name), path)
    optional = {
        "pretrained_weights": spec.pretrained_weights,
        "inference_spec": spec.inference_spec,
        "finetuning_config.checkpoint_path": spec.finetuning_config.checkpoint_path,
        "distillation.teacher": spec.distillation and spec.distillation.teacher,
    }
    for place, path in optional.items():
        if path and not (place == "pretrained_weights" and path == DEFAULT_WEIGHTS):
            file = spec.existing_path(place, path)
            yield file
            companion = file.with_suffix(".bin" if file.suffix == ".xml" else ".state")
            if companion.is_file():  # weights of an OpenVINO IR, or state of a checkpoint
                yield companion
    pose = spec.find_path(spec.dataloader.pose_config.pose_config_path)
    if pose is not None:  # otherwise a pose configuration of the package
        yield pose


def _record_files(spec: TrainSpec) -> Iterator[Path]:
    for kind in ("train", "val"):
        for pattern, files in record_files(spec, kind):
            if not files:
                place = f"dataloader.dataset_config.{kind}_records_path"
                spec.fail(place, f"file not found: {pattern}", "Create it with dataset_convert.")
            yield from files


def _test_data(spec: DatasetSpec, limit: int | None) -> Iterator[Path]:
    """Yield the test images and annotations; those that equal the training data are not used."""
    trained = spec.train_data.annotation_root_dir_path
    if spec.test_data and spec.test_data.annotation_root_dir_path != trained:
        yield spec.annotations("test")
        for image in load_test_images(spec, limit):
            yield spec.images_folder("test") / image.file_name
