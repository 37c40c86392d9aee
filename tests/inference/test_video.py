"""Tests of prediction on videos: order, stride, tracking, live sources, errors, cleanup."""

import gc
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import numpy as np
import pytest

import bodyposenet
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.inference.estimator import PoseEstimator
from bodyposenet.inference.predictor import NetworkInput, PoseFilter
from bodyposenet.inference.video import VideoPredictor, open_source
from bodyposenet.media.video import Frame, Video
from bodyposenet.media.video_writer import Mp4Writer
from bodyposenet.specs.inference import InferenceSpec

from ..media.walkers import SKELETON, as_poses, walker

FPS = 20


class Walkers:
    """Fake predictor: two people, one of whom moves with the red value of the frame."""

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
    """Return the (2, K, 2) keypoints of the people in a frame."""
    return np.array([walker(60 + 4 * index, 40, 150, 0), walker(220, 40, 160, 0)])


class Film:
    """Fake video file with `frames` frames; counts those that were read."""

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


def test_batches_give_the_same_frames():
    predictor = Walkers()
    frames = [frame.index for frame, _ in VideoPredictor(predictor, Film(30), batch=4)]
    assert frames == list(range(30))
    assert max(map(len, predictor.batches)) == 4


@pytest.mark.parametrize("stride", [2, 3])
def test_frames_in_between_keep_or_extrapolate_the_poses(stride):
    predictor = Walkers()
    for result in VideoPredictor(predictor, Film(31), stride=stride).results():
        index = result.frame.index
        assert result.detected_in == index - index % stride
        assert result.frame.is_processed == (index % stride == 0)
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
def test_an_error_in_the_middle_comes_after_earlier_frames(error):
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
    """Fake of OpenCV's capture: after the first frame, 99 more as soon as `go` is set."""

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


def test_a_live_source_returns_the_latest_frame_and_counts_dropped_ones():
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
def test_invalid_sources(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BodyPoseNetError) as caught:
        open_source(source)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("stride", value) for value in (0, -1, 1.5, "2", [], None, True)),
        *((name, value) for name in ("track", "smooth") for value in ("x", 1, None)),
    ],
)
def test_a_wrong_option_is_an_error_and_releases_the_source(name, value):
    film = Film(3)
    with pytest.raises(BodyPoseNetError, match=name) as caught:
        VideoPredictor(Walkers(), film, **{name: value})
    assert caught.value.remedy
    assert film.closed


def test_a_numpy_stride():
    predictor = Walkers()
    assert len(list(VideoPredictor(predictor, Film(7), stride=np.int64(3)))) == 7
    assert predictor.batches == [[0], [3], [6]]


@pytest.fixture
def movie(tmp_path) -> Path:
    """A file of 40 frames."""
    with Mp4Writer(tmp_path / "movie.mp4", FPS) as writer:
        for index in range(40):
            writer.write(np.full((32, 32, 3), index, np.uint8), index / FPS)
    return tmp_path / "movie.mp4"


