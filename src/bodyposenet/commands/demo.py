"""Run inference on a photo; then run all steps, from conversion to inference, on synthetic images.

Takes some minutes on two CPU cores. The demo prints the commands that it runs; they can be used in
the same way on real data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bodyposenet.commands.dataset_convert import convert_dataset
from bodyposenet.commands.diagnostics import list_packages
from bodyposenet.commands.evaluate import evaluate
from bodyposenet.commands.inference import predict
from bodyposenet.commands.options import (
    CommandOptions,
    Option,
    StrPath,
    command,
    command_line,
    options_class,
)
from bodyposenet.commands.train import train
from bodyposenet.console import print_result
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write, make_directory
from bodyposenet.results_folder import results_folder

if TYPE_CHECKING:
    from bodyposenet.commands.options import Command

_SIZE = 192
"""Height and width of the synthetic images."""
_SPECS = ("train.yaml", "inference.yaml")
_EXTRAS = ("eval", "train")
"""Extras that `bodyposenet[demo]` installs."""


@options_class
class DemoOptions(CommandOptions):
    """Options of `demo`."""

    results_dir: Annotated[
        StrPath, Option("-r", help="Output folder of the demo.", metavar="DIR")
    ] = "demo"
    seed: Annotated[int, Option(help="Seed of the synthetic images.", metavar="N")] = 0
    images: Annotated[int, Field(ge=1), Option(help="Number of training images.", metavar="N")] = (
        3000
    )
    test_images: Annotated[int, Field(ge=1), Option(help="Number of test images.", metavar="N")] = (
        200
    )
    epochs: Annotated[int, Field(ge=1), Option(help="Number of training epochs.", metavar="N")] = 1


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo.

    Args:
        folder: Output folder.
        images: Number of test images.
        ap: Keypoint AP of the trained model on them.
        ap_of_perfect_maps: Keypoint AP of the decoder on the ideal maps (training targets) of these
            images, the upper limit.
    """

    folder: Path
    images: int
    ap: float
    ap_of_perfect_maps: float

    def summary(self) -> str:
        """Return the folders of the pictures, and the keypoint AP."""
        photo, unseen = (self.folder / name / "images_annotated" for name in ("photo", "inference"))
        return (
            f"\nphoto with the detections of the default model: {photo}\n"
            f"test images with the detections of the trained model: {unseen}\n"
            f"keypoint AP on these {self.images} images: {self.ap:.3f} "
            f"(with ideal maps: {self.ap_of_perfect_maps:.3f})"
        )


@command(DemoOptions)
def demo(options: DemoOptions) -> DemoResult:
    """Run inference on a photo; then run all steps on synthetic images.

    Raises:
        BodyPoseNetError: A package is missing, the folder contains a demo with other options, or it
            cannot be written.
    """
    from bodyposenet.demo import write_drawn_dataset

    _check_packages()
    run = _Run(shows=options.progress)
    folder = make_directory(options.results_dir)
    with results_folder(folder) as status:
        _write_specs(folder, options)
        _run_on_photo(run, folder)
        run.show(
            f"\ndrawing {options.images} synthetic training and {options.test_images} test images"
        )
        write_drawn_dataset(
            folder / "data", options.images, options.test_images, _SIZE, options.seed
        )
        ap = _run_commands(run, folder)
        ideal_ap = _ideal_ap(folder)
        status.write("RUNNING", "demo", kpi={"AP": ap, "AP_of_perfect_maps": ideal_ap})
    return DemoResult(folder, options.test_images, ap, ideal_ap)


class _Run:
    """Runs commands, and prints their command lines and summaries.

    Args:
        shows: Whether anything is printed.
    """

    def __init__(self, *, shows: bool) -> None:
        self._shows = shows

    def __call__(self, name: str, function: Command[..., Any], **options: Any) -> Any:
        """Run a command and return its result."""
        built = function.options(**options, progress=self._shows)
        self.show(f"\n$ {command_line(name, built)}")
        result = function.run(built)
        self.show(result.summary())
        return result

    def show(self, text: str) -> None:
        """Print a text that is not empty."""
        if self._shows and text:
            print_result(text)


