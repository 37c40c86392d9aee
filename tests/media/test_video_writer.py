"""Writing of MP4 files: frame times, sizes, and errors."""

import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.video import open_video
from bodyposenet.media.video_writer import Mp4Writer

from .videos import reds, shade, write_video


@pytest.mark.parametrize("fps", [25, 29.97, 24000 / 1001, 59.94, 100.123, 7.5, 0.5])
def test_written_frames_can_be_read(tmp_path, fps):
    video = open_video(write_video(tmp_path / "a.mp4", 20, fps))
    assert video.fps == pytest.approx(fps, rel=3e-4)
    assert video.total == 20
    frames = list(video.frames())
    assert [frame.index for frame in frames] == list(range(20))
    np.testing.assert_allclose([f.time for f in frames], np.arange(20) / fps, atol=2e-3 / fps)
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(frame.pixels, shade(10 * index), atol=12)


def test_variable_frame_rate_keeps_times(tmp_path):
    times = [0.0, 0.1, 0.2, 0.7, 0.71, 0.9]
    with Mp4Writer(tmp_path / "a.mp4", 10) as movie:
        for index, time in enumerate(times):
            movie.write(shade(40 * index), time)
    found = np.round(np.array(reds(tmp_path / "a.mp4")) / 40).astype(int)
    assert found.tolist() == [0, 1, 2, 2, 2, 2, 2, 3, 4, 5]


def test_frames_above_the_frame_rate_are_skipped(tmp_path):
    with Mp4Writer(tmp_path / "a.mp4", 10) as movie:
        for index in range(100):
            movie.write(shade(index), index / 100)
    assert len(reds(tmp_path / "a.mp4")) == 11


def test_other_sizes_are_resized_and_odd_sizes_cropped(tmp_path):
    with Mp4Writer(tmp_path / "a.mp4", 10) as movie:
        movie.write(shade(200, 49, 65), 0.0)
        movie.write(shade(100, 30, 90), 0.1)
    first, second = open_video(tmp_path / "a.mp4").frames()
    assert first.pixels.shape == second.pixels.shape == (48, 64, 3)
    np.testing.assert_allclose(second.pixels, shade(100), atol=12)


def test_an_error_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), Mp4Writer(tmp_path / "a.mp4", 10) as movie:
        movie.write(shade(0), 0.0)
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_video_that_cannot_be_written_is_an_error(tmp_path):
    with (
        pytest.raises(BodyPoseNetError, match=r"a\.mp4: cannot be written"),
        Mp4Writer(tmp_path / "none" / "a.mp4", 10) as movie,
    ):
        movie.write(shade(0), 0.0)
    with (
        pytest.raises(BodyPoseNetError, match=r"0 of 1 frames"),
        Mp4Writer(tmp_path / "a.mp4", 10) as movie,
    ):
        movie.write(shade(0), 0.0)
        movie._writer.release()  # as on a full disk: the file's end is missing
        (temporary,) = tmp_path.iterdir()
        temporary.write_bytes(b"")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("height", "width"), [(4, 8200), (1, 1)])
def test_sizes_beyond_the_codec_are_errors(tmp_path, capfd, height, width):
    with (
        pytest.raises(BodyPoseNetError, match=r"(?s)2 to 8191 pixels.*--no_video"),
        Mp4Writer(tmp_path / "a.mp4", 10) as movie,
    ):
        movie.write(shade(0, height, width), 0.0)