@pytest.fixture
def no_collector():
    """Disable the garbage collector, except for reference counts."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def wait_until(is_done) -> bool:
    """Wait up to five seconds for a condition."""
    until = time.monotonic() + 5
    while not (done := is_done()) and time.monotonic() < until:
        time.sleep(0.005)
    return done


def own_threads() -> set[str]:
    names = (thread.name for thread in threading.enumerate())
    return {name for name in names if name.startswith(("video", "pipeline"))}


def open_files(path: Path) -> int:
    """Count how often this process has a file open; 0 without /proc."""
    return sum(file.resolve() == path for file in Path("/proc/self").glob("fd/*"))


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"smooth": True}])
def test_leaving_a_loop_early_releases_everything(movie, no_collector, options):
    model = PoseEstimator(Walkers())
    for frame, _ in model.video(movie, **options):
        if frame.index == 3:
            break
    assert wait_until(lambda: not own_threads())
    assert not open_files(movie)
    with pytest.raises(ZeroDivisionError):
        for _ in model.video(movie, **options):
            1 / 0  # noqa: B018
    assert wait_until(lambda: not own_threads())
    for _ in range(3):
        for result in VideoPredictor(Walkers(), open_source(movie), **options).results():
            if result.frame.index == 3:
                break
    del result
    assert wait_until(lambda: not own_threads())
    assert not open_files(movie)


def test_the_end_releases_everything_while_the_iterator_lives(movie, no_collector):
    stream = VideoPredictor(Walkers(), open_source(movie))
    assert len(list(stream)) == 40
    assert wait_until(lambda: not own_threads())
    assert not open_files(movie)
    assert next(stream, None) is None


def test_videos_without_iteration_release_everything(movie, no_collector):
    streams = [VideoPredictor(Walkers(), open_source(movie)) for _ in range(3)]
    assert not own_threads()
    del streams
    assert not open_files(movie)


@pytest.mark.parametrize("is_live", [False, True])
def test_any_thread_may_close_a_video(is_live):
    """The source is closed while a thread waits for the second frame."""
    capture = Camera()
    stream = VideoPredictor(Walkers(), Video(capture, "webcam 0", FPS, is_live=is_live))
    seen, errors = [], []

    def watch():
        try:
            seen.extend(frame.index for frame, _ in stream)
        except BaseException as error:
            errors.append(error)

    watcher = Thread(target=watch)
    watcher.start()
    assert wait_until(lambda: capture.at == 1 and (seen or not is_live))
    stream.close()
    stream.close()
    capture.go.set()
    watcher.join(5)
    assert not watcher.is_alive()
    assert not errors
    # With a file, more frames are read before the first result.
    assert seen == [0] or not (seen or is_live)
    assert wait_until(lambda: capture.released and not own_threads())
    assert list(stream) == []


def test_closing_while_the_network_runs_releases_the_source(movie):
    """The loop is not continued after the frame, so the source must be released without it."""
    inside, go_on = Event(), Event()

    class Slow(Walkers):
        def infer(self, batch):
            inside.set()
            go_on.wait(10)
            return super().infer(batch)

    stream = VideoPredictor(Slow(), open_source(movie))
    taken = []
    watcher = Thread(target=lambda: taken.append(next(stream, None)))
    watcher.start()
    assert inside.wait(5)
    stream.close()
    go_on.set()
    watcher.join(5)
    assert len(taken) == 1
    assert wait_until(lambda: not own_threads())
    assert not open_files(movie)


def test_threads_may_share_a_video(movie):
    stream = VideoPredictor(Walkers(), open_source(movie), track=True)
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda _: [frame.index for frame, _ in stream], range(4)))
    assert all(indices == sorted(indices) for indices in seen)
    assert sorted(index for indices in seen for index in indices) == list(range(40))


def test_the_video_method_of_the_estimator(tmp_path):
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
    assert "score_threshold" in caught.value.what
    for _, poses in model.video(tmp_path / "a.mp4", max_people=1):
        assert len(poses) == 1


def test_frames_have_the_channel_order_of_the_model(tmp_path):
    with Mp4Writer(tmp_path / "a.mp4", FPS) as movie:
        movie.write(np.full((96, 128, 3), (200, 100, 20), np.uint8), 0)
    seen = {}
    for color in ("rgb", "bgr"):
        model = PoseEstimator(Walkers(), color=color)
        ((frame, _),) = model.video(tmp_path / "a.mp4")
        seen[color] = frame
    np.testing.assert_array_equal(seen["bgr"].pixels, seen["rgb"].pixels[..., ::-1])
    assert seen["rgb"].pixels[0, 0, 0] > 150 > 50 > seen["bgr"].pixels[0, 0, 0]


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
    monkeypatch.setattr("bodyposenet.inference.video.open_camera", lambda name: camera)
    names: dict = {}
    for example in examples:
        exec(compile(example, "docs/video.md", "exec"), names)
    output = capsys.readouterr().out
    assert "11 0.55 [1 2]" in output
    assert "0 frames were dropped" in output
    assert camera.closed
