"""HTML gallery of a dataset: suspicious labels first, then statistics, samples and photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from bodyposenet.console import logger, progress
from bodyposenet.data.coco import CocoImage
from bodyposenet.data.findings import KINDS, Finding, Severity, group_findings
from bodyposenet.data.label_statistics import LabelStatistics
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.reporting.html import (
    Markup,
    Section,
    collapsible_list,
    contents,
    gallery,
    layer_switches,
    notice,
    paragraph,
    plot,
    quantity,
    row,
    subheading,
    table,
    write_page,
)
from bodyposenet.reporting.label_pictures import LAYERS, LabelPainter, SamplePicture
from bodyposenet.reporting.plots import plot_label_statistics
from bodyposenet.skeleton import Skeleton

_SUSPECT_SHARE = 0.6
"""Largest share of the pictures that show suspicious labels."""
_MAX_SIZES = 5
"""Number of the most frequent image sizes that are listed."""
_LEGEND = (
    "The person's left side is blue, the right side orange. Rings are occluded joints, red spots "
    "suspicious ones. Point at a joint for its name; click a picture to enlarge it."
)

_ABOUT_LIMBS = (
    "The size of a person is the longer side of the box. Limb lengths: median, middle half (thick) "
    "and 1st to 99th percentile (thin). Left and right limbs should be similar."
)


@dataclass(frozen=True, eq=False)
class BrowsePage:
    """Content of the gallery.

    Args:
        dataset: Name of the dataset.
        mode: "train" or "test".
        images: All annotated images.
        statistics: Statistics of their labels.
        findings: Suspicious labels, sorted.
        samples: Augmented training samples, possibly none.
        network_skeleton: Skeleton of the samples, or None without samples.
    """

    dataset: str
    mode: str
    images: Sequence[CocoImage]
    statistics: LabelStatistics
    findings: Sequence[Finding]
    samples: Sequence[SamplePicture] = ()
    network_skeleton: Skeleton | None = None


def write_browse_page(path: Path, page: BrowsePage, painter: LabelPainter, max_images: int) -> Path:
    """Write the gallery; it is reproducible byte for byte.

    Args:
        path: The HTML file.
        page: Its content.
        painter: Renders the images of the dataset.
        max_images: Maximum number of pictures of the dataset.

    Returns:
        The path.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    statistics = page.statistics
    single = [finding for finding in page.findings if finding.file_name is not None]
    shown = select_findings(single, int(_SUSPECT_SHARE * max_images))
    sections = (
        Section("Dataset", _findings_of_dataset(page.findings)),
        Section("Suspicious labels", list(_suspicious(page, painter, shown))),
        Section("Statistics", _statistics(statistics)),
        Section("Training samples", _samples(page)),
        Section("Photos", _photos(page, painter, max_images - len(shown))),
    )
    suspicious = [each for each in page.findings if each.severity is not Severity.NOTE]
    facts = {
        "images": f"{statistics.images:,}",
        "people": f"{statistics.people:,}",
        "people with labeled joints": f"{statistics.labeled_people:,}",
        "joints": f"{len(statistics.skeleton.joints)}",
        "suspicious labels": f"{len(suspicious):,}",
    }
    title = f"{page.dataset}, {page.mode} data"
    header = [
        contents(section.title for section in sections if section.parts),
        paragraph(_LEGEND),
        layer_switches(LAYERS),
    ]
    return write_page(path, title, facts, sections, header)


def select_findings(findings: Sequence[Finding], count: int) -> list[Finding]:
    """Select findings to show: the most suspicious ones of each kind, in the given order.

    Args:
        findings: Findings about people or images, sorted.
        count: Maximum number.

    Returns:
        The first finding of each kind, then the second ones, and so on; sorted as given.
    """
    rounds = zip_longest(*group_findings(findings).values())
    chosen = [finding for finding in chain.from_iterable(rounds) if finding is not None][:count]
    ids = set(map(id, chosen))
    return [finding for finding in findings if id(finding) in ids]


