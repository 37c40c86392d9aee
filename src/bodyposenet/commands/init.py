"""Write the specs of a project for your own data, ready to run: dataset, skeleton, training.

Examples:
  bpnet init -a annotations.json -i photos
  bpnet init --joints nose,left_hip,right_hip
  bpnet init --template list

From annotations in any supported format, or only from the names of joints. What is inferred is
printed with how certain it is, and the commands that follow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bodyposenet.commands.dataset_convert import ConvertOptions
from bodyposenet.commands.evaluate import EvaluateOptions
from bodyposenet.commands.options import (
    CommandOptions,
    Need,
    Option,
    StrPath,
    command,
    command_line,
    ignored_options,
    options_class,
)
from bodyposenet.commands.train import TrainOptions
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import refuse_existing

if TYPE_CHECKING:
    from bodyposenet.data.project.annotated_data import AnnotationSources
    from bodyposenet.data.project.project_files import ProjectFolder
    from bodyposenet.data.project.skeleton_inference import Inference
    from bodyposenet.data.project.training_settings import Device

_LIST = "list"
_FOLDER = "project"
_PHOTOS = "photos"
_NEEDS_ANNOTATIONS = Need("--annotations", lambda options: options.annotations is not None)


def _split_names(names: Any) -> Any:
    """Split names at commas; anything but text is kept."""
    if not isinstance(names, str):
        return names
    return tuple(name.strip() for name in names.split(",") if name.strip())


@options_class
class InitOptions(CommandOptions):
    """Options of `init`."""

    annotations: Annotated[
        StrPath | None,
        Option("-a", help="Annotation file or folder, in any supported format.", metavar="PATH"),
    ] = None
    images: Annotated[
        StrPath | None,
        Option("-i", help="Folder of the images. Default: that of the annotations.", metavar="DIR"),
    ] = None
    val_annotations: Annotated[
        StrPath | None,
        Option(
            help="Annotations of the validation data. Default: split off from the annotations.",
            metavar="PATH",
            needs=_NEEDS_ANNOTATIONS,
        ),
    ] = None
    val_images: Annotated[
        StrPath | None,
        Option(
            help="Folder of the validation images. Default: that of the images.",
            metavar="DIR",
            needs=_NEEDS_ANNOTATIONS,
        ),
    ] = None
    val_share: Annotated[
        float,
        Field(gt=0, lt=1),
        Option(
            help="Share of the images that are split off for validation.",
            metavar="X",
            needs=_NEEDS_ANNOTATIONS,
        ),
    ] = 0.1
    joints: Annotated[
        tuple[str, ...],
        BeforeValidator(_split_names),
        Option(
            help="Names of the joints, separated by commas. With annotations: the joints to use, "
            "or the names of the keypoints if the file has none.",
            metavar="NAMES",
        ),
    ] = ()
    category: Annotated[
        str | None,
        Option(
            help="Category to use, if several have keypoints. Default: person.",
            metavar="NAME",
            needs=_NEEDS_ANNOTATIONS,
        ),
    ] = None
    results_dir: Annotated[
        StrPath | None,
        Option(
            "-o", "-r", "--results_dir",
            help=f"Folder of the project. Default: {_FOLDER}; of templates: the working directory.",
            metavar="DIR",
        ),
    ] = None  # fmt: skip
    device: Annotated[
        Literal["auto", "cpu", "gpu"],
        Option(help="Device of the training, for batch size, input size and number of epochs."),
    ] = "auto"
    epochs: Annotated[
        int | None,
        Field(ge=1),
        Option(help="Number of epochs. Default: by the number of people.", metavar="N"),
    ] = None
    template: Annotated[
        str | None,
        Option(
            help="Copy a spec or pose configuration of the package instead; list: list them.",
            metavar="NAME",
            empty=_LIST,
        ),
    ] = None
    overwrite: Annotated[bool, Option(help="Replace existing files.")] = False


@dataclass(frozen=True)
class InitResult:
    """Files of a project.

    Args:
        files: The files that were written.
        commands: Command lines that follow.
        lines: What was inferred, with how certain it is; or the list of templates.
    """

    files: tuple[Path, ...]
    commands: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return what was inferred, the files, and the commands that follow."""
        lines = list(self.lines)
        if self.files:
            lines += ["", f"written: {', '.join(map(str, self.files))}"]
        if self.commands:
            lines += ["", "The commands that follow, in this folder:"]
            lines += [f"  {each}" for each in self.commands]
        return "\n".join(lines).strip("\n")


@command(InitOptions)
def init_project(options: InitOptions) -> InitResult:
    """Write the specs of a project, ready to run.

    Example:
        >>> project = bodyposenet.init_project(annotations="annotations.json", images="photos")
        >>> print(project.summary())

    Raises:
        BodyPoseNetError: The annotations are invalid, a file exists, or there is no such template.
    """
    if options.template is not None:
        return _copy_template(options)
    if options.annotations is None and not options.joints:
        raise BodyPoseNetError(
            "init needs annotations, or the names of joints",
            "bpnet init -a ANNOTATIONS -i IMAGES, bpnet init --joints nose,left_hip,right_hip, or "
            "bpnet init --template list",
        )
    from bodyposenet.data.project.project_files import ProjectFolder

    folder = ProjectFolder(Path(options.results_dir or _FOLDER))
    folder.refuse_existing(overwrite=options.overwrite)
    if options.annotations is None:
        _reject_ignored(options)
        return _init_from_joints(options, folder)
    return _init_from_annotations(options, folder)


