"""A minute of video through lightweight OpenPose: frames/s, memory, and what comes out.

python -m benchmarks.video [--engine onnx|pytorch] [--quick] [--json FILE]

A drawn scene of three people under a moving camera, 640 x 480 at 30 frames/s; network inputs of
320 x 448, poses in every frame, tracked, smoothed, drawn and written. The network has random
weights, so the maps that it gives are exchanged for those of the people in the frame.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from bodyposenet.data.drawn import draw_scene
from bodyposenet.exporting.onnx import export_onnx
from bodyposenet.geometry import Affine
from bodyposenet.media.mp4 import Mp4Writer
from bodyposenet.media.video import open_video
from bodyposenet.model.checkpoint import describe
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.model.targets import render_targets
from bodyposenet.results_folder import StatusFile
from bodyposenet.runtime.engines import onnx
from bodyposenet.runtime.engines.protocol import Engine
from bodyposenet.runtime.engines.pytorch import PyTorchEngine
from bodyposenet.runtime.predictor import Predictor, network_affine
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.tasks.video import POSES_FILE, VIDEO_FILE, add_video_arguments, run_video
from bodyposenet.types import GRAY, Maps

from . import harness
from .end_to_end import PeopledEngine
from .gpu.device import build_network, load_train_spec

_SPEC = InferenceSpec(input_shape=(320, 448), keep_aspect_ratio_mode="pad_image_input")
_FRAME, _FPS, _SCENE = (480, 640), 30, (720, 960)
_ROUND = 150
"""Frames until the camera is back where it began."""

_SECONDS, _QUICK_SECONDS = 60, 5


class _WatchedEngine(PeopledEngine):
    """Also adds up its seconds, and notes the process's memory in MB every second of the video."""

    def __init__(self, engine: Engine, maps: Sequence[Maps]) -> None:
        super().__init__(engine, maps)
        self.seconds = 0.0
        self.memory: list[float] = []
        self._frames = 0

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network; see `Engine.infer`."""
        if self._frames % _FPS == 0:
            self.memory.append(harness.resident_mb(os.getpid()))
        self._frames += 1
        begun = perf_counter()
        maps = super().infer(images, stage)
        self.seconds += perf_counter() - begun
        return maps


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Film, work through the film, and read the results back."""
    seconds = _QUICK_SECONDS if arguments.quick else _SECONDS
    train = load_train_spec("mobilenet")
    network = _engine(build_network(train, torch.device("cpu")).eval(), arguments.engine)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = _WatchedEngine(network, _film(folder / "film.mp4", seconds, train.skeleton))
        begun = perf_counter()
        _run(folder, Predictor(engine, _SPEC))
        taken = perf_counter() - begun
        return {
            "frames_per_s": seconds * _FPS / taken,
            "share_of_time_in_network": engine.seconds / taken,
            "memory_mb_after_a_second": engine.memory[1],
            "memory_mb_at_the_end": engine.memory[-1],
            **_read_back(folder),
        }


def _engine(network: BodyPoseNetwork, name: str) -> Engine:
    if name == "pytorch":
        return PyTorchEngine(network, torch.device("cpu"))
    return onnx.load("the network", content=export_onnx(network, describe(network)))


def _film(path: Path, seconds: int, skeleton: Skeleton) -> list[Maps]:
    """Write the video; what a perfect network would say of each frame of a round."""
    scene, people = draw_scene(np.random.default_rng(3), *_SCENE, people=(0.0, 0.0, 1.0))
    triples = np.stack([person.keypoints for person in people if not person.is_crowd])
    joint_map = skeleton.joints_from(COCO_JOINTS)
    points, labelled = joint_map.keypoints(triples[..., :2], triples[..., 2] > 0)
    views = [_view(frame) for frame in range(_ROUND)]
    pictures = [view.warp(scene, *_FRAME, outside=GRAY) for view in views]
    with Mp4Writer(path, _FPS) as film:
        for frame in range(seconds * _FPS):
            film.write(pictures[frame % _ROUND], frame / _FPS)
    to_network, shape = network_affine(*_FRAME, _SPEC)
    maps = []
    for view in views:
        seen = torch.tensor(view.then(to_network).apply(points), dtype=torch.float32)
        heatmaps, pafs = render_targets(seen[None], torch.tensor(labelled)[None], skeleton, *shape)
        maps.append(Maps(heatmaps[0].numpy(), pafs[0].numpy()))
    return maps


def _view(frame: int) -> Affine:
    """The camera goes round in an ellipse, and nearer and farther on the way."""
    angle = 2 * np.pi * frame / _ROUND
    middle = Affine.translation(-480 - 60 * np.cos(angle), -360 - 30 * np.sin(angle))
    zoom = Affine.scaling(0.75 + 0.08 * np.sin(2 * angle))
    return middle.then(zoom).then(Affine.translation(320, 240))


def _run(folder: Path, predictor: Predictor) -> None:
    """As `bpnet inference --input_type video --input film.mp4 --smooth` does."""
    flags = argparse.ArgumentParser()
    add_video_arguments(flags)
    arguments = flags.parse_args(["--smooth"])
    arguments.input, arguments.input_type = str(folder / "film.mp4"), "video"
    with StatusFile(folder) as status:
        run_video(arguments, predictor, folder, status)


def _read_back(folder: Path) -> dict[str, float]:
    """What a player would find in the results."""
    video = open_video(folder / VIDEO_FILE)
    frames = [frame.time for frame in video.frames()]
    lines = [json.loads(line) for line in (folder / POSES_FILE).read_text().splitlines()]
    ids = {identity for line in lines for identity in line["track_ids"]}
    return {
        "frames_written": len(frames),
        "frames_per_s_written": video.fps,
        "seconds_written": frames[-1] + 1 / video.fps,
        "poses_written": sum(len(line["scores"]) for line in lines),
        "track_ids_given": len(ids - {-1}),
    }


if __name__ == "__main__":
    flags = harness.parser("video", __doc__)
    flags.add_argument(
        "--engine", choices=("onnx", "pytorch"), default="onnx", help="runs the network"
    )
    harness.run("video", flags, measure)