def _findings_of_dataset(findings: Sequence[Finding]) -> list[Markup]:
    """Return the findings about the whole dataset."""
    notices = [
        notice(
            each.severity.name.lower(),
            f"{each.title.capitalize()}:",
            f"{each.message} {each.remedy}",
        )
        for each in findings
        if each.file_name is None
    ]
    return notices or [paragraph("No mistake that concerns the whole dataset was found.")]


def _suspicious(
    page: BrowsePage, painter: LabelPainter, shown: Sequence[Finding]
) -> Iterator[Markup]:
    """Yield the suspicious labels by kind: the most suspicious ones as pictures."""
    single = [finding for finding in page.findings if finding.file_name is not None]
    images = {image.file_name: image for image in page.images}
    pictures = {id(finding): finding for finding in shown}
    for kind, group in group_findings(single).items():
        yield subheading(f"{KINDS[kind].title.capitalize()}: {len(group):,}")
        yield paragraph(KINDS[kind].remedy)
        drawn = [
            _picture(painter, images[finding.file_name or ""], finding)
            for finding in group
            if id(finding) in pictures
        ]
        yield gallery(each for each in drawn if each is not None)
        if len(group) > len(drawn):
            yield collapsible_list(f"All {len(group):,}", [_line(finding) for finding in group])
    if not single:
        yield paragraph("None found.")


def _picture(painter: LabelPainter, image: CocoImage, finding: Finding) -> Markup | None:
    """Return the picture of a finding; None, and a warning, if the image cannot be read."""
    try:
        return painter.suspects(image, finding.annotation_ids, finding.joints, finding.message)
    except BodyPoseNetError as error:
        logger.warning("Not shown: %s", error)
        return None


def _line(finding: Finding) -> str:
    ids = ", ".join(map(str, finding.annotation_ids))
    place = f"{finding.file_name}, annotation {ids}" if ids else f"{finding.file_name}"
    return f"{place}: {finding.message}"


def _statistics(statistics: LabelStatistics) -> list[Markup]:
    """Return the plots, and a table of the image sizes."""
    parts = [row(plot(figure) for figure in plot_label_statistics(statistics))]
    if statistics.images:
        sizes, counts = np.unique(statistics.image_sizes, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:_MAX_SIZES]
        rows = [
            (f"{w} x {h}", f"{n:,}") for (w, h), n in zip(sizes[order], counts[order], strict=True)
        ]
        parts.append(table(["image size", "images"], rows))
        if len(sizes) > _MAX_SIZES:
            parts.append(paragraph(f"and {len(sizes) - _MAX_SIZES:,} other sizes"))
    if statistics.labeled_people:
        parts.append(paragraph(_ABOUT_LIMBS))
    people = (
        f"{statistics.unlabeled_people:,} people without labeled joints and {statistics.crowds:,} "
        "crowds are masked in training."
    )
    return [*parts, paragraph(people)]


def _samples(page: BrowsePage) -> list[Markup]:
    """Return the augmented training samples."""
    if page.network_skeleton is None:
        return []
    about = (
        "As the network sees them in the first epoch, after augmentation, with the target heatmaps "
        "(maximum over the joints) and PAFs (largest length over the limbs)."
    )
    skeleton = page.network_skeleton
    return [
        paragraph(about),
        *(gallery(sample.render(skeleton), columns=3) for sample in page.samples),
    ]


def _photos(page: BrowsePage, painter: LabelPainter, count: int) -> list[Markup]:
    """Return pictures of images that are evenly spaced in the dataset."""
    count = min(count, len(page.images))
    indices = np.linspace(0, len(page.images) - 1, count).round().astype(int).tolist()
    pictures: list[Markup] = []
    problems: list[str] = []
    for index in progress(indices, "drawing"):
        image = page.images[index]
        people = sum(not person.is_crowd for person in image.persons)
        details = f"{image.width} x {image.height}, {quantity(people, 'person', 'people')}"
        try:
            pictures.append(painter.whole(image, details))
        except BodyPoseNetError as error:
            logger.warning("Not shown: %s", error)
            problems.append(error.what)
    about = f"{len(pictures):,} of {len(page.images):,} images, evenly spaced."
    parts = [paragraph(about), gallery(pictures)]
    if problems:
        parts.append(collapsible_list(f"{len(problems):,} could not be shown", problems))
    return parts
