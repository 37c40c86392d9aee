"""Prediction on videos: order, stride, tracking, live sources, errors, and what is left behind."""

import re
import time
from copy import copy
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest

import bodyposenet
from bodyposenet.api import PoseEstimator
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.media.mp4 import Mp4Writer
from bodyposenet.media.video import Frame, Video
from bodyposenet.runtime.predictor import NetworkInput, PoseFilter
from bodyposenet.runtime.video import VideoPredictor, open_source
from bodyposenet.specs.inference import InferenceSpec

from ..media.walkers import SKELETON, as_poses, walker

FPS = 20


class Walkers:
    """Stands for a predictor: two people walk on with the red of the frame."""

    engine = SimpleNamespace(skeleton=SKELETON)
    spec = InferenceSpec()

    def __init__(self, fails_at=None, error=None):
        self.batches, self._fails_at, self._error = [], fails_at, error
        self._filter = PoseFilter()

    def with_limits(self, score_threshold=None, max_people=None):
        other = copy(self)
        other._filter = PoseFilter(score_threshold, max_people)
        return other

    def prepare(self, pixels):
        return [NetworkInput(pixels, Affine.resize(1.0))]

    def infer(self, batch):
        found = [int(pixels[0, 0, 0]) for ((pixels, _),) in batch]
        if self._fails_at in found:
            raise self._error
        self.batches.append(found)
        return [[index] for index in found]

    def find_poses(self, inputs, maps):
        return self._filter(as_poses(people_at(maps[0])))


def people_at(index: float) -> np.ndarray:
    return np.array([walker(60 + 4 * index, 40, 150, 0), walker(220, 40, 160, 0)])


class Film:
    """Stands for a video file of `frames` frames; counts those that were read."""

    name, fps, total, is_live, dropped = "film", FPS, None, False, 0

    def __init__(self, frames, error=None):
        self.read, self.closed, self._frames, self._error = 0, False, frames, error

    def frames(self):
        try:
            for index in range(self._frames):
                self.read += 1
                yield Frame(index, index / FPS, np.full((4, 4, 3), index, np.uint8))
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True

    def close(self):
        self.closed = True


def test_frames_and_their_poses_come_in_order():
    predictor, film = Walkers(), Film(30)
    seen = []
    for frame, poses in VideoPredictor(predictor, film):
        seen.append(frame.index)
        np.testing.assert_allclose(poses.keypoints, people_at(frame.index), atol=1e-3)
        assert poses.track_ids is None
    assert seen == list(range(30)) == [k for batch in predictor.batches for k in batch]
    assert film.closed


def test_a_batch_finds_the_same():
    predictor = Walkers()
    frames = [frame.index for frame, _ in VideoPredictor(predictor, Film(30), batch=4)]
    assert frames == list(range(30))
    assert max(map(len, predictor.batches)) == 4


@pytest.mark.parametrize("stride", [2, 3])
def test_frames_between_keep_the_poses_or_move_on(stride):
    predictor = Walkers()
    for result in VideoPredictor(predictor, Film(31), stride=stride).results():
        index = result.frame.index
        assert result.detected_in == index - index % stride
        np.testing.assert_allclose(result.poses.keypoints, people_at(result.detected_in), atol=1e-3)
    assert [k for batch in predictor.batches for k in batch] == list(range(0, 31, stride))
    for frame, poses in VideoPredictor(Walkers(), Film(31), stride=stride, track=True):
        assert poses.track_ids.tolist() == [1, 2]
        if frame.index > 2 * stride:
            np.testing.assert_allclose(poses.keypoints, people_at(frame.index), atol=1e-2)


def test_smoothing_gives_ids_and_lags_behind_a_sudden_step():
    last = None
    for _, poses in VideoPredictor(Walkers(), Film(10), smooth=True):
        assert poses.track_ids.tolist() == [1, 2]
        last = poses.keypoints
    lag = people_at(9)[0, :, 0] - last[0, :, 0]
    assert (lag > 0).all() and (lag < 4).all()


def test_a_few_frames_are_read_ahead():
    film = Film(200)
    stream = VideoPredictor(Walkers(), film, batch=2)
    for _ in range(10):
        next(stream)
    assert film.read <= 10 + 2 * (2 + 4) + 2
    stream.close()
    assert film.closed
    assert list(stream) == []


