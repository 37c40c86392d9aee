"""Check a dataset before it is converted: annotations, image files, labels, anchor persons.

`data.label_checks` finds the suspicious labels. What `dataset_convert` or `train` would refuse is
an error.
"""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bodyposenet.data.coco import CocoDataset, CocoImage, read_dataset
from bodyposenet.data.conversion import find_anchors
from bodyposenet.data.dataset_skeleton import dataset_skeleton
from bodyposenet.data.findings import Finding, Severity, group_findings, listed
from bodyposenet.data.image_checks import SizeComparison, compare_image_sizes, find_copies
from bodyposenet.data.label_checks import check_labels
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import is_file, is_folder
from bodyposenet.specs.dataloader import MAX_UNREADABLE_SHARE
from bodyposenet.specs.dataset import DatasetSpec, Mode

_LISTED = 3
"""Number of images that are listed per problem."""

_MANY_FILTERED = 0.5
"""Share of labeled people without a record above which filters are worth a look."""


@dataclass(frozen=True)
class Problem:
    """A problem, or a fact worth knowing.

    Args:
        severity: How certain and harmful it is.
        place: What was checked, such as a file or the train data of a dataset.
        text: What is wrong.
        remedy: What to do.
    """

    severity: Severity
    place: str
    text: str
    remedy: str

    @classmethod
    def from_error(cls, error: BodyPoseNetError, place: str) -> Problem:
        """Return the problem that an error describes."""
        return cls(Severity.ERROR, place, error.what, error.remedy)


class DatasetCheck(NamedTuple):
    """Result of the check of a dataset.

    Args:
        problems: The problems.
        counts: Description of each part that was read, such as "coco, train: 60 images, ...".
    """

    problems: list[Problem]
    counts: list[str]


def check_dataset(
    spec: DatasetSpec, max_unreadable_share: float = MAX_UNREADABLE_SHARE
) -> DatasetCheck:
    """Check the annotations, images and labels of a dataset.

    Args:
        spec: Dataset spec.
        max_unreadable_share: Share of unreadable training images above which training ends.

    Returns:
        Problems and counts.
    """
    problems: list[Problem] = []
    counts: list[str] = []
    images: dict[Mode, list[CocoImage]] = {}
    try:
        spec.root()
    except BodyPoseNetError as error:
        return DatasetCheck([Problem.from_error(error, spec.dataset)], [])
    for mode in ("train", "test"):
        place = f"{spec.dataset}, {mode} data"
        if mode == "test" and spec.test_data is None:
            text = "the dataset spec has no test data, so the accuracy is not measured"
            problems.append(Problem(Severity.NOTE, place, text, "Add test_data."))
            continue
        try:
            compared = compare_image_sizes(read_dataset(spec, mode), spec.images_folder(mode))
        except BodyPoseNetError as error:
            problems.append(Problem.from_error(error, place))
            continue
        images[mode] = compared.dataset.images
        is_copy = mode == "test" and "train" in images and is_copy_of_training_data(spec, images)
        if is_copy:
            text = "same images and annotations as the train data"
            remedy = "Use other images: the accuracy on images of the training is too high."
            problems.append(Problem(Severity.WARNING, place, text, remedy))
        else:
            share = max_unreadable_share if mode == "train" else 1.0
            problems += _check_part(spec, mode, place, compared, share)
        people = sum(p.is_labeled for image in images[mode] for p in image.persons)
        counts.append(f"{place}: {len(images[mode]):,} images, {people:,} people with keypoints")
        if is_copy:  # reported above
            del images[mode]
    if "train" in images:
        problems += _problems_of(spec.dataset, check_copies(spec, "train", images))
    return DatasetCheck(problems, counts)


def is_copy_of_training_data(
    spec: DatasetSpec, images: Mapping[Mode, Sequence[CocoImage]] | None = None
) -> bool:
    """Return whether the test data of a dataset have the same annotations as the train data.

    Both can name the same file and still differ: `data.yaml` of YOLO-pose describes all parts of a
    dataset, which have other image folders or lists of images.

    Args:
        spec: Dataset spec with train and test data whose annotations exist.
        images: Images of both parts, or None to read them if necessary.

    Raises:
        BodyPoseNetError: The annotations cannot be read.
    """
    train, test = spec.annotations("train"), spec.annotations("test")
    if train == test:
        train_files, test_files = (
            {
                spec.images_folder(mode) / image.file_name
                for image in (images[mode] if images else read_dataset(spec, mode).images)
            }
            for mode in ("train", "test")
        )
        return train_files == test_files
    if is_folder(train) or is_folder(test):
        return False
    return filecmp.cmp(train, test, shallow=False)


def _check_part(
    spec: DatasetSpec, mode: Mode, place: str, compared: SizeComparison, max_unreadable: float
) -> Iterator[Problem]:
    """Yield the problems of the train or the test data."""
    dataset = compared.dataset
    yield from _check_files(spec.images_folder(mode), place, compared, max_unreadable)
    flags = spec.visibility_flags
    skeleton = dataset_skeleton(spec.dataset, spec.person, dataset.images, flags.labeled())
    findings = check_labels(dataset, skeleton, flags.classes())
    unmeasured = [f for f in findings if f.kind == "never_labeled" and mode == "test"]
    yield from _problems_of(place, [f for f in findings if f not in unmeasured])
    for finding in unmeasured:
        text = f"{finding.title}: {', '.join(finding.joints)}"
        remedy = "Label more people if the accuracy of these joints is to be measured."
        yield Problem(Severity.NOTE, place, text, remedy)
    if mode == "train":
        yield from _check_anchors(spec, place, dataset)
        yield from _check_masks(spec, place, dataset)


