"""`bpnet inference` on videos and cameras: results, tracking, and interrupted runs."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bodyposenet import cli
from bodyposenet.commands.inference import InferenceOptions, predict
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.inference.predictor import NetworkInput
from bodyposenet.media.video import Frame, open_video
from bodyposenet.media.video_writer import Mp4Writer
from bodyposenet.specs.inference import InferenceSpec

from ..media.walkers import SKELETON, as_poses, walker

FPS, FRAMES, STEP = 20, 24, 10


def frame_pixels(index: int) -> np.ndarray:
    """Return a gray frame whose value encodes its index."""
    return np.full((240, 320, 3), STEP * index, np.uint8)


class WalkPredictor:
    """A fake predictor that detects two people, whose position depends on the frame's value."""

    engine = SimpleNamespace(skeleton=SKELETON)
    spec = InferenceSpec()

    def __init__(self, end=None, before=8):
        self.seen, self._end, self._before = [], end, before

    def prepare(self, pixels):
        return [NetworkInput(pixels, Affine.resize(1.0))]

    def infer(self, batch):
        found = []
        for ((pixels, _),) in batch:
            self.seen.append(round(pixels.mean() / STEP))
            if len(self.seen) == self._before and self._end is not None:
                raise self._end
            found.append([self.seen[-1]])
        return found

    def find_poses(self, inputs, maps):
        return as_poses(people_at(maps[0]))


def people_at(index: float) -> np.ndarray:
    return np.array([walker(60 + 4 * index, 40, 150, 0), walker(220, 40, 160, 0)])


@pytest.fixture
def movie(tmp_path) -> Path:
    path = tmp_path / "movie.mp4"
    with Mp4Writer(path, FPS) as writer:
        for index in range(FRAMES):
            writer.write(frame_pixels(index), index / FPS)
    return path


@pytest.fixture
def run(monkeypatch):
    """Run `inference` on a source: `run(source, results_dir, *flags)` gives its result."""

    def run(source, results, *flags, predictor=None, input_type="video"):
        used = predictor or WalkPredictor()
        monkeypatch.setattr(InferenceOptions, "open_predictor", lambda _: used)
        argv = ["--input", str(source), "--input_type", input_type, *flags]
        argv += ["-r", str(results)] if results else []
        values = cli.make_parser("inference").parse(argv)
        return predict.run(cli.build_options("inference", values, progress=False))

    return run


