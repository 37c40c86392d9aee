"""Read the annotations of a project, in any format, and split them if necessary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bodyposenet.data.coco import CocoImage, read_coco
from bodyposenet.data.coco_file import write_coco
from bodyposenet.data.formats.reading import (
    FORMATS,
    AnnotationSummary,
    CategorySummary,
    describe_annotations,
)
from bodyposenet.data.label_statistics import LabeledPeople
from bodyposenet.data.project.project_files import Category, Part, ProjectFolder
from bodyposenet.data.project.skeleton_inference import Certainty, Inference, JointPositions
from bodyposenet.data.project.split import split_images
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file, is_folder, refuse_existing
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.specs.dataset import COCO_FLAGS, Mode

_IMAGE_FOLDERS = (("images/train", "images/val"), ("train/images", "valid/images"))
"""Usual folders of training and validation images beside `data.yaml`."""

_FEW_IMAGES = 20
"""Number of validation images below which the accuracy is hardly more than chance."""


@dataclass(frozen=True)
class AnnotationSources:
    """Where the annotations and images of a project are.

    Args:
        train: Images and annotations for training.
        val: Images and annotations for validation, or None to split those for training, unless
            their format contains validation data.
        val_share: Share of the images that are split off.
        category: Name of the category of people, or None for the only one with keypoints, or the
            one named person.
        joints: Joints to use, or all if empty; names of the keypoints if the file has none.
    """

    train: Part
    val: Part | None
    val_share: float
    category: str | None = None
    joints: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class AnnotatedData:
    """Annotated images of a project.

    Args:
        category: The category of people, with the joints that are used.
        limbs: Limbs of the annotation file as pairs of names, possibly none.
        mirrored_joints: Pairs of joints that the file declares as mirrored, by name.
        images: The images of the parts "train" and "val".
        parts: Images and annotations of both parts.
        is_split: Whether the annotations were split, so that `write_split` is necessary.
        inferences: What was read, and how it was split.
    """

    category: Category
    limbs: tuple[tuple[str, str], ...]
    mirrored_joints: tuple[tuple[str, str], ...]
    images: Mapping[str, Sequence[CocoImage]]
    parts: Mapping[str, Part]
    is_split: bool
    inferences: tuple[Inference, ...]

    @property
    def positions(self) -> JointPositions:
        """Keypoints of the people of the training images."""
        joints = len(self.category.joints)
        people = LabeledPeople.collect(self.images["train"], joints, COCO_FLAGS.labeled())
        return JointPositions(people.points, people.sizes)

    def refuse_replacing(self, source: Path, *, overwrite: bool) -> None:
        """Raise an error if `write_split` would replace files.

        Args:
            source: The annotations that were read, which are never replaced by a part of them.
            overwrite: Whether other files may be replaced.

        Raises:
            BodyPoseNetError: A file exists and may not be replaced.
        """
        for part in self.parts.values() if self.is_split else ():
            places = (part.annotations, *part.annotations.parents[:2])  # a file, or its folders
            if is_file(part.annotations) and any(place.samefile(source) for place in places):
                raise BodyPoseNetError(
                    f"{source}: would be replaced by a part of itself, as it is in the folder of "
                    "the project",
                    "Choose another folder with -o, or give validation data with "
                    "--val_annotations, so that the annotations are not split.",
                )
            refuse_existing(part.annotations, overwrite=overwrite)

    def write_split(self) -> list[Path]:
        """Write the annotation files of both parts, if the annotations were split.

        Returns:
            The files.

        Raises:
            BodyPoseNetError: A file cannot be written.
        """
        if not self.is_split:
            return []
        for name, part in self.parts.items():
            write_coco(part.annotations, self.images[name], self.category.entry())
        return [part.annotations for part in self.parts.values()]


def default_images(annotations: Path) -> tuple[Path, Path | None]:
    """Return the folders of training and validation images if none is given.

    Args:
        annotations: The annotation file or folder.

    Returns:
        The folder of the annotations and None; or, if the file is YAML, which describes all parts
        (YOLO), the usual folders beside it if they exist.
    """
    folder = annotations if is_folder(annotations) else annotations.parent
    if annotations.suffix.lower() in (".yaml", ".yml"):
        for train, val in _IMAGE_FOLDERS:
            if is_folder(folder / train) and is_folder(folder / val):
                return folder / train, folder / val
    return folder, None


def read_annotated_data(sources: AnnotationSources, folder: ProjectFolder) -> AnnotatedData:
    """Read the annotations of a project.

    Args:
        sources: Where the annotations and images are, and what to use of them.
        folder: Folder of the project, in which split annotations will be written.

    Returns:
        The images of both parts.

    Raises:
        BodyPoseNetError: A file is missing or invalid, no category or several have keypoints, or
            no image was found.
    """
    train = sources.train
    summary = describe_annotations(train.annotations, train.images)
    chosen = _choose_category(train.annotations, summary, sources.category)
    names, name_inferences = _joint_names(chosen, sources.joints)
    joints = _chosen_joints(train.annotations, names, sources.joints) if sources.joints else names
    category = Category(chosen.name or "person", chosen.id, joints)
    images, parts, is_split, split_inference = _read_parts(sources, summary, category, folder)
    people = sum(p.is_labeled for part in images.values() for image in part for p in image.persons)
    text = (
        f"{summary.title}: {sum(map(len, images.values()))} images, {people} people with "
        f"keypoints, category {category.name}"
    )
    pairs = enumerate(chosen.flip_indices)
    return AnnotatedData(
        category,
        tuple((names[start], names[end]) for start, end in chosen.limbs),
        tuple((names[joint], names[other]) for joint, other in pairs if joint < other),
        images,
        parts,
        is_split,
        (Inference("data", text), *name_inferences, split_inference),
    )


def _choose_category(path: Path, summary: AnnotationSummary, name: str | None) -> CategorySummary:
    """Choose the category of people.

    Raises:
        BodyPoseNetError: No category qualifies, or more than one.
    """
    found = [category for category in summary.categories if category.num_keypoints]
    if name is not None:
        wanted = [c for c in found if c.name.casefold() == name.casefold()]
    else:
        wanted = [c for c in found if c.name.casefold() == "person"] if len(found) > 1 else found
    if len(wanted) == 1:
        return wanted[0]
    listed = ", ".join(f"{c.name} ({c.people} annotations)" for c in found) or "none"
    raise BodyPoseNetError(
        f"{path}: cannot choose the category of people; categories with keypoints: {listed}",
        "Name one with --category."
        if found
        else "Annotate keypoints; in COCO's format, the list `categories` must name them.",
    )


def _joint_names(
    category: CategorySummary, given: tuple[str, ...]
) -> tuple[tuple[str, ...], list[Inference]]:
    """Return the names of all keypoints of a category; if the file has none, given or assumed ones.

    Raises:
        BodyPoseNetError: The file has no names, and another number of names is given.
    """
    if category.keypoints:
        return category.keypoints, []
    count = category.num_keypoints
    if given:
        if len(given) != count:
            raise BodyPoseNetError(
                f"--joints: expected {count} names, as the file has {count} keypoints without "
                f"names, got {len(given)}",
                "List the names in the order of the file.",
            )
        return given, []
    if count == len(COCO_JOINTS):
        text = "the file does not name its 17 keypoints; assuming COCO's names and order"
        return COCO_JOINTS, [Inference("names", text, Certainty.UNSURE)]
    text = f"the file does not name its {count} keypoints; name them with --joints a,b,..."
    names = _numbered_names(category.flip_indices, count)
    return names, [Inference("names", text, Certainty.UNSURE)]


def _chosen_joints(path: Path, names: tuple[str, ...], chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Return the joints to use in the notation of the file, such as `LHip` for `left_hip`.

    Joints that the file does not have keep their names, unless it has others instead.

    Args:
        path: The annotation file, for the error message.
        names: Names of the file's keypoints.
        chosen: The joints to use.

    Raises:
        BodyPoseNetError: The file has no keypoint of this name, but others that are not used.
    """
    indices = Skeleton("", names, ()).match(chosen)
    missing = [name for name, index in zip(chosen, indices, strict=True) if index is None]
    if missing and set(names) - {names[index] for index in indices if index is not None}:
        raise BodyPoseNetError(
            f"--joints: {path} has no keypoint {', '.join(missing)}",
            f"Its keypoints are: {', '.join(names)}.",
        )
    return tuple(
        name if index is None else names[index] for name, index in zip(chosen, indices, strict=True)
    )


