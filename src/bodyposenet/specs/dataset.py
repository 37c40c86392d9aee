"""The dataset spec (`coco_spec.json`): paths, joints, visibility flags and filters of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, model_validator

from bodyposenet.files import exists
from bodyposenet.specs.loading import Block, Spec, ignored_key
from bodyposenet.specs.pose import KeypointCategory
from bodyposenet.types import Visibility

Mode = Literal["train", "test"]

FormatName = Literal[
    "auto", "coco", "coco_wholebody", "label_studio", "cvat", "yolo_pose", "sloth", "mpii"
]
"""Annotation formats; "auto": detected by the content."""

VISIBILITY_CLASSES = {visibility.name.lower(): visibility for visibility in Visibility}


class Split(Block):
    """Train or test part of a dataset; paths are relative to `root_directory_path`."""

    images_root_dir_path: str
    """Folder of the images."""
    mask_root_dir_path: str
    """Folder to which masks are written, and from which they are read."""
    annotation_root_dir_path: str
    """Annotation file, or folder with the annotations of one of the other formats."""
    annotation_format: FormatName = "auto"
    """Format of the annotations, see [annotation formats](annotation-formats.md) (not in TAO).
    Default: detected by their content."""


class VisibilityFlags(Block):
    """The dataset's visibility flags and their meaning."""

    value: dict[str, int]
    """Numbers in the annotations by name; the names are arbitrary."""
    mapping: dict[str, str]
    """Meaning of each name: visible, annotatable, occluded, truncated, not_labeled or
    not_labeled_in_dataset."""

    @model_validator(mode="after")
    def _every_flag_is_mapped(self) -> VisibilityFlags:
        """Check that each name has a meaning, and each number a single one."""
        missing = sorted(set(self.value) - set(self.mapping))
        if missing:
            raise ValueError(f"mapping: missing {', '.join(missing)}")
        unknown = sorted(set(self.mapping.values()) - set(VISIBILITY_CLASSES))
        if unknown:
            raise ValueError(
                f"mapping: unknown {', '.join(unknown)}; choose from "
                f"{', '.join(VISIBILITY_CLASSES)}"
            )
        classes = self.classes()
        for name, number in self.value.items():
            if classes[number] is not VISIBILITY_CLASSES[self.mapping[name]]:
                raise ValueError(f"two names of the number {number} have different mappings")
        return self

    def classes(self) -> dict[int, Visibility]:
        """Return the meaning of each number in the annotations."""
        return {
            number: VISIBILITY_CLASSES[self.mapping[name]] for name, number in self.value.items()
        }

    def labeled(self) -> frozenset[int]:
        """Return the numbers in the annotations that mean "labeled"."""
        return frozenset(number for number, kind in self.classes().items() if kind.is_labeled)


COCO_FLAGS = VisibilityFlags(
    value={"visible": 2, "occluded": 1, "not_labeled": 0},
    mapping={"visible": "visible", "occluded": "occluded", "not_labeled": "not_labeled"},
)


class FilteringParams(Block):
    """Filters of anchor persons, the people on whom records are centered.

    See the TAO reference, section 3.2.
    """

    min_acceptable_height: float = Field(
        default=32,
        ge=0,
        validation_alias=AliasChoices("min_acceptable_height", "min_acceptable_heigth"),
    )
    """Smallest area of the segmentation: min_acceptable_height x min_acceptable_width pixels."""
    min_acceptable_width: float = Field(default=32, ge=0)
    """See min_acceptable_height."""
    min_acceptable_kpts: float = Field(default=5, ge=0)
    """Smallest number of labeled keypoints."""
    min_acceptable_interperson_dist_ratio: float = Field(default=0.3, ge=0)
    """Smallest distance from an accepted anchor person, as a fraction of the longer side of that
    person's box."""


class DatasetSpec(Spec):
    """A dataset with annotated keypoints (TAO reference, section 2.1)."""

    dataset: str
    """Name of the dataset, saved in each record; key of `dataset_specs` in the train spec."""
    root_directory_path: str
    """Folder to which all other paths are relative."""
    train_data: Split
    """Images and annotations to train on."""
    test_data: Split | None = None
    """Images and annotations to evaluate on."""
    duplicate_data_with_each_person_as_center: bool = True
    """One record per anchor person; false: one per image, centered on its first anchor person."""
    categories: tuple[KeypointCategory, ...]
    """Only the entry named `person` is used, or the only entry."""
    visibility_flags: VisibilityFlags = COCO_FLAGS
    """Visibility flags; COCO's by default."""
    data_filtering_params: FilteringParams = FilteringParams()
    """Filters of anchor persons."""
    comment: Any = ignored_key("it is a comment")

    def check(self) -> None:
        """Check that there is a category of people.

        Raises:
            BodyPoseNetError: There is none.
        """
        if len(self.categories) != 1 and not self._named_person():
            named = ", ".join(category.name for category in self.categories) or "none"
            self.fail(
                "categories",
                f"expected a single category, or one named person, got {named}",
                "Rename the category of people to person, or remove the others.",
            )

    def _named_person(self) -> list[KeypointCategory]:
        """Return the categories with the name person; case is ignored."""
        return [category for category in self.categories if category.name.casefold() == "person"]

    @property
    def person(self) -> KeypointCategory:
        """Category of people: the one named person, or the only one."""
        return (self._named_person() or list(self.categories))[0]

    def split(self, mode: Mode) -> Split:
        """Return the train or test part.

        Raises:
            BodyPoseNetError: The spec has no test data.
        """
        if mode == "train":
            return self.train_data
        if self.test_data is None:
            self.fail("test_data", "is missing", "Add the images and annotations of the test data.")
        return self.test_data

    def root(self) -> Path:
        """Return the folder to which all other paths are relative.

        Raises:
            BodyPoseNetError: It does not exist.
        """
        return self.existing_path("root_directory_path", self.root_directory_path)

    def folders(self, root: Path) -> tuple[Path, ...]:
        """Return the folders of images and masks.

        Args:
            root: Root folder of the dataset.

        Returns:
            Those of the train data, then those of the test data.
        """
        splits = [split for split in (self.train_data, self.test_data) if split is not None]
        return tuple(
            root / folder
            for split in splits
            for folder in (split.images_root_dir_path, split.mask_root_dir_path)
        )

    def images_folder(self, mode: Mode) -> Path:
        """Return the image folder of a part.

        Raises:
            BodyPoseNetError: The root does not exist.
        """
        return self.root() / self.split(mode).images_root_dir_path

    def has_annotations(self, mode: Mode) -> bool:
        """Return whether the annotations of a part exist."""
        root = self.find_path(self.root_directory_path)
        return root is not None and exists(root / self.split(mode).annotation_root_dir_path)

    def annotations(self, mode: Mode) -> Path:
        """Return the annotation file or folder of a part.

        Raises:
            BodyPoseNetError: It does not exist.
        """
        path = self.root() / self.split(mode).annotation_root_dir_path
        if not exists(path):
            self.fail(
                f"{mode}_data.annotation_root_dir_path",
                f"file not found: {path}",
                "Correct the path, or run the command in the folder where it starts. It is "
                f"relative to root_directory_path ({self.root().resolve()}).",
            )
        return path
