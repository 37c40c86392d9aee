"""Images/s from a folder of photos to detections.json, relative to the network alone and to TAO.

python -m benchmarks.end_to_end [--images DIR] [--engine onnx|pytorch|wait] [--quick] [--json FILE]

`--engine wait` sleeps for `--wait` milliseconds per image and uses no CPU, like a GPU; the rest of
the time is that of the pipeline.

Inputs of 320 x 448, float32, batches of one image. The networks have random weights, so their
output is replaced by the target maps of a synthetic image of five people, with noise. The baseline,
`original`, processes images sequentially, like TAO: read, resize, network, upsample the maps by 8,
decode.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from bodyposenet import Maps, Skeleton
from bodyposenet.demo import draw_scene
from bodyposenet.exporting.onnx import export_onnx
from bodyposenet.inference import detections
from bodyposenet.inference.detections import DetectionJob, ImageFormat, image_items
from bodyposenet.inference.engines import onnx
from bodyposenet.inference.engines.base import Engine
from bodyposenet.inference.engines.pytorch import PyTorchEngine
from bodyposenet.inference.predictor import Predictor, network_affine
from bodyposenet.media.images import read_image
from bodyposenet.media.inputs import ImageEntry, list_images
from bodyposenet.model.checkpoint import model_header
from bodyposenet.model.targets import render_targets
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import TrainSpec
from bodyposenet.types import PAD_VALUE, Person

from . import harness
from .gpu.device import build_network, load_train_spec
from .original.decoder import decode_like_original

Scene = tuple[NDArray[np.uint8], list[Person]]

_SPEC = InferenceSpec(input_shape=(320, 448), keep_aspect_ratio_mode="pad_image_input")
_PHOTO, _JPEG_QUALITY, _SCENES, _NOISE = (480, 640), 90, 8, 0.02
_FIVE_PEOPLE = (0.0, 0.0, 0.0, 0.0, 1.0)

_IMAGES = {"vgg": 8, "mobilenet": 40}
_QUICK_IMAGES = {"vgg": 2, "mobilenet": 10}


class WaitingEngine:
    """An engine that waits and uses no CPU, like a network on a GPU.

    Args:
        skeleton: Joints and limbs of the engine.
        seconds: Waiting time per input.
    """

    stride, stages = 8, 1
    fixed_shape: tuple[int, int] | None = None

    def __init__(self, skeleton: Skeleton, seconds: float) -> None:
        self.skeleton = skeleton
        self._seconds = seconds

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Wait, and return no maps."""
        time.sleep(self._seconds * len(images))
        return []


class FixedMapsEngine:
    """An engine that runs a network, but returns given maps instead of the network's output.

    Args:
        engine: The network.
        maps: The maps to return, one per image, repeated in order.
    """

    def __init__(self, engine: Engine, maps: Sequence[Maps]) -> None:
        self.skeleton, self.stride, self.stages = engine.skeleton, engine.stride, engine.stages
        self.fixed_shape = engine.fixed_shape
        self._engine = engine
        self._maps = cycle(maps)

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network; see `Engine.infer`."""
        self._engine.infer(images, stage)
        return [next(self._maps) for _ in images]


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Time every network alone, in the pipeline with and without pictures, and in the baseline."""
    counts, turns = (_QUICK_IMAGES, 2) if arguments.quick else (_IMAGES, 5)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        scenes = [
            draw_scene(np.random.default_rng(seed), *_PHOTO, people=_FIVE_PEOPLE)
            for seed in range(_SCENES)
        ]
        photos = _find_photos(arguments.images) or _write_photos(Path(name), scenes)
        for architecture, count in counts.items():
            train = load_train_spec(architecture)
            maps = [_target_maps(people, train.skeleton, k) for k, (_, people) in enumerate(scenes)]
            engine = FixedMapsEngine(build_engine(train, arguments), maps)
            chosen = [photos[number % len(photos)] for number in range(count)]
            cases = _cases(Predictor(engine, _SPEC), chosen, Path(name))
            figures |= _compare(architecture, harness.time_alternately(cases, turns), count)
    return figures


def _find_photos(folder: Path | None) -> list[Path]:
    """List the images of a folder; empty without a folder."""
    return [] if folder is None else [entry.path for entry in list_images("dir", folder).entries]


def _write_photos(folder: Path, scenes: Sequence[Scene]) -> list[Path]:
    paths = [folder / f"{number}.jpg" for number in range(len(scenes))]
    for path, (pixels, _) in zip(paths, scenes, strict=True):
        image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return paths