def _reject_ignored(options: InitOptions) -> None:
    """Raise an error about options that would have no effect."""
    for field, need in ignored_options(options):
        raise BodyPoseNetError(
            f"{field.flag}: only works with {need.words}",
            f"Give the annotations with -a, or omit {field.flag}.",
        )


def _copy_template(options: InitOptions) -> InitResult:
    """List the templates, or copy one."""
    from bodyposenet.data.project import templates

    if options.template == _LIST:
        return InitResult((), lines=(templates.list_templates(),))
    folder = Path(options.results_dir or ".")
    path = templates.copy_template(options.template or "", folder, overwrite=options.overwrite)
    return InitResult((path,))


def _init_from_annotations(options: InitOptions, folder: ProjectFolder) -> InitResult:
    """Write the files of a project with annotations."""
    from bodyposenet.data.project.annotated_data import read_annotated_data
    from bodyposenet.data.project.project_files import write_specs
    from bodyposenet.data.project.skeleton_inference import infer_skeleton
    from bodyposenet.data.project.training_settings import choose_settings

    sources = _sources(options)
    data = read_annotated_data(sources, folder)
    data.refuse_replacing(sources.train.annotations, overwrite=options.overwrite)
    category = data.category
    inferred = infer_skeleton(
        category.name, category.joints, data.limbs, data.positions, data.mirrored_joints
    )
    settings = choose_settings(
        data.images["train"], len(category.joints), _device(options.device), options.epochs
    )
    commands = _commands(folder)
    files = data.write_split()
    files += write_specs(folder, category, data.parts, inferred, settings, commands)
    inferences = (*data.inferences, *inferred.inferences, *settings.inferences)
    return InitResult(tuple(files), tuple(commands.values()), tuple(_lines(inferences)))


def _sources(options: InitOptions) -> AnnotationSources:
    """Return the annotations and images of the options."""
    from bodyposenet.data.project.annotated_data import AnnotationSources, default_images
    from bodyposenet.data.project.project_files import Part

    annotations, val = Path(options.annotations or ""), None
    if options.images is not None:
        images, val_images = Path(options.images), options.val_images
    else:
        images, default = default_images(annotations)
        val_images = options.val_images or default
    if options.val_annotations is not None or val_images is not None:
        val = Part(Path(val_images or images), Path(options.val_annotations or annotations))
    return AnnotationSources(
        Part(images, annotations), val, options.val_share, options.category, options.joints
    )


def _init_from_joints(options: InitOptions, folder: ProjectFolder) -> InitResult:
    """Write the files of a project whose photos are not annotated yet."""
    from bodyposenet.data.project.project_files import (
        Category,
        Part,
        write_labeling_configuration,
        write_specs,
    )
    from bodyposenet.data.project.skeleton_inference import infer_skeleton
    from bodyposenet.data.project.training_settings import choose_settings

    refuse_existing(folder.labeling_configuration, overwrite=options.overwrite)
    category = Category("person", 1, options.joints)
    images = Path(options.images or _PHOTOS)
    parts = {name: Part(images, folder.annotations(name)) for name in ("train", "val")}
    inferred = infer_skeleton(category.name, category.joints)
    settings = choose_settings((), len(category.joints), _device(options.device), options.epochs)
    commands = _commands(folder)
    files = write_specs(folder, category, parts, inferred, settings, commands)
    files.append(write_labeling_configuration(folder, category))
    annotations = " and ".join(part.annotations.as_posix() for part in parts.values())
    adapt = InitOptions(
        annotations="export.json", images=images, results_dir=folder.path, overwrite=True
    )
    lines = [
        *_lines((*inferred.inferences, *settings.inferences)),
        "",
        f"Annotate the photos in {images.as_posix()} with these joints, for example in Label",
        f"Studio with the labeling configuration {folder.labeling_configuration.as_posix()}. Then",
        "adapt the specs to the data:",
        f"  {command_line('init', adapt)}",
        f"or save the annotations in COCO's format as {annotations}.",
    ]
    return InitResult(tuple(files), tuple(commands.values()), tuple(lines))


def _device(name: Literal["auto", "cpu", "gpu"]) -> Device:
    """Return the device of the training; auto: a GPU if PyTorch can use one."""
    if name != "auto":
        return name
    if find_spec("torch") is None:
        return "cpu"
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def _commands(folder: ProjectFolder) -> dict[str, str]:
    """Return the command lines that follow, by the name of the command."""
    options = {
        "dataset_convert": ConvertOptions(
            dataset_spec=folder.dataset_spec, output_filename=folder.records, generate_masks=True
        ),
        "train": TrainOptions(experiment_spec_file=folder.train_spec, results_dir=folder.results),
        "evaluate": EvaluateOptions(
            inference_spec=folder.inference_spec,
            dataset_spec=folder.dataset_spec,
            model_filename=folder.model,
            results_dir=folder.results / "evaluation",
        ),
    }
    return {name: command_line(name, each) for name, each in options.items()}


def _lines(inferences: Iterable[Inference]) -> list[str]:
    """Format inferences as a table: topic, certainty, result."""
    return [f"{each.topic:<9} {f'[{each.certainty}]':<14} {each.text}" for each in inferences]
