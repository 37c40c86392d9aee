"""Find the person in a photo; then draw a dataset, convert, train, evaluate and infer on it.

`bpnet demo -r demo` takes minutes on two cores. It prints every command that it runs: the same
commands work on real data.
"""

from __future__ import annotations

import argparse
import json
import shlex
from importlib.resources import files
from pathlib import Path
from string import Template

from bodyposenet.console import say
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import make_directory, replacing
from bodyposenet.runtime.installation import list_packages
from bodyposenet.tasks.command import parse_command, run_command
from bodyposenet.tasks.results import results_folder

_SIZE = 192
"""Height and width of the drawn images."""
_SPECS = ("train.yaml", "inference.yaml")
_EXTRAS = ("eval", "train")
"""Those that `bodyposenet[demo]` brings."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `demo`."""
    parser.set_defaults(results_dir="demo")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the drawn images")
    parser.add_argument(
        "--images", type=int, default=3000, metavar="N", help="to train on; 3000 by default"
    )
    parser.add_argument(
        "--test_images", type=int, default=200, metavar="N",
        help="to evaluate on; 200 by default",
    )  # fmt: skip
    parser.add_argument(
        "--epochs", type=int, default=1, metavar="N", help="to train for; 1 by default"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the sub-task.

    Raises:
        BodyPoseNetError: A package is missing, the folder holds another demo, or it cannot be
            written.
    """
    from bodyposenet.data.drawn import write_drawn_dataset

    for flag in ("images", "test_images", "epochs"):
        if getattr(arguments, flag) < 1:
            raise BodyPoseNetError(f"--{flag} {getattr(arguments, flag)}: at least 1")
    _check_packages()
    folder = make_directory(arguments.results_dir)
    with results_folder(folder) as status:
        _write_specs(folder, arguments)
        _run("inference", _on_photo(folder))
        say(f"\ndrawing {arguments.images} images to train on, {arguments.test_images} to test on")
        write_drawn_dataset(
            folder / "data", arguments.images, arguments.test_images, _SIZE, arguments.seed
        )
        for name, argv in _commands(folder):
            _run(name, argv)
        reached, perfect = _reached_ap(folder), _perfect_ap(folder)
        status.write("RUNNING", "demo", kpi={"AP": reached, "AP_of_perfect_maps": perfect})
    say(
        f"\nthe photo, with whom the default model found: {folder}/photo/images_annotated\n"
        f"unseen images with the people that were found: {folder}/inference/images_annotated\n"
        f"keypoint AP on these {arguments.test_images} images: {reached:.3f} "
        f"(perfect maps of them reach {perfect:.3f})"
    )


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


def _write_specs(folder: Path, arguments: argparse.Namespace) -> None:
    """Write the specs of training and inference.

    Raises:
        BodyPoseNetError: There is a train spec already, and it is another one.
    """
    data = folder / "data"
    paths = {"data": data, "records": data / "records", "dataset": data / "dataset.json"}
    values = {name: json.dumps(str(path)) for name, path in paths.items()}
    values |= {name: str(getattr(arguments, name)) for name in ("seed", "images", "epochs")}
    for name in _SPECS:
        template = Template((files("bodyposenet") / "resources" / "demo" / name).read_text())
        text = template.substitute(values, folder=folder)
        path = folder / name
        if path.exists() and path.read_text() != text:
            raise BodyPoseNetError(
                f"{path}: belongs to a demo with other settings",
                "Remove the folder, or choose another with -r.",
            )
        with replacing(path) as file:
            file.write(text.encode())


def _run(name: str, argv: list[str]) -> None:
    """Run a sub-task, and say how one would type it."""
    say(f"\n$ bpnet {shlex.join([name, *argv])}")
    run_command(name, parse_command(name, argv))


def _on_photo(folder: Path) -> list[str]:
    """Arguments of `inference`; the photo is one of the US Navy, and comes with matplotlib."""
    from matplotlib.cbook import get_sample_data

    photo = get_sample_data("grace_hopper.jpg", asfileobj=False)
    return ["--input", str(photo), "-r", f"{folder}/photo"]


def _commands(folder: Path) -> list[tuple[str, list[str]]]:
    """Sub-tasks with their arguments, as one would type them."""
    dataset, test_images = f"{folder}/data/dataset.json", f"{folder}/data/test"
    model = ["-i", f"{folder}/inference.yaml", "-m", f"{folder}/model/bpnet_model.tlt"]
    pictures = ["--input_type", "dir", "--input", test_images, "--dump_visualizations"]
    conversions = [
        ("dataset_convert",
         ["-d", dataset, "-o", f"{folder}/data/records/{mode}", "-m", mode, "--generate_masks"])
        for mode in ("train", "test")
    ]  # fmt: skip
    return [
        *conversions,
        ("train", ["-e", f"{folder}/train.yaml", "-r", f"{folder}/model"]),
        ("evaluate", [*model, "-d", dataset, "-r", f"{folder}/evaluation"]),
        ("inference", [*model, *pictures, "-r", f"{folder}/inference"]),
    ]


def _reached_ap(folder: Path) -> float:
    results = json.loads((folder / "evaluation" / "results.json").read_text())
    return results["kpi"]["AP_0.50:0.95_all"] or 0.0


def _perfect_ap(folder: Path) -> float:
    """What the decoder makes of the test images' targets."""
    from bodyposenet.evaluation.dataset import load_test_images
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
