"""The dataset spec (`coco_spec.json`): where a dataset lies, its joints, what to filter out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, model_validator

from bodyposenet.files import is_file
from bodyposenet.specs.loading import Block, Spec, ignored_key
from bodyposenet.specs.pose import KeypointCategory
from bodyposenet.types import Visibility

Mode = Literal["train", "test"]

VISIBILITY_CLASSES = {visibility.name.lower(): visibility for visibility in Visibility}


class Split(Block):
    """The train or the test part of a dataset; paths are relative to `root_directory_path`."""

    images_root_dir_path: str
    """Folder of the images."""
    mask_root_dir_path: str
    """Folder that masks are written to and read from."""
    annotation_root_dir_path: str
    """The annotation file (despite its name)."""


class VisibilityFlags(Block):
    """The dataset's visibility flags and what they mean to training."""

    value: dict[str, int]
    """Name (free) -> the number that stands in the annotations."""
    mapping: dict[str, str]
    """Name -> visible, annotatable, occluded, truncated, not_labeled or not_labeled_in_dataset."""

    @model_validator(mode="after")
    def _every_flag_is_mapped(self) -> VisibilityFlags:
        missing = sorted(set(self.value) - set(self.mapping))
        if missing:
            raise ValueError(f"the mapping lacks {', '.join(missing)}")
        unknown = sorted(set(self.mapping.values()) - set(VISIBILITY_CLASSES))
        if unknown:
            raise ValueError(
                f"cannot map to {', '.join(unknown)}; choose from {', '.join(VISIBILITY_CLASSES)}"
            )
        classes = self.classes()
        for name, number in self.value.items():
            if classes[number] is not VISIBILITY_CLASSES[self.mapping[name]]:
                raise ValueError(f"the number {number} has two names that map to different classes")
        return self

    def classes(self) -> dict[int, Visibility]:
        """Number in the annotations -> what it means."""
        return {
            number: VISIBILITY_CLASSES[self.mapping[name]] for name, number in self.value.items()
        }

    def labelled(self) -> frozenset[int]:
        """The numbers in the annotations that mean that a keypoint is labelled."""
        return frozenset(number for number, kind in self.classes().items() if kind.is_labelled)


COCO_FLAGS = VisibilityFlags(
    value={"visible": 2, "occluded": 1, "not_labeled": 0},
    mapping={"visible": "visible", "occluded": "occluded", "not_labeled": "not_labeled"},
)


class FilteringParams(Block):
    """Who may be a main person, the one that a record is centred on.

    See the TAO reference, section 3.2.
    """

    min_acceptable_height: float = Field(
        default=32,
        ge=0,
        validation_alias=AliasChoices("min_acceptable_height", "min_acceptable_heigth"),
    )
    """Together with the width: the least area of the segmentation is height x width pixels."""
    min_acceptable_width: float = Field(default=32, ge=0)
    """See min_acceptable_height."""
    min_acceptable_kpts: float = Field(default=5, ge=0)
    """Least number of labelled keypoints."""
    min_acceptable_interperson_dist_ratio: float = Field(default=0.3, ge=0)
    """Least distance from an accepted main person, as a share of that person's larger box side."""


class DatasetSpec(Spec):
    """A dataset in COCO's keypoint format (TAO reference, section 2.1)."""

    dataset: str
    """Name, written to every record; the key of `dataset_specs` in the train spec."""
    root_directory_path: str
    """Folder that all other paths are relative to."""
    train_data: Split
    """Images and annotations to train on."""
    test_data: Split | None = None
    """Images and annotations to evaluate on."""
    duplicate_data_with_each_person_as_center: bool = True
    """One record per main person; false: one per image, centred on its first main person."""
    categories: tuple[KeypointCategory, ...]
    """Only the entry named `person` is used, or the only one there is."""
    visibility_flags: VisibilityFlags = COCO_FLAGS
    """COCO's flags by default."""
    data_filtering_params: FilteringParams = FilteringParams()
    """Who may be a main person."""
    comment: Any = ignored_key("it is for people to read")

    def check(self) -> None:
        """There is a category of people.

        Raises:
            BodyPoseNetError: There is none.
        """
        if len(self.categories) != 1 and not self._named_person():
            named = ", ".join(category.name for category in self.categories) or "none"
            self.fail(
                "categories",
                f"expected one category, or one of them named person, got {named}",
                "Name the category of people person, or take the others out.",
            )

    def _named_person(self) -> list[KeypointCategory]:
        return [category for category in self.categories if category.name.casefold() == "person"]

    @property
    def person(self) -> KeypointCategory:
        """The category of people: the one named person, or the only one."""
        return (self._named_person() or list(self.categories))[0]

    def split(self, mode: Mode) -> Split:
        """The train or test part.

        Raises:
            BodyPoseNetError: The spec has no test data.
        """
        if mode == "train":
            return self.train_data
        if self.test_data is None:
            self.fail(
                "test_data", "is missing", "Name the images and annotations of the test data."
            )
        return self.test_data

    def root(self) -> Path:
        """The folder that all other paths are relative to.

        Raises:
            BodyPoseNetError: It does not exist.
        """
        return self.existing_path("root_directory_path", self.root_directory_path)

    def folders(self, root: Path) -> tuple[Path, ...]:
        """The folders of images and masks.

        Args:
            root: What relative ones are relative to.
        """
        splits = [split for split in (self.train_data, self.test_data) if split is not None]
        return tuple(
            root / folder
            for split in splits
            for folder in (split.images_root_dir_path, split.mask_root_dir_path)
        )

    def images_folder(self, mode: Mode) -> Path:
        """The folder of a part's images.

        Raises:
            BodyPoseNetError: The root does not exist.
        """
        return self.root() / self.split(mode).images_root_dir_path

    def has_annotations(self, mode: Mode) -> bool:
        """Whether the annotation file of a part exists."""
        root = self.find_path(self.root_directory_path)
        return root is not None and is_file(root / self.split(mode).annotation_root_dir_path)

    def annotations(self, mode: Mode) -> Path:
        """The annotation file of a part.

        Raises:
            BodyPoseNetError: It does not exist.
        """
        path = self.root() / self.split(mode).annotation_root_dir_path
        if not is_file(path):
            self.fail(f"{mode}_data.annotation_root_dir_path", f"no such file: {path}")
        return path