@pytest.mark.parametrize("error", [ConnectionError("gone"), KeyboardInterrupt()], ids=repr)
def test_an_error_in_the_middle_loses_no_frame_before_it(error):
    for stream in (
        VideoPredictor(Walkers(fails_at=17, error=error), Film(40)),
        VideoPredictor(Walkers(), Film(17, error=error)),
    ):
        seen = []
        with pytest.raises(type(error)):
            for frame, _ in stream:
                seen.append(frame.index)
        if not (isinstance(error, KeyboardInterrupt) and stream.video.read == 17):
            assert seen == list(range(17))
        assert stream.video.closed


def test_a_frame_that_cannot_be_prepared_is_named():
    class Narrow(Walkers):
        def prepare(self, pixels):
            raise BodyPoseNetError("too narrow", "Take another.")

    with pytest.raises(BodyPoseNetError, match="frame 0: too narrow"):
        next(VideoPredictor(Narrow(), Film(3)))


class Camera:
    """Stands for OpenCV's capture: after the first frame, 99 more as soon as `go` is set."""

    def __init__(self):
        self.at, self.go, self.released = -1, Event(), False

    def read(self):
        self.at += 1
        if self.at == 1:
            self.go.wait(10)
        return self.at < 100, np.full((4, 4, 3), self.at, np.uint8)

    def get(self, _):
        return 0

    def release(self):
        self.released = True


def test_a_live_source_is_never_late_and_counts_what_it_drops():
    capture = Camera()
    stream = VideoPredictor(Walkers(), Video(capture, "webcam 0", FPS, is_live=True), track=True)
    frame, _ = next(stream)
    assert (frame.index, stream.dropped) == (0, 0)
    capture.go.set()
    while not capture.released:
        time.sleep(0.001)
    assert [frame.index for frame, _ in stream] == [99]
    assert stream.dropped == 98


def test_leaving_early_releases_the_source(tmp_path):
    with Mp4Writer(tmp_path / "a.mp4", FPS) as movie:
        for index in range(20):
            movie.write(np.full((32, 32, 3), index, np.uint8), index / FPS)
    with VideoPredictor(Walkers(), open_source(tmp_path / "a.mp4")) as stream:
        assert stream.video.total == 20
        next(stream)
    assert not stream.video._capture.isOpened()
    with VideoPredictor(Walkers(), open_source(str(tmp_path / "a.mp4"))) as stream:
        pass  # nothing was read
    assert not stream.video._capture.isOpened()


@pytest.mark.parametrize("source", ["none.mp4", Path("none.mp4"), 97, "97", 1.5, True, b"a.mp4"])
def test_what_is_no_source_is_an_error(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BodyPoseNetError) as caught:
        open_source(source)
    assert caught.value.remedy


def test_a_stride_below_one_is_an_error():
    with pytest.raises(BodyPoseNetError, match="stride 0"):
        VideoPredictor(Walkers(), Film(3), stride=0)


def test_an_estimator_goes_through_a_video(tmp_path):
    with Mp4Writer(tmp_path / "a.mp4", FPS) as movie:
        for index in range(12):
            movie.write(np.full((96, 128, 3), index, np.uint8), index / FPS)
    model = PoseEstimator(Walkers())
    seen = []
    with model.video(tmp_path / "a.mp4", track=True, stride=2) as stream:
        for frame, poses in stream:
            assert frame.pixels.shape == (96, 128, 3)
            assert poses.track_ids.tolist() == [1, 2]
            seen.append(round(frame.time * FPS))
    assert seen == list(range(12))
    with pytest.raises(BodyPoseNetError, match="stride"):
        model.video(tmp_path / "a.mp4", stride=0)
    with pytest.raises(BodyPoseNetError, match="conf") as caught:
        model.video(tmp_path / "a.mp4", conf=0.5)
    assert "score_threshold" in caught.value.remedy
    for _, poses in model.video(tmp_path / "a.mp4", max_people=1):
        assert len(poses) == 1


def test_the_examples_of_the_video_page_run(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "video.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    monkeypatch.chdir(tmp_path)
    with Mp4Writer(Path("dance.mp4"), FPS) as movie:
        for index in range(12):
            movie.write(np.full((96, 128, 3), index, np.uint8), index / FPS)
    monkeypatch.setattr(bodyposenet, "load", lambda: PoseEstimator(Walkers()), raising=False)
    camera = Film(5)
    monkeypatch.setattr("bodyposenet.runtime.video.open_camera", lambda name: camera)
    names: dict = {}
    for example in examples:
        exec(compile(example, "docs/video.md", "exec"), names)
    told = capsys.readouterr().out
    assert "11 0.55 [1 2]" in told
    assert "0 frames were dropped" in told
    assert camera.closed