def lines_of(results: Path) -> list[dict]:
    text = (results / "detections.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def frames_of(results: Path) -> list[np.ndarray]:
    return [frame.pixels for frame in open_video(results / "annotated.mp4").frames()]


def files_of(results: Path) -> list[str]:
    return sorted(file.name for file in results.iterdir())


def test_video_gives_json_lines_and_an_annotated_video(run, movie, tmp_path):
    results = tmp_path / "results"
    result = run(movie, results)
    assert (result.processed, result.people, result.error) == (FRAMES, 2 * FRAMES, None)
    assert "frames: 24, people per frame: 2.0, frames/s:" in result.summary()
    assert sorted(file.name for file in result.files) == files_of(results)[:-1]
    assert files_of(results) == [
        "annotated.mp4", "detections.json", "detections.jsonl", "status.json",
    ]  # fmt: skip
    lines = lines_of(results)
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    np.testing.assert_allclose([line["time"] for line in lines], np.arange(FRAMES) / FPS, atol=1e-4)
    for index, line in enumerate(lines):
        assert set(line) == {
            "frame", "time", "keypoint_names", "keypoints", "scores", "keypoint_scores",
        }  # fmt: skip
        assert line["keypoint_names"] == list(SKELETON.joints)
        np.testing.assert_allclose(line["keypoints"], people_at(index), atol=1e-3)
    video = open_video(results / "annotated.mp4")
    assert (video.fps, video.total) == (FPS, FRAMES)
    for index, pixels in enumerate(frames_of(results)):
        x, y = people_at(index)[0][0].round().astype(int)
        assert np.abs(pixels[y, x].astype(int) - STEP * index).max() > 20
        assert np.abs(pixels[-5:, -5:].astype(int) - STEP * index).max() < 12


def test_detections_json_describes_the_video(run, movie, tmp_path):
    run(movie, tmp_path / "results", "--vid_stride", "2")
    document = json.loads((tmp_path / "results" / "detections.json").read_text())
    assert document["keypoint_names"] == list(SKELETON.joints)
    assert document["images"] == []
    assert document["video"] == {
        "path": movie.as_posix(), "frames_per_s": FPS, "frames": FRAMES, "seconds": 1.15,
        "poses_in_every": 2, "poses": "detections.jsonl",
    }  # fmt: skip


def test_vid_stride(run, movie, tmp_path):
    predictor = WalkPredictor()
    run(movie, tmp_path / "results", "--vid_stride", "3", predictor=predictor)
    assert predictor.seen == list(range(0, FRAMES, 3))
    for index, line in enumerate(lines_of(tmp_path / "results")):
        assert line.get("poses_of_frame", index) == index - index % 3
        np.testing.assert_allclose(line["keypoints"], people_at(index - index % 3), atol=1e-3)
    assert len(frames_of(tmp_path / "results")) == FRAMES


@pytest.mark.parametrize("flag", ["--track", "--smooth"])
def test_tracked_people_are_extrapolated(run, movie, tmp_path, flag):
    run(movie, tmp_path / "results", "--vid_stride", "3", flag)
    lines = lines_of(tmp_path / "results")
    assert all(line["track_ids"] == [1, 2] for line in lines)
    for index, line in enumerate(lines[6:], start=6):
        np.testing.assert_allclose(line["keypoints"], people_at(index), atol=3)
    status = (tmp_path / "results" / "status.json").read_text().splitlines()
    assert json.loads(status[1])["video"]["tracks"] == 2


def test_people_with_low_scores_are_drawn_only_if_tracked(run, movie, tmp_path):
    class UncertainPredictor(WalkPredictor):
        def find_poses(self, inputs, maps):
            poses = super().find_poses(inputs, maps)
            poses.scores[:] = 0.9 if maps[0] == 0 else 0.3
            return poses

    drawn = []
    for flags in ((), ("--track",)):
        run(movie, tmp_path / "results", *flags, predictor=UncertainPredictor())
        pixels = frames_of(tmp_path / "results")[-1]
        drawn.append(bool((np.abs(pixels.astype(int) - STEP * (FRAMES - 1)) > 25).any()))
        assert len(lines_of(tmp_path / "results")[-1]["scores"]) == 2
    assert drawn == [False, True]


def test_no_video(run, movie, tmp_path):
    run(movie, tmp_path / "results", "--no_video")
    assert files_of(tmp_path / "results") == ["detections.json", "detections.jsonl", "status.json"]


def test_ctrl_c_keeps_complete_files(run, movie, tmp_path):
    results, end = tmp_path / "results", KeyboardInterrupt()
    result = run(movie, results, predictor=WalkPredictor(end))
    assert (result.error, result.processed) == (end, 7)
    assert "FAILURE" in (results / "status.json").read_text()
    assert [line["frame"] for line in lines_of(results)] == list(range(7))
    assert len(frames_of(results)) == 7
    assert json.loads((results / "detections.json").read_text())["video"]["frames"] == 7
    assert files_of(results)[0] == "annotated.mp4"


def test_ctrl_c_while_drawing_counts_written_frames(run, movie, tmp_path, monkeypatch):
    drawn = []

    def draw(pixels, poses, **_):
        drawn.append(poses)
        if len(drawn) == 5:
            raise KeyboardInterrupt  # raised in the main thread, which waits for the drawing
        return pixels

    monkeypatch.setattr("bodyposenet.inference.recording.draw", draw)
    results = tmp_path / "results"
    assert isinstance(run(movie, results).error, KeyboardInterrupt)
    document = json.loads((results / "detections.json").read_text())
    assert document["video"]["frames"] == len(lines_of(results)) == 7


def test_ctrl_c_before_the_first_poses_writes_no_results(run, movie, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(movie, tmp_path / "results", predictor=WalkPredictor(KeyboardInterrupt(), before=1))
    assert files_of(tmp_path / "results") == ["status.json"]


class Camera:
    """A fake camera with 10 frames per second, of which every second one is dropped."""

    fps, total, is_live, dropped = 10, None, True, 12

    def close(self):
        pass

    def frames(self):
        for index in range(0, FRAMES, 2):
            yield Frame(index, index / self.fps, frame_pixels(index))


def test_ctrl_c_is_the_normal_end_of_a_camera(run, tmp_path, monkeypatch):
    monkeypatch.setattr("bodyposenet.media.video.open_camera", lambda source: Camera())
    predictor = WalkPredictor(KeyboardInterrupt())
    address = "rtsp://bob:hunter2@cam/live"
    result = run(address, tmp_path / "results", predictor=predictor, input_type="webcam")
    assert result.error is None
    assert "dropped frames: 12" in result.summary()
    lines = lines_of(tmp_path / "results")
    assert [line["frame"] for line in lines] == list(range(0, 14, 2))
    assert len(frames_of(tmp_path / "results")) == 13
    document = json.loads((tmp_path / "results" / "detections.json").read_text())
    assert document["video"]["path"] == "rtsp://***@cam/live"
    written = [path.read_bytes() for path in (tmp_path / "results").iterdir()]
    assert not any(b"hunter2" in content for content in written)


def test_closing_the_window_ends_the_video(run, movie, tmp_path, monkeypatch):
    shown = []

    class FakeWindow:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            shown.append("closed")

        def show(self, pixels):
            shown.append(pixels)
            return len(shown) < 5

    monkeypatch.setattr("bodyposenet.inference.recording.PreviewWindow", FakeWindow)
    run(movie, tmp_path / "results", "--show", "--no_video")
    assert shown[-1] == "closed"
    assert (shown[0] != frame_pixels(0)).any()
    assert len(lines_of(tmp_path / "results")) == 7  # two more were processed while drawing


@pytest.mark.parametrize("end", [BodyPoseNetError("too narrow"), MemoryError(), OSError("gone")])
def test_error_keeps_earlier_frames(run, movie, tmp_path, end, caplog):
    results = tmp_path / "results"
    result = run(movie, results, predictor=WalkPredictor(end))
    assert result.error is end  # even an OSError is not reported as a full disk
    assert [line["frame"] for line in lines_of(results)] == list(range(7))
    assert len(frames_of(results)) == 7
    assert json.loads((results / "detections.json").read_text())["video"]["frames"] == 7
    assert "after 0.30 s" in caplog.text


def test_error_before_the_first_poses_keeps_old_files(run, movie, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / "detections.jsonl").write_text("old")
    with pytest.raises(BodyPoseNetError):
        run(movie, results, predictor=WalkPredictor(BodyPoseNetError("too narrow"), before=1))
    assert files_of(results) == ["detections.jsonl", "status.json"]
    assert (results / "detections.jsonl").read_text() == "old"


def test_error_while_drawing_keeps_earlier_frames(run, movie, tmp_path, monkeypatch):
    drawn = []

    def draw(pixels, poses, **_):
        drawn.append(poses)
        if len(drawn) >= 5:
            raise ValueError("cannot draw")
        return pixels

    monkeypatch.setattr("bodyposenet.inference.recording.draw", draw)
    assert str(run(movie, tmp_path / "results").error) == "cannot draw"
    assert len(frames_of(tmp_path / "results")) == 4
    assert len(lines_of(tmp_path / "results")) >= 4


def test_unwritable_video_keeps_the_poses(run, movie, tmp_path, monkeypatch):
    def full(self):
        raise BodyPoseNetError("annotated.mp4: cannot be written")

    monkeypatch.setattr(Mp4Writer, "_check", full)
    with pytest.raises(BodyPoseNetError, match=r"annotated\.mp4"):
        run(movie, tmp_path / "results")
    assert len(lines_of(tmp_path / "results")) == FRAMES
    assert files_of(tmp_path / "results") == ["detections.jsonl", "status.json"]


def test_invalid_options_are_errors(run, movie, tmp_path):
    with pytest.raises(BodyPoseNetError, match="--vid_stride 0"):
        run(movie, tmp_path / "results", "--vid_stride", "0")
    with pytest.raises(BodyPoseNetError, match="no such video file"):
        run(tmp_path / "none.mp4", tmp_path / "results")
    with pytest.raises(BodyPoseNetError, match=r"--dump_visualizations.*image"):
        run(movie, tmp_path / "results", "--dump_visualizations")
    movie = movie.rename(tmp_path / "annotated.mp4")
    with pytest.raises(BodyPoseNetError, match="annotated video"):
        run(movie, tmp_path)


def test_progress_is_logged(run, movie, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("bodyposenet.inference.recording._SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level("INFO", "bodyposenet"):
        run(movie, tmp_path / "results", "--no_video")
    assert "video: 12/24 frames, " in caplog.text
    assert "frames/s" in caplog.text


@pytest.mark.parametrize(("end", "code"), [(None, 0), (KeyboardInterrupt(), 130)])
def test_auto_detects_videos(run_bpnet, movie, tmp_path, monkeypatch, end, code):
    predictor = WalkPredictor(end)
    monkeypatch.setattr(InferenceOptions, "open_predictor", lambda _: predictor)
    results = tmp_path / "results"
    arguments = ("inference", "--input_type", "auto", "--input", movie, "-r", results)
    assert run_bpnet(*arguments, "--smooth").code == code
    assert len(lines_of(results)) == len(frames_of(results)) == (7 if end else FRAMES)


def test_poses_as_lines_of_json_on_standard_output(run_bpnet, movie, tmp_path, monkeypatch):
    monkeypatch.setattr(InferenceOptions, "open_predictor", lambda _: WalkPredictor())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    arguments = ("inference", "--input", movie, "--output", "json", "--vid_stride", 2)
    alone = run_bpnet(*arguments)
    assert alone.code == 0
    assert not list((tmp_path / "here").iterdir())
    both = run_bpnet(*arguments, "-r", tmp_path / "r", "--no_video")
    assert both.out == alone.out == (tmp_path / "r" / "detections.jsonl").read_text()
    assert len(alone.out.splitlines()) == FRAMES
    assert "frames: 24" in alone.err
