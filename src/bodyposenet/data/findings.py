"""Findings about labels: their kinds, how severe they are, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby

from bodyposenet.data.label_statistics import LabeledPeople


class Severity(IntEnum):
    """How certain and how harmful a finding is; the most severe first."""

    ERROR = 0
    """A mistake that spoils training."""
    WARNING = 1
    """Probably a mistake."""
    NOTE = 2
    """Worth knowing."""


@dataclass(frozen=True)
class FindingKind:
    """A kind of suspicious label.

    Args:
        title: Short description.
        severity: Severity of all findings of this kind.
        remedy: What to do.
    """

    title: str
    severity: Severity
    remedy: str


KINDS: Mapping[str, FindingKind] = {
    "no_labels": FindingKind(
        "no labeled keypoints", Severity.ERROR,
        "Check the visibility flags of the annotation file, and visibility_flags of the dataset "
        "spec.",
    ),
    "corner_boxes": FindingKind(
        "boxes as x1, y1, x2, y2", Severity.ERROR,
        "Write boxes as x, y, width, height.",
    ),
    "normalized_coordinates": FindingKind(
        "coordinates from 0 to 1", Severity.ERROR,
        "Multiply x by the width and y by the height of the image.",
    ),
    "misaligned": FindingKind(
        "keypoints outside of many boxes", Severity.ERROR,
        "Check that boxes and keypoints are in pixels of the same image size, and x comes first.",
    ),
    "swapped_dataset": FindingKind(
        "left and right exchanged in most people", Severity.ERROR,
        "Exchange the names of left and right keypoints: left is the person's left, which is on "
        "the right of the image if the person faces the camera.",
    ),
    "from_behind": FindingKind(
        "left and right exchanged, or most people seen from behind", Severity.WARNING,
        "Look at some people: left is the person's left.",
    ),
    "never_labeled": FindingKind(
        "joints that are never labeled", Severity.WARNING,
        "Remove the joints from the dataset spec, or label them; they are not trained.",
    ),
    "unlabeled_coordinates": FindingKind(
        "keypoints with coordinates whose flag means not labeled", Severity.WARNING,
        "If they are labels, correct their flags, or visibility_flags of the dataset spec.",
    ),
    "binary_visibility": FindingKind(
        "visibility flags 0 and 1 only", Severity.NOTE,
        "If 1 means visible, write 2, or map it in visibility_flags of the dataset spec. Occluded "
        "and visible keypoints are trained alike.",
    ),
    "shared_images": FindingKind(
        "same image in train and test data", Severity.WARNING,
        "Remove it from one of them: the accuracy on images of the training is too high.",
    ),
    "repeated_images": FindingKind(
        "same image several times", Severity.WARNING,
        "Merge the annotations into one image, or remove the copies.",
    ),
    "skipped": FindingKind(
        "skipped annotations", Severity.NOTE,
        "Check that they are not people of this dataset.",
    ),
    "repaired": FindingKind(
        "repaired values", Severity.NOTE,
        "Correct the file if a repair is wrong.",
    ),
    "swapped_sides": FindingKind(
        "left and right may be exchanged", Severity.WARNING,
        "Exchange the joints if left is not the person's left.",
    ),
    "outside_image": FindingKind(
        "joints outside of the image", Severity.WARNING,
        "Correct them, or mark them as not labeled.",
    ),
    "outside_box": FindingKind(
        "joints far outside of the box", Severity.WARNING,
        "Correct the joints or the box.",
    ),
    "one_point": FindingKind(
        "joints at the same point", Severity.WARNING,
        "Move them, or mark them as not labeled.",
    ),
    "duplicate_people": FindingKind(
        "person annotated twice", Severity.WARNING,
        "Remove one of the annotations.",
    ),
    "long_limb": FindingKind(
        "unusually long limb", Severity.WARNING,
        "Check both joints.",
    ),
    "tiny_person": FindingKind(
        "labeled person of a few pixels", Severity.NOTE,
        "Check the box; such people are too small to be detected.",
    ),
}  # fmt: skip
"""The kinds of findings: first those about datasets, then those about single people."""


@dataclass(frozen=True)
class Finding:
    """A suspicious label.

    Args:
        kind: Key of `KINDS`.
        message: What was found.
        file_name: Image, or None for the whole dataset.
        annotation_ids: Annotations of the people concerned.
        joints: Names of the joints concerned.
        score: Larger is more suspicious; comparable within the same kind.
    """

    kind: str
    message: str
    file_name: str | None = None
    annotation_ids: tuple[int, ...] = ()
    joints: tuple[str, ...] = ()
    score: float = 0.0

    @property
    def title(self) -> str:
        """Short description of the kind."""
        return KINDS[self.kind].title

    @property
    def severity(self) -> Severity:
        """How certain and harmful the finding is."""
        return KINDS[self.kind].severity

    @property
    def remedy(self) -> str:
        """What to do."""
        return KINDS[self.kind].remedy

    @classmethod
    def of_person(
        cls, kind: str, people: LabeledPeople, index: int, message: str,
        joints: Sequence[str] = (), score: float = 0.0,
    ) -> Finding:  # fmt: skip
        """Create a finding about one person.

        Args:
            kind: Key of `KINDS`.
            people: The labeled people of the dataset.
            index: Index of the person among them.
            message: What was found.
            joints: Names of the joints concerned.
            score: Larger is more suspicious.
        """
        ids = (people.persons[index].annotation_id,)
        return cls(kind, message, people.images[index].file_name, ids, tuple(joints), score)


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings: the most severe kinds first; of the same kind, the most suspicious first."""
    order = {kind: number for number, kind in enumerate(KINDS)}
    return sorted(findings, key=lambda each: (each.severity, order[each.kind], -each.score))


def group_findings(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Group sorted findings by kind."""
    return {kind: list(group) for kind, group in groupby(findings, key=lambda each: each.kind)}


def listed(texts: Sequence[str], most: int = 4) -> str:
    """List the first texts, and the number of the others."""
    more = [f"{len(texts) - most:,} more"] if len(texts) > most else []
    return ", ".join([*texts[:most], *more])
