"""Write a gallery of a dataset: suspicious labels first, then statistics, samples and photos.

Example: bpnet browse -d dataset.json -e train.yaml

The result is a single HTML file that any browser opens. It contains reduced copies of the photos.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from bodyposenet.commands.options import CommandOptions, Option, StrPath, command, options_class
from bodyposenet.console import logger
from bodyposenet.files import is_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bodyposenet.data.coco import CocoImage
    from bodyposenet.data.findings import Finding
    from bodyposenet.reporting.label_pictures import SamplePicture
    from bodyposenet.skeleton import Skeleton
    from bodyposenet.specs.dataset import DatasetSpec, Mode

_FILE_NAME = "browse.html"
_EXTENSIONS = (".html", ".htm")
_SAMPLES = 12
"""Number of training samples that are shown."""


@options_class
class BrowseOptions(CommandOptions):
    """Options of `browse`."""

    dataset_spec: Annotated[
        StrPath, Option("-d", help="Dataset spec (JSON or YAML).", metavar="FILE")
    ]
    experiment_spec_file: Annotated[
        StrPath | None,
        Option(
            "-e",
            help="Train spec. Adds training samples after augmentation, with their target maps; "
            "needs the records of dataset_convert.",
            metavar="FILE",
        ),
    ] = None
    results_dir: Annotated[
        StrPath,
        Option(
            "-o",
            "-r",
            "--results_dir",
            help=f"Folder of {_FILE_NAME}, or an HTML file. Default: the working directory.",
            metavar="PATH",
        ),
    ] = "."
    mode: Annotated[
        Literal["train", "test"],
        Option("-m", help="Which data of the spec to show. Default: train."),
    ] = "train"
    max_images: Annotated[
        int,
        Field(ge=1, le=10_000),
        Option(
            help="Maximum number of pictures of the dataset, on which the size of the file depends "
            "(about 60 kB each). The checks and the statistics include all images.",
            metavar="N",
        ),
    ] = 100


@dataclass(frozen=True)
class BrowseResult:
    """A gallery.

    Args:
        page: The HTML file.
        findings: Suspicious labels, the most severe first.
    """

    page: Path
    findings: tuple[Finding, ...]

    def summary(self) -> str:
        """Return the number of findings of each kind, and the file."""
        from bodyposenet.data.findings import group_findings

        groups = group_findings(self.findings)
        lines = [f"{len(group):>9,} {group[0].title}" for group in groups.values()]
        size = self.page.stat().st_size / 2**20
        return "\n".join(
            [*(lines or ["no suspicious labels"]), f"written: {self.page}, {size:.1f} MiB"]
        )


@command(BrowseOptions)
def browse_dataset(options: BrowseOptions) -> BrowseResult:
    """Write a gallery of a dataset: suspicious labels, statistics, samples and photos.

    Example:
        >>> bodyposenet.browse_dataset(dataset_spec="dataset.json", results_dir="gallery")

    Raises:
        BodyPoseNetError: A spec, the annotations or the records are invalid, or the file cannot be
            written.
    """
    from bodyposenet.data.coco import read_dataset
    from bodyposenet.data.conversion import check_images_exist
    from bodyposenet.data.dataset_skeleton import dataset_skeleton
    from bodyposenet.data.findings import sort_findings
    from bodyposenet.data.image_checks import correct_image_sizes
    from bodyposenet.data.label_checks import check_labels
    from bodyposenet.data.label_statistics import label_statistics
    from bodyposenet.reporting.browse_page import BrowsePage, write_browse_page
    from bodyposenet.reporting.label_pictures import LabelPainter
    from bodyposenet.specs.dataset import DatasetSpec

    output = Path(options.results_dir)
    if is_folder(output) or output.suffix.lower() not in _EXTENSIONS:
        output = output / _FILE_NAME
    spec, mode = DatasetSpec.load(options.dataset_spec), options.mode
    samples, network_skeleton = _samples(options)
    logger.info("reading %s", spec.annotations(mode))
    folder = spec.images_folder(mode)
    dataset = correct_image_sizes(read_dataset(spec, mode), folder)
    check_images_exist(dataset.images, folder)
    visibility, labeled = spec.visibility_flags.classes(), spec.visibility_flags.labeled()
    skeleton = dataset_skeleton(spec.dataset, spec.person, dataset.images, labeled)
    findings = [
        *check_labels(dataset, skeleton, visibility),
        *_copies(spec, mode, dataset.images),
    ]
    page = BrowsePage(
        spec.dataset, mode, dataset.images,
        label_statistics(dataset.images, skeleton, labeled),
        sort_findings(findings), samples, network_skeleton,
    )  # fmt: skip
    painter = LabelPainter(folder, skeleton, visibility)
    write_browse_page(output, page, painter, options.max_images)
    return BrowseResult(output, tuple(page.findings))


def _samples(options: BrowseOptions) -> tuple[Sequence[SamplePicture], Skeleton | None]:
    """Return samples of the train spec and the skeleton of its network, if it is given."""
    if options.experiment_spec_file is None:
        return (), None
    from bodyposenet.specs.training import TrainSpec
    from bodyposenet.training.sample_preview import preview_samples

    spec = TrainSpec.load(options.experiment_spec_file)
    return preview_samples(spec, _SAMPLES), spec.skeleton


def _copies(spec: DatasetSpec, mode: Mode, images: Sequence[CocoImage]) -> list[Finding]:
    """Find images that occur again in the data, or in the other part of the dataset."""
    from bodyposenet.data.coco import read_dataset
    from bodyposenet.data.dataset_check import check_copies

    other: Mode = "test" if mode == "train" else "train"
    parts: dict[Mode, Sequence[CocoImage]] = {mode: images}
    if spec.test_data is not None and spec.has_annotations(other):
        parts[other] = read_dataset(spec, other).images
    return check_copies(spec, mode, parts)
