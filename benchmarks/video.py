"""Frames/s, memory and output of one minute of video with lightweight OpenPose.

python -m benchmarks.video [--engine onnx|pytorch|wait] [--quick] [--json FILE]

A synthetic scene of three people with a moving camera, 640 x 480 at 30 frames/s; network inputs of
320 x 448; poses of every frame are tracked, smoothed, drawn and written. The network has random
weights, so its output is replaced by the target maps of the people in the frame.

The baseline runs the predictor on one frame after the other; only reading ahead, drawing and
writing overlap with it. Both are timed alternately on a short video. `--engine wait` sleeps for
`--wait` milliseconds per frame and uses no CPU, like a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch
from numpy.typing import NDArray

from bodyposenet import Affine, Maps, OneEuroFilter, Skeleton, Tracker
from bodyposenet.demo import draw_scene
from bodyposenet.files import atomic_write
from bodyposenet.inference.engines.base import Engine
from bodyposenet.inference.predictor import Predictor, network_affine
from bodyposenet.inference.recording import Recorder, record
from bodyposenet.inference.video import FrameResult, VideoPredictor
from bodyposenet.media.video import open_video
from bodyposenet.media.video_writer import Mp4Writer
from bodyposenet.model.targets import render_targets
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import PAD_VALUE

from . import harness
from .end_to_end import FixedMapsEngine, add_engine_flags, build_engine
from .gpu.device import load_train_spec

_SPEC = InferenceSpec(input_shape=(320, 448), keep_aspect_ratio_mode="pad_image_input")
_FRAME, _FPS, _SCENE = (480, 640), 30, (720, 960)
_ROUND = 150
"""Frames of one round of the camera, which ends where it began."""

_SECONDS, _QUICK_SECONDS = 60, 5
_TURNS, _PIECE_SECONDS, _QUICK_PIECE_SECONDS = 5, 5, 2


class _MeasuringEngine(FixedMapsEngine):
    """An engine that measures its total seconds, and the memory in MB once per video second."""

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
    """Process a video, read the results back, and compare with the baseline."""
    seconds = _QUICK_SECONDS if arguments.quick else _SECONDS
    piece_seconds = _QUICK_PIECE_SECONDS if arguments.quick else _PIECE_SECONDS
    train = load_train_spec("mobilenet")
    network = build_engine(train, arguments)
    with tempfile.TemporaryDirectory() as name:
        folder, piece = Path(name), Path(name) / "piece"
        piece.mkdir()
        maps = _write_video(folder / "film.mp4", seconds, train.skeleton)
        _write_video(piece / "film.mp4", piece_seconds, train.skeleton)
        engine = _MeasuringEngine(network, maps)
        begun, cpu_begun = perf_counter(), process_time()
        _run(folder, Predictor(engine, _SPEC))
        taken, cpu = perf_counter() - begun, process_time() - cpu_begun
        predictor = Predictor(FixedMapsEngine(network, maps), _SPEC)
        cases = harness.time_alternately(
            {
                "overlapping": lambda: _run(piece, predictor),
                "one by one": lambda: _run_sequentially(piece, predictor),
            },
            2 if arguments.quick else _TURNS,
        )
        return {
            "frames_per_s": seconds * _FPS / taken,
            "share_of_time_in_network": engine.seconds / taken,
            "cpu_ms_per_frame": 1000 * cpu / (seconds * _FPS),
            "frames_per_s_one_by_one": piece_seconds * _FPS / cases["one by one"],
            "over_one_by_one": cases["one by one"] / cases["overlapping"],
            "memory_mb_after_a_second": engine.memory[1],
            "memory_mb_at_the_end": median(engine.memory[-3:]),
            **_read_back(folder),
        }


def _write_video(path: Path, seconds: int, skeleton: Skeleton) -> list[Maps]:
    """Write the video; return the target maps of each frame of one camera round."""
    scene, people = draw_scene(np.random.default_rng(3), *_SCENE, people=(0.0, 0.0, 1.0))
    triples = np.stack([person.keypoints for person in people if not person.is_crowd])
    joint_map = skeleton.joints_from(COCO_JOINTS)
    points, labeled = joint_map.keypoints(triples[..., :2], triples[..., 2] > 0)
    views = [_view(frame) for frame in range(_ROUND)]
    pictures = [view.warp(scene, *_FRAME, outside=PAD_VALUE) for view in views]
    with Mp4Writer(path, _FPS) as film:
        for frame in range(seconds * _FPS):
            film.write(pictures[frame % _ROUND], frame / _FPS)
    to_network, shape = network_affine(*_FRAME, _SPEC)
    maps = []
    for view in views:
        in_view = torch.tensor(view.then(to_network).apply(points), dtype=torch.float32)
        heatmaps, pafs = render_targets(
            in_view[None], torch.tensor(labeled)[None], skeleton, *shape
        )
        maps.append(Maps(heatmaps[0].numpy(), pafs[0].numpy()))
    return maps


def _view(frame: int) -> Affine:
    """Return the camera's map of a frame: an ellipse, with a varying zoom."""
    angle = 2 * np.pi * frame / _ROUND
    middle = Affine.translation(-480 - 60 * np.cos(angle), -360 - 30 * np.sin(angle))
    zoom = Affine.scaling(0.75 + 0.08 * np.sin(2 * angle))
    return middle.then(zoom).then(Affine.translation(320, 240))


def _run(folder: Path, predictor: Predictor) -> None:
    """Process the video like `bpnet inference --input film.mp4 --smooth`."""
    stream = VideoPredictor(predictor, open_video(folder / "film.mp4"), smooth=True)
    end = record(
        stream, lambda _: True,
        lines=folder / "poses.jsonl", movie=folder / "annotated.mp4",
        score_threshold=predictor.spec.display_score_threshold,
    )  # fmt: skip
    if end is not None:
        raise end


def _run_sequentially(folder: Path, predictor: Predictor) -> None:
    """Process the video frame by frame: the network waits while a frame is resized and decoded."""
    video = open_video(folder / "film.mp4")
    threshold = predictor.spec.display_score_threshold
    tracker = Tracker(predictor.engine.skeleton, new_track_score=threshold)
    smoother = OneEuroFilter()
    with (
        Mp4Writer(folder / "annotated.mp4", video.fps) as movie,
        atomic_write(folder / "poses.jsonl") as lines,
        Recorder(lines, movie, draws=True, score_threshold=threshold) as recorder,
    ):
        for frame in video.frames():
            poses = tracker.update(predictor(frame.pixels), frame.time)
            poses = smoother.smooth(poses, frame.time)
            recorder.add(FrameResult(frame, poses, frame.index))
        recorder.finish()


def _read_back(folder: Path) -> dict[str, float]:
    """Read the written video and poses back."""
    video = open_video(folder / "annotated.mp4")
    frames = [frame.time for frame in video.frames()]
    lines = [json.loads(line) for line in (folder / "poses.jsonl").read_text().splitlines()]
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
    add_engine_flags(flags)
    harness.run("video", flags, measure)