def _check_packages() -> None:
    """Check that all packages that the commands need are installed.

    Raises:
        BodyPoseNetError: Packages are missing.
    """
    needed = [package for package in list_packages() if package.extra in _EXTRAS]
    missing = [package.name for package in needed if not package.version]
    if missing:
        raise BodyPoseNetError(
            f"demo needs packages that are not installed: {', '.join(missing)}",
            "pip install 'bodyposenet[demo]'",
        )


def _write_specs(folder: Path, options: DemoOptions) -> None:
    """Write the train spec and the inference spec.

    Raises:
        BodyPoseNetError: A different train spec exists already.
    """
    data = folder / "data"
    paths = {"data": data, "records": data / "records", "dataset": data / "dataset.json"}
    values = {name: json.dumps(str(path)) for name, path in paths.items()}
    values |= {name: str(getattr(options, name)) for name in ("seed", "images", "epochs")}
    for name in _SPECS:
        template = Template((files("bodyposenet") / "resources" / "demo" / name).read_text("utf-8"))
        text = template.substitute(values, folder=folder)
        path = folder / name
        if path.exists() and path.read_text("utf-8") != text:
            raise BodyPoseNetError(
                f"{path}: was written by a demo with other options",
                "Remove the folder, or choose another with -r.",
            )
        with atomic_write(path) as file:
            file.write(text.encode())


def _run_on_photo(run: _Run, folder: Path) -> None:
    """Run inference on a photo of the US Navy that is included in matplotlib."""
    from matplotlib.cbook import get_sample_data  # pyright: ignore[reportUnknownVariableType]

    photo = get_sample_data("grace_hopper.jpg", asfileobj=False)
    run("inference", predict, input=str(photo), results_dir=f"{folder}/photo")


def _run_commands(run: _Run, folder: Path) -> float:
    """Convert the dataset, train, evaluate and run inference.

    Returns:
        Keypoint AP on the test images.
    """
    dataset = f"{folder}/data/dataset.json"
    for mode in ("train", "test"):
        run(
            "dataset_convert", convert_dataset,
            dataset_spec=dataset, output_filename=f"{folder}/data/records/{mode}", mode=mode,
            generate_masks=True,
        )  # fmt: skip
    train_spec, results = f"{folder}/train.yaml", f"{folder}/model"
    trained = run("train", train, experiment_spec_file=train_spec, results_dir=results)
    model = {"inference_spec": f"{folder}/inference.yaml", "model_filename": str(trained.model)}
    evaluated = run(
        "evaluate", evaluate, **model, dataset_spec=dataset, results_dir=f"{folder}/evaluation"
    )
    run(
        "inference", predict, **model,
        input=f"{folder}/data/test", input_type="dir", dump_visualizations=True,
        results_dir=f"{folder}/inference",
    )  # fmt: skip
    return max(evaluated.ap, 0.0)


def _ideal_ap(folder: Path) -> float:
    """Return the keypoint AP of the decoder on ideal maps of the test images."""
    from bodyposenet.evaluation.evaluator import load_test_images
    from bodyposenet.specs.dataset import DatasetSpec
    from bodyposenet.specs.inference import InferenceSpec
    from bodyposenet.specs.training import TrainSpec
    from bodyposenet.training.oracle import evaluate_perfect_maps

    spec = DatasetSpec.load(folder / "data" / "dataset.json")
    joints = spec.person.keypoints
    images = load_test_images(spec)
    skeleton = TrainSpec.load(folder / "train.yaml").skeleton
    inference = InferenceSpec.load(folder / "inference.yaml")
    return max(evaluate_perfect_maps(images, joints, skeleton, inference).ap, 0.0)
