"""Checks of specs before a training: files, joints, weights and records; for `bpnet check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bodyposenet.commands.browse import BrowseOptions
from bodyposenet.commands.dataset_convert import ConvertOptions
from bodyposenet.commands.options import command_line
from bodyposenet.data.dataset_check import Problem, check_dataset
from bodyposenet.data.findings import Severity
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.specs.dataloader import MAX_UNREADABLE_SHARE
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import DEFAULT_WEIGHTS, TrainSpec

if TYPE_CHECKING:
    from bodyposenet.skeleton import Skeleton


class SpecChecker:
    """Collects the problems of specs and of what they refer to.

    Attributes:
        problems: The problems.
        counts: What was read: images and people of each dataset.
        commands: Command lines that show the labels of each dataset.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.counts: list[str] = []
        self.commands: list[str] = []
        self._checked: set[Path] = set()

    def check_train_spec(self, path: Path) -> None:
        """Check a train spec: pose configuration, datasets, records, initial weights."""
        try:
            spec = TrainSpec.load(path)
            skeleton = spec.skeleton
            datasets = spec.dataset_specs()
        except BodyPoseNetError as error:
            self.problems.append(Problem.from_error(error, str(path)))
            return
        place = str(path)
        self.problems += _check_weights(spec, place)
        self.problems += _check_sides(spec, skeleton, place)
        for dataset_spec in datasets.values():
            self.problems += _check_joints(dataset_spec, skeleton)
            self._check_dataset(dataset_spec, spec.dataloader.max_unreadable_share)
        self.problems += _check_records(spec, datasets, place)
        if spec.inference_spec is not None:
            try:
                file = spec.existing_path("inference_spec", spec.inference_spec)
            except BodyPoseNetError as error:
                self.problems.append(Problem.from_error(error, place))
            else:
                self.check_inference_spec(file)

    def check_dataset_spec(self, path: Path) -> None:
        """Check a dataset spec and its data, unless it was checked with the train spec."""
        try:
            self._check_dataset(DatasetSpec.load(path))
        except BodyPoseNetError as error:
            self.problems.append(Problem.from_error(error, str(path)))

    def check_inference_spec(self, path: Path) -> None:
        """Check an inference spec, unless it was checked with the train spec."""
        if path.resolve() in self._checked:
            return
        self._checked.add(path.resolve())
        try:
            InferenceSpec.load(path)
        except BodyPoseNetError as error:
            self.problems.append(Problem.from_error(error, str(path)))

    def _check_dataset(
        self, spec: DatasetSpec, max_unreadable_share: float = MAX_UNREADABLE_SHARE
    ) -> None:
        """Check a dataset, unless it was checked before."""
        if spec.path.resolve() in self._checked:
            return
        self._checked.add(spec.path.resolve())
        checked = check_dataset(spec, max_unreadable_share)
        self.problems += checked.problems
        self.counts += checked.counts
        self.commands.append(command_line("browse", BrowseOptions(dataset_spec=spec.path)))


def _check_weights(spec: TrainSpec, place: str) -> Iterator[Problem]:
    """Check that the files with initial weights exist."""
    tuning = spec.finetuning_config
    files = {"pretrained_weights": spec.pretrained_weights}
    if tuning.is_finetune_exp:
        files = {"finetuning_config.checkpoint_path": tuning.checkpoint_path}
    for key, file in files.items():
        if file is None or file == DEFAULT_WEIGHTS:
            continue
        try:
            spec.existing_model_path(key, file)
        except BodyPoseNetError as error:
            yield Problem.from_error(error, place)


def _check_sides(spec: TrainSpec, skeleton: Skeleton, place: str) -> Iterator[Problem]:
    """Check that mirrored images have correct labels."""
    params = spec.dataloader.augmentation_config.spatial_aug_params
    if skeleton.unpaired and (params.flip_lr_prob or params.flip_tb_prob):
        yield Problem(
            Severity.WARNING,
            place,
            f"images are mirrored, but joints have no counterpart on the other side: "
            f"{', '.join(skeleton.unpaired)}",
            "Rename the joints like left_hip and right_hip, or set flip_lr_prob and flip_tb_prob "
            "to 0.",
        )


def _check_joints(spec: DatasetSpec, skeleton: Skeleton) -> Iterator[Problem]:
    """Check that the dataset has the joints of the skeleton."""
    known = skeleton.joints_from(spec.person.keypoints).known
    missing = [j for j, is_known in zip(skeleton.joints, known, strict=True) if not is_known]
    if not missing:
        return
    is_error = len(missing) == len(known)
    what = "no joint" if is_error else f"no joint {', '.join(missing)}"
    yield Problem(
        Severity.ERROR if is_error else Severity.NOTE,
        spec.dataset,
        f"the dataset has {what} of the skeleton {skeleton.name}",
        "Use the same joint names in the dataset spec and the pose configuration; joints that no "
        "dataset has are not trained.",
    )


def _check_records(
    spec: TrainSpec, datasets: Mapping[str, DatasetSpec], place: str
) -> Iterator[Problem]:
    """Check that the training records exist, can be read, and are newer than the annotations."""
    from bodyposenet.data.records import RecordSet
    from bodyposenet.training.samples import record_files

    try:
        matches = record_files(spec, "train")
        missing = [pattern for pattern, files in matches if not files]
        if missing:
            yield _missing_records(missing, datasets, place)
            return
        paths = [path for _, files in matches for path in files]
        records = RecordSet(paths)
        names = {records[0].dataset} if len(records) else set[str]()
    except BodyPoseNetError as error:
        yield Problem.from_error(error, place)
        return
    if not len(records):
        text = "the record files are empty"
        yield Problem(Severity.ERROR, place, text, "See the summary of dataset_convert.")
    for name in names - datasets.keys():
        text = f"records of the dataset {name}, which is not in dataset_specs"
        yield Problem(Severity.ERROR, place, text, f"Add {name} to dataset_specs.")
    oldest = min(path.stat().st_mtime for path in paths)
    for dataset in datasets.values():
        if dataset.has_annotations("train"):
            annotations = dataset.annotations("train")
            if max(annotations.stat().st_mtime, dataset.path.stat().st_mtime) > oldest:
                yield Problem(
                    Severity.WARNING,
                    place,
                    f"{annotations} or {dataset.path} is newer than the records",
                    "Convert the dataset again: bpnet dataset_convert.",
                )


def _missing_records(
    missing: list[str], datasets: Mapping[str, DatasetSpec], place: str
) -> Problem:
    """Return the note that records must be written, with the command for the first dataset."""
    prefix = missing[0].partition("-fold-")[0]
    spec = next(iter(datasets.values()))
    options = ConvertOptions(dataset_spec=spec.path, output_filename=prefix, generate_masks=True)
    return Problem(
        Severity.NOTE,
        place,
        f"records not written yet: {', '.join(missing)}",
        f"Write them: {command_line('dataset_convert', options)}",
    )
