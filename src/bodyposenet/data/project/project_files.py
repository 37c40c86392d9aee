"""Write the files of a project: dataset spec, pose configuration, train and inference spec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from bodyposenet.data.formats.label_studio import labeling_configuration
from bodyposenet.data.project.skeleton_inference import InferredSkeleton
from bodyposenet.data.project.training_settings import TrainingSettings
from bodyposenet.files import atomic_write, refuse_existing, write_json

_VALIDATIONS = 5
"""Number of validations, and of checkpoints, during a training."""


@dataclass(frozen=True)
class ProjectFolder:
    """Paths in the folder of a project.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def dataset_spec(self) -> Path:
        """The dataset spec."""
        return self.path / "dataset.json"

    @property
    def pose_configuration(self) -> Path:
        """The pose configuration."""
        return self.path / "pose.json"

    @property
    def train_spec(self) -> Path:
        """The train spec."""
        return self.path / "train.yaml"

    @property
    def inference_spec(self) -> Path:
        """The inference spec."""
        return self.path / "inference.yaml"

    @property
    def specs(self) -> list[Path]:
        """All specs."""
        return [
            self.dataset_spec, self.pose_configuration, self.train_spec, self.inference_spec,
        ]  # fmt: skip

    @property
    def labeling_configuration(self) -> Path:
        """The labeling configuration for Label Studio, of projects without annotations."""
        return self.path / "label_studio.xml"

    @property
    def records(self) -> Path:
        """Prefix of the training records."""
        return self.path / "records" / "train"

    @property
    def results(self) -> Path:
        """Results folder of the training."""
        return self.path / "results"

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.results / "bpnet_model.tlt"

    def annotations(self, part: str) -> Path:
        """Return the annotation file of a part, "train" or "val", that `init` writes."""
        return self.path / "annotations" / f"{part}.json"

    def masks(self, part: str) -> Path:
        """Return the folder of the masks of a part."""
        return self.path / "masks" / part

    def refuse_existing(self, *, overwrite: bool) -> None:
        """Raise an error if a spec exists and may not be overwritten.

        Raises:
            BodyPoseNetError: A file exists and may not be replaced.
        """
        for path in self.specs:
            refuse_existing(path, overwrite=overwrite)


@dataclass(frozen=True)
class Part:
    """Images and annotations of the training or the validation data.

    Args:
        images: Folder of the images.
        annotations: Annotation file or folder, in any format.
    """

    images: Path
    annotations: Path


@dataclass(frozen=True)
class Category:
    """The category of people in annotation files.

    Args:
        name: Its name.
        id: Its id.
        joints: Names of its keypoints.
    """

    name: str
    id: int
    joints: tuple[str, ...]

    def entry(self) -> dict[str, Any]:
        """Return the entry of `categories` in annotation files and dataset specs."""
        return {
            "supercategory": self.name,
            "id": self.id,
            "name": self.name,
            "keypoints": list(self.joints),
        }


def write_specs(
    folder: ProjectFolder,
    category: Category,
    parts: Mapping[str, Part],
    inferred: InferredSkeleton,
    settings: TrainingSettings,
    commands: Mapping[str, str],
) -> list[Path]:
    """Write dataset spec, pose configuration, train spec and inference spec.

    Args:
        folder: Folder of the project.
        category: The category of people.
        parts: The parts of the data by name, "train" and "val".
        inferred: The skeleton.
        settings: Settings of the training.
        commands: Command lines "train" and "evaluate", for comments.

    Returns:
        The files.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    write_json(folder.dataset_spec, _dataset_spec(folder, category, parts, settings))
    write_json(folder.pose_configuration, inferred.skeleton.to_pose_configuration())
    values = {
        "command": commands["train"],
        "epochs": settings.epochs,
        "every": max(settings.epochs // _VALIDATIONS, 1),
        "inference": _quoted(folder.inference_spec),
        "batch_size": settings.batch_size,
        "size": settings.training_input,
        "pose": _quoted(folder.pose_configuration),
        "records": _quoted(folder.records.parent),
        "name": json.dumps(_dataset_name(folder)),
        "dataset": _quoted(folder.dataset_spec),
        "flip": 0.5 if inferred.is_mirrorable else 0.0,
        "zoom_min": settings.zoom[0],
        "zoom_max": settings.zoom[1],
    }
    _write_from_template(folder.train_spec, values)
    values = {"command": commands["evaluate"], "height": settings.inference_input}
    _write_from_template(folder.inference_spec, values)
    return folder.specs


def write_labeling_configuration(folder: ProjectFolder, category: Category) -> Path:
    """Write a labeling configuration for Label Studio: boxes around people, and their keypoints.

    Args:
        folder: Folder of the project.
        category: The category of people.

    Returns:
        The file.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    with atomic_write(folder.labeling_configuration) as file:
        file.write(labeling_configuration(category.joints, category.name).encode())
    return folder.labeling_configuration


def _dataset_spec(
    folder: ProjectFolder,
    category: Category,
    parts: Mapping[str, Part],
    settings: TrainingSettings,
) -> dict[str, Any]:
    """Return the content of the dataset spec; its paths are relative to the working directory."""
    keys = {"train": "train_data", "val": "test_data"}
    splits = {
        keys[name]: {
            "images_root_dir_path": part.images.as_posix(),
            "mask_root_dir_path": folder.masks(name).as_posix(),
            "annotation_root_dir_path": part.annotations.as_posix(),
        }
        for name, part in parts.items()
    }
    return {
        "dataset": _dataset_name(folder),
        "root_directory_path": ".",
        **splits,
        "categories": [category.entry() | {"num_joints": len(category.joints)}],
        "data_filtering_params": settings.filters.model_dump(),
    }


def _dataset_name(folder: ProjectFolder) -> str:
    """Return the name of the dataset: that of the folder."""
    return folder.path.resolve().name or "own"


def _quoted(path: Path) -> str:
    """Return a path as a YAML string."""
    return json.dumps(path.as_posix(), ensure_ascii=False)


def _write_from_template(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file from the template in the package that has its name."""
    template = files("bodyposenet") / "resources" / "project" / path.name
    text = Template(template.read_text(encoding="utf-8")).substitute(values)
    with atomic_write(path) as file:
        file.write(text.encode())
