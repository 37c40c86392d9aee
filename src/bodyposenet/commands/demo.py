"""Find the person in a photo; then draw a dataset, convert, train, evaluate and infer on it.

`bpnet demo -r demo` takes minutes on two cores. It prints every command that it runs: the same
commands work on real data.
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
from bodyposenet.inference.diagnostics import list_packages
from bodyposenet.results_folder import results_folder

if TYPE_CHECKING:
    from bodyposenet.commands.options import Command

_SIZE = 192
"""Height and width of the drawn images."""
_SPECS = ("train.yaml", "inference.yaml")
_EXTRAS = ("eval", "train")
"""Those that `bodyposenet[demo]` brings."""


@options_class
class DemoOptions(CommandOptions):
    """Options of `demo`."""

    results_dir: Annotated[
        StrPath, Option("-r", help="Folder of everything that the demo writes.", metavar="DIR")
    ] = "demo"
    seed: Annotated[int, Option(help="Seed of the drawn images.", metavar="N")] = 0
    images: Annotated[int, Field(ge=1), Option(help="Images to train on.", metavar="N")] = 3000
    test_images: Annotated[int, Field(ge=1), Option(help="Images to evaluate on.", metavar="N")] = (
        200
    )
    epochs: Annotated[int, Field(ge=1), Option(help="Epochs to train for.", metavar="N")] = 1


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo.

    Args:
        folder: Folder of everything that was written.
        images: Number of test images.
        ap: Keypoint AP on these.
        ap_of_perfect_maps: What the decoder reaches with the images' training targets.
    """

    folder: Path
    images: int
    ap: float
    ap_of_perfect_maps: float

    def summary(self) -> str:
        """Where the pictures are, and the figures."""
        photo, unseen = (self.folder / name / "images_annotated" for name in ("photo", "inference"))
        return (
            f"\nthe photo, with whom the default model found: {photo}\n"
            f"unseen images with the people that were found: {unseen}\n"
            f"keypoint AP on these {self.images} images: {self.ap:.3f} "
            f"(perfect maps of them reach {self.ap_of_perfect_maps:.3f})"
        )


@command(DemoOptions)
def demo(options: DemoOptions) -> DemoResult:
    """Find the person in a photo; then draw a dataset, convert, train, evaluate and infer on it.

    Raises:
        BodyPoseNetError: A package is missing, the folder holds another demo, or it cannot be
            written.
    """
    from bodyposenet.demo import write_drawn_dataset

    _check_packages()
    run = _Run(shows=options.progress)
    folder = make_directory(options.results_dir)
    with results_folder(folder) as status:
        _write_specs(folder, options)
        _run_on_photo(run, folder)
        run.show(f"\ndrawing {options.images} images to train on, {options.test_images} to test on")
        write_drawn_dataset(
            folder / "data", options.images, options.test_images, _SIZE, options.seed
        )
        reached = _run_commands(run, folder)
        perfect = _perfect_ap(folder)
        status.write("RUNNING", "demo", kpi={"AP": reached, "AP_of_perfect_maps": perfect})
    return DemoResult(folder, options.test_images, reached, perfect)


class _Run:
    """Runs commands, and prints each as one would type it, with its summary.

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
        """Print text, if it is not empty."""
        if self._shows and text:
            print_result(text)


def _check_packages() -> None:
    """Make sure that the last of the sub-tasks will find its packages too.

    Raises:
        BodyPoseNetError: Some are missing.
    """
    needed = [package for package in list_packages() if package.extra in _EXTRAS]
    missing = [package.name for package in needed if not package.version]
    if missing:
        raise BodyPoseNetError(
            f"demo needs packages that are not installed: {', '.join(missing)}",
            "pip install 'bodyposenet[demo]'",
        )


def _write_specs(folder: Path, options: DemoOptions) -> None:
    """Write the specs of training and inference.

    Raises:
        BodyPoseNetError: There is a train spec already, and it is another one.
    """
    data = folder / "data"
    paths = {"data": data, "records": data / "records", "dataset": data / "dataset.json"}
    values = {name: json.dumps(str(path)) for name, path in paths.items()}
    values |= {name: str(getattr(options, name)) for name in ("seed", "images", "epochs")}
    for name in _SPECS:
        template = Template((files("bodyposenet") / "resources" / "demo" / name).read_text())
        text = template.substitute(values, folder=folder)
        path = folder / name
        if path.exists() and path.read_text() != text:
            raise BodyPoseNetError(
                f"{path}: belongs to a demo with other settings",
                "Remove the folder, or choose another with -r.",
            )
        with atomic_write(path) as file:
            file.write(text.encode())


def _run_on_photo(run: _Run, folder: Path) -> None:
    """Find the person in a photo of the US Navy that comes with matplotlib."""
    from matplotlib.cbook import get_sample_data

    photo = get_sample_data("grace_hopper.jpg", asfileobj=False)  # pyright: ignore[reportUnknownVariableType]
    run("inference", predict, input=str(photo), results_dir=f"{folder}/photo")


def _run_commands(run: _Run, folder: Path) -> float:
    """Convert, train, evaluate and infer.

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
    accuracy = run(
        "evaluate", evaluate, **model, dataset_spec=dataset, results_dir=f"{folder}/evaluation"
    )
    run(
        "inference", predict, **model,
        input=f"{folder}/data/test", input_type="dir", dump_visualizations=True,
        results_dir=f"{folder}/inference",
    )  # fmt: skip
    return max(accuracy.ap, 0.0)


def _perfect_ap(folder: Path) -> float:
    """What the decoder makes of the test images' targets."""
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