def _target_maps(people: Sequence[Person], skeleton: Skeleton, seed: int) -> Maps:
    """Return the target maps of a scene, with noise."""
    to_network, shape = network_affine(*_PHOTO, _SPEC)
    triples = np.stack([person.keypoints for person in people if not person.is_crowd])
    joint_map = skeleton.joints_from(COCO_JOINTS)
    points, labeled = joint_map.keypoints(triples[..., :2], triples[..., 2] > 0)
    keypoints = torch.tensor(to_network.apply(points), dtype=torch.float32)[None]
    exact = render_targets(keypoints, torch.tensor(labeled)[None], skeleton, *shape)
    random = np.random.default_rng(seed)
    heatmaps, pafs = (
        (maps[0].numpy() + random.normal(0, _NOISE, maps.shape[1:])).astype(np.float32)
        for maps in exact
    )
    return Maps(heatmaps, pafs)


def add_engine_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags that `build_engine` reads."""
    flags.add_argument(
        "--engine",
        choices=("onnx", "pytorch", "wait"),
        default="onnx",
        help="engine of the network",
    )
    flags.add_argument(
        "--wait",
        type=float,
        default=50,
        metavar="MS",
        help="milliseconds per input of --engine wait",
    )


def build_engine(train: TrainSpec, arguments: argparse.Namespace) -> Engine:
    """Build a network with random weights on the engine that the flags select."""
    if arguments.engine == "wait":
        return WaitingEngine(train.skeleton, arguments.wait / 1000)
    network = build_network(train, torch.device("cpu")).eval()
    if arguments.engine == "pytorch":
        return PyTorchEngine(network, torch.device("cpu"))
    return onnx.load("the network", content=export_onnx(network, model_header(network)))


def _cases(
    predictor: Predictor, photos: Sequence[Path], folder: Path
) -> dict[str, Callable[[], object]]:
    """Return the cases to time: the network alone, the pipeline, and the baseline."""
    (inputs,) = predictor.prepare(read_image(photos[0]))

    def run_network() -> None:
        for _ in photos:
            predictor.engine.infer(inputs.pixels[None])

    drawings = folder / "pictures"
    drawings.mkdir(exist_ok=True)

    def run_pipeline(image_format: ImageFormat | None = None) -> None:
        items = image_items([ImageEntry(photo) for photo in photos], image_format or "png")
        job = DetectionJob(drawings if image_format else None)
        entries = list(job.pipeline(predictor).run(items))
        skeleton = predictor.engine.skeleton
        detections.write_detections(folder / "detections.json", skeleton, _SPEC, entries)

    return {
        "network": run_network,
        "pipeline": run_pipeline,
        "with pictures": lambda: run_pipeline("png"),
        "with JPEG pictures": lambda: run_pipeline("jpg"),
        "original": lambda: _run_original(predictor.engine, photos, folder),
    }


def _run_original(engine: Engine, photos: Sequence[Path], folder: Path) -> None:
    """Process images sequentially, like TAO."""
    entries = []
    for path in photos:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
        height, width = image.shape[:2]
        to_network, (rows, columns) = network_affine(height, width, _SPEC)
        left, top = np.ceil(to_network.apply(np.array([-0.5, -0.5]))).astype(int)
        right, bottom = np.ceil(to_network.apply(np.array([width - 0.5, height - 0.5]))).astype(int)
        pixels = np.full((1, rows, columns, 3), PAD_VALUE, np.uint8)
        size = (right - left, bottom - top)
        pixels[0, top:bottom, left:right] = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
        (maps,) = engine.infer(pixels)
        poses = decode_like_original(maps, engine.skeleton).transform(to_network.inverse())
        entries.append(detections.describe_image(path, poses, {}))
    detections.write_detections(folder / "original.json", engine.skeleton, _SPEC, entries)


def _compare(architecture: str, seconds: dict[str, float], count: int) -> dict[str, float]:
    """Return the figures of one network; the figure relative to TAO has no suffix for vgg."""
    pipeline, pictures, jpegs = (
        seconds[name] for name in ("pipeline", "with pictures", "with JPEG pictures")
    )
    figures = {
        f"share_of_network_only_{architecture}": seconds["network"] / pipeline,
        f"share_of_network_only_{architecture}_with_pictures": seconds["network"] / pictures,
        f"share_of_network_only_{architecture}_with_jpeg_pictures": seconds["network"] / jpegs,
        f"images_per_s_{architecture}": count / pipeline,
        f"ms_of_a_picture_{architecture}": 1000 * (pictures - pipeline) / count,
    }
    over_original = seconds["original"] / pipeline
    if architecture == "vgg":
        return figures | {"images_per_s_over_original": over_original}
    return figures | {f"images_per_s_over_original_{architecture}": over_original}


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("end_to_end", __doc__)
    flags.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of photos; default: synthetic images"
    )
    add_engine_flags(flags)
    return flags


if __name__ == "__main__":
    harness.run("end_to_end", _flags(), measure)