def _check_files(
    folder: Path, place: str, compared: SizeComparison, max_unreadable: float
) -> Iterator[Problem]:
    """Yield problems of the image files."""
    total = len(compared.dataset.images)
    missing = [path for path in compared.unreadable if not is_file(path)]
    damaged = [path for path in compared.unreadable if path not in set(missing)]
    kinds = (
        (
            missing,
            "images not found",
            "Check images_root_dir_path, run the command in the folder where this path starts, or "
            "copy the images again.",
        ),
        (damaged, "files are not images", "Copy them again, or remove them from the annotations."),
        (
            compared.mismatched,
            "images have another size than the annotations state",
            "Annotate the files that are used for training, or resize keypoints and boxes, too; "
            "training skips these images.",
        ),
    )
    for paths, text, remedy in kinds:
        if paths:
            is_error = len(paths) > max_unreadable * total or len(paths) == total
            severity = Severity.ERROR if is_error else Severity.WARNING
            text = f"{_share(paths, total)} {text}: {_listed_paths(paths)}"
            yield Problem(severity, place, text, remedy)
    if compared.ambiguous:
        paths = compared.ambiguous
        yield Problem(
            Severity.NOTE,
            place,
            f"{_share(paths, total)} images have an EXIF orientation, and their size does not show "
            f"whether they were annotated with it: {_listed_paths(paths)}",
            "Check with bpnet browse that the labels lie on the people; viewers apply the "
            "orientation, and so does bpnet.",
        )
    if not total:
        text = "the annotations contain no images"
        yield Problem(Severity.ERROR, place, text, f"Annotate images of {folder}.")


def _problems_of(place: str, findings: Sequence[Finding]) -> Iterator[Problem]:
    """Yield a problem per kind of findings; those about single people and images are counted."""
    for group in group_findings(findings).values():
        first = group[0]
        if first.file_name is None:
            text = "; ".join(finding.message.rstrip(".") for finding in group)
            yield Problem(first.severity, place, f"{first.title}: {text}", first.remedy)
            continue
        places = listed([_describe(finding) for finding in group], _LISTED)
        text = f"{first.title} ({len(group):,}): {places}"
        yield Problem(first.severity, place, text, first.remedy)


def _describe(finding: Finding) -> str:
    """Return the image and the annotation of a finding about a person."""
    ids = " and ".join(map(str, finding.annotation_ids))
    return f"{finding.file_name} (annotation {ids})" if ids else f"{finding.file_name}"


def _check_anchors(spec: DatasetSpec, place: str, dataset: CocoDataset) -> Iterator[Problem]:
    """Check that the filters leave records, and not only a few."""
    anchors, skipped = find_anchors(dataset.annotated_images(), spec)
    people = sum(p.is_labeled for image in dataset.images for p in image.persons)
    if not people:
        return  # `check_labels` reports it
    reasons = ", ".join(
        f"{count} {reason.rpartition(': ')[2]}"
        for reason, count in skipped.most_common()
        if count and ": " in reason
    )
    remedy = "Lower data_filtering_params of the dataset spec if these people are to be learned."
    if not anchors:
        text = f"no training records: no person passes the filters ({reasons})"
        yield Problem(Severity.ERROR, place, text, remedy)
    elif len(anchors) < (1 - _MANY_FILTERED) * people:
        text = f"training is centered on {len(anchors):,} of {people:,} people only ({reasons})"
        yield Problem(Severity.NOTE, place, text, remedy)


def _check_masks(spec: DatasetSpec, place: str, dataset: CocoDataset) -> Iterator[Problem]:
    """Check that there are masks if there are people without labels."""
    unlabeled = sum(not p.is_labeled for image in dataset.images for p in image.persons)
    folder = spec.root() / spec.split("train").mask_root_dir_path
    if unlabeled and not is_folder(folder):
        yield Problem(
            Severity.NOTE,
            place,
            f"{unlabeled:,} people have no keypoints, and there are no masks yet ({folder})",
            "Draw them with dataset_convert --generate_masks; otherwise these people are learned "
            "as background.",
        )


def check_copies(
    spec: DatasetSpec, mode: Mode, parts: Mapping[Mode, Sequence[CocoImage]]
) -> list[Finding]:
    """Find images of a part of a dataset whose file occurs again, in this part or in the other.

    Args:
        spec: Dataset spec.
        mode: The part.
        parts: Images of the part, and possibly of the other one.
    """
    other: Mode = "test" if mode == "train" else "train"
    folder = spec.images_folder(mode)
    if other not in parts:
        return find_copies(parts[mode], folder)
    return find_copies(parts[mode], folder, parts[other], spec.images_folder(other))


def _share(paths: Sequence[Path], total: int) -> str:
    return f"{len(paths):,} of {total:,}"


def _listed_paths(paths: Sequence[Path]) -> str:
    return listed([str(path) for path in paths], _LISTED)