def _numbered_names(flip_indices: tuple[int, ...], count: int) -> tuple[str, ...]:
    """Return numbered names; mirrored keypoints are called left and right."""
    names = [f"joint_{number}" for number in range(1, count + 1)]
    for joint, other in enumerate(flip_indices):
        if joint < other:
            names[joint], names[other] = f"left_{joint + 1}", f"right_{joint + 1}"
    return tuple(names)


def _read_parts(
    sources: AnnotationSources,
    summary: AnnotationSummary,
    category: Category,
    folder: ProjectFolder,
) -> tuple[dict[str, list[CocoImage]], dict[str, Part], bool, Inference]:
    """Read the images of both parts.

    Returns:
        Images by part, files by part, whether the annotations must be split, and how they are.
    """
    train = sources.train
    if sources.val is not None:
        parts = {"train": train, "val": sources.val}
        images = {name: _read(part, category) for name, part in parts.items()}
        text = f"{_counts(images)}, from separate annotations"
        return images, parts, False, Inference("split", text)
    whole = _read(train, category)
    if FORMATS[summary.format].has_parts:
        val_images = _read(train, category, "test")
        if 0 < len(val_images) < len(whole):
            images = {"train": _read(train, category, "train"), "val": val_images}
            text = f"{_counts(images)}, as in {train.annotations}"
            return images, {"train": train, "val": train}, False, Inference("split", text)
    train_images, val_images = split_images(whole, sources.val_share)
    images = {"train": train_images, "val": val_images}
    parts = {name: Part(train.images, folder.annotations(name)) for name in images}
    text = f"{_counts(images)}, by a hash of the file name"
    if len(val_images) >= _FEW_IMAGES:
        return images, parts, True, Inference("split", text)
    text += "; the accuracy on so few is a rough estimate; more with --val_share"
    return images, parts, True, Inference("split", text, Certainty.UNSURE)


def _counts(images: Mapping[str, Sequence[CocoImage]]) -> str:
    return f"{len(images['train'])} images for training, {len(images['val'])} for validation"


def _read(part: Part, category: Category, mode: Mode | None = None) -> list[CocoImage]:
    """Read the images of a part whose files exist.

    Raises:
        BodyPoseNetError: The annotations are invalid, or no file exists.
    """
    dataset = read_coco(
        part.annotations,
        category.joints,
        category=category.name,
        category_id=category.id,
        images_folder=part.images,
        mode=mode,
    )
    dataset.log(part.annotations)
    found = [image for image in dataset.images if is_file(part.images / image.file_name)]
    if dataset.images and not found:
        raise BodyPoseNetError(
            f"{part.images}: none of the {len(dataset.images)} annotated images found, for example "
            f"{dataset.images[0].file_name}",
            "Give the folder of the images with -i (--images).",
        )
    return found
