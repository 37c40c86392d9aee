"""Find the people in a video or before a camera; write their poses and the annotated video.

A part of `inference`. One thread reads ahead, another draws and writes behind; the network runs
between them.
"""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bodyposenet.console import logger, say, track
from bodyposenet.errors import BodyPoseNetError, mask_passwords
from bodyposenet.files import replacing
from bodyposenet.results_folder import StatusFile

if TYPE_CHECKING:
    from bodyposenet.media.video import Video
    from bodyposenet.media.window import Window
    from bodyposenet.runtime.predictor import Predictor
    from bodyposenet.runtime.recording import Recorder
    from bodyposenet.runtime.video import FrameResult, VideoPredictor

POSES_FILE = "detections.jsonl"
VIDEO_FILE = "annotated.mp4"

_SECONDS_BETWEEN_LINES = 10.0


def add_video_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `inference` that concern videos and cameras."""
    group = parser.add_argument_group("flags of videos and webcams")
    group.add_argument(
        "--every", type=int, default=1, metavar="N",
        help="find poses in every N-th frame; the others keep them, moved along with --track",
    )  # fmt: skip
    group.add_argument("--track", action="store_true", help="give every person an id over time")
    group.add_argument(
        "--smooth", action="store_true", help="calm the joints over time; implies --track"
    )
    group.add_argument(
        "--poses_only", action="store_true", help="write poses only, no annotated video"
    )
    group.add_argument(
        "--show", action="store_true", help="show the annotated video in a window on the way"
    )


def run_video(
    arguments: argparse.Namespace, predictor: Predictor, results_dir: Path, status: StatusFile
) -> None:
    """Find, follow, draw and write, frame by frame.

    Args:
        arguments: Those of `add_video_arguments`, `input` and `input_type` (video or webcam).
        predictor: Finds the people in a frame.
        results_dir: Receives `POSES_FILE`, `VIDEO_FILE`, and detections.json, which tells of them.
        status: Is told the counts.

    Raises:
        BodyPoseNetError: The input cannot be read, or the results cannot be written.
        KeyboardInterrupt: Ctrl-C stopped a video file. For a camera that is the usual end.
        Exception: Whatever else ended the run. In all cases the results are whole up to there.
    """
    if arguments.every < 1:
        raise BodyPoseNetError(f"--every {arguments.every}: at least 1")
    video = _open(arguments, results_dir)
    progress = _Progress(video.total)
    end = _record(arguments, predictor, video, results_dir, progress)
    _describe(arguments, predictor, video, results_dir, progress)
    _report(arguments, results_dir, progress, status)
    if end is not None and not (video.is_live and isinstance(end, KeyboardInterrupt)):
        logger.warning("the results end after %.2f s of the video", progress.video_seconds)
        raise end


def _open(arguments: argparse.Namespace, results_dir: Path) -> Video:
    from bodyposenet.media.video import open_camera, open_video

    if arguments.input_type == "webcam":
        return open_camera(arguments.input)
    video = open_video(arguments.input)
    if Path(arguments.input).resolve() == (results_dir / VIDEO_FILE).resolve():
        raise BodyPoseNetError(
            f"{arguments.input}: is where the annotated video is written",
            "Choose another results folder (-r).",
        )
    return video


def _record(
    arguments: argparse.Namespace, predictor: Predictor, video: Video, results_dir: Path,
    progress: _Progress,
) -> Exception | KeyboardInterrupt | None:  # fmt: skip
    """Work through the video and leave whole files; what ended it before its end, if anything."""
    from bodyposenet.media.mp4 import Mp4Writer
    from bodyposenet.media.window import Window
    from bodyposenet.runtime.recording import Recorder
    from bodyposenet.runtime.video import VideoPredictor

    with ExitStack() as stack:
        frames = stack.enter_context(
            VideoPredictor(
                predictor, video, stride=arguments.every, track=arguments.track,
                smooth=arguments.smooth,
            )
        )  # fmt: skip
        movie = window = None
        if not arguments.poses_only:
            movie = stack.enter_context(Mp4Writer(results_dir / VIDEO_FILE, video.fps))
        # Is complete before the video is, which may not fit on the disk.
        lines = stack.enter_context(replacing(results_dir / POSES_FILE, durable=True))
        if arguments.show:
            window = stack.enter_context(Window())
        threshold = predictor.spec.display_score_threshold
        recorder = stack.enter_context(
            Recorder(lines, movie, draws=bool(movie or window), score_threshold=threshold)
        )
        end = None
        try:
            _work_through(frames, recorder, window, progress)
            recorder.finish()
        except (Exception, KeyboardInterrupt) as error:
            if not progress.frames:
                raise  # there is nothing to keep
            end = error
            with suppress(Exception):  # the first error is the one to report
                recorder.finish()
    return end


def _work_through(
    frames: VideoPredictor, recorder: Recorder, window: Window | None, progress: _Progress
) -> None:
    """Frame by frame, until the end or until the window is told to end."""
    for result in track(frames.results(), "video", frames.video.total, lines=False):
        progress.add(result)  # before a wait in which Ctrl-C could leave it uncounted
        picture = recorder.add(result)
        if window is not None and picture is not None and not window.show(picture):
            return


class _Progress:
    """Counts, and says so from time to time.

    Args:
        total: Frames of the video, if that is known.
    """

    def __init__(self, total: int | None) -> None:
        self._of = f"/{total}" if total else ""
        self._begun = self._said = time.monotonic()
        self._seconds = 0.0
        self._ids: set[int] = set()
        self.frames = self.people = 0
        self.video_seconds = 0.0

    def add(self, result: FrameResult) -> None:
        """Count a frame."""
        self.frames += 1
        self.people += len(result.poses)
        self.video_seconds = result.frame.time
        if result.poses.track_ids is not None:
            self._ids.update(result.poses.track_ids.tolist())
        now = time.monotonic()
        self._seconds = now - self._begun
        if now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            logger.info(
                "video: %d%s frames, %.1f frames/s", self.frames, self._of, self.frames_per_s
            )

    @property
    def frames_per_s(self) -> float:
        """Frames that were worked on in a second."""
        return self.frames / max(self._seconds, 1e-9)

    @property
    def tracks(self) -> int:
        """People who were given an id."""
        return sum(identity >= 0 for identity in self._ids)


def _describe(
    arguments: argparse.Namespace, predictor: Predictor, video: Video, results_dir: Path,
    progress: _Progress,
) -> None:  # fmt: skip
    """Write detections.json: the joints and settings of the poses, and what video they are of."""
    from bodyposenet.runtime.detections import FILE_NAME, write_detections

    name = arguments.input if video.is_live else Path(arguments.input).as_posix()
    about = {
        "path": mask_passwords(name),
        "frames_per_s": video.fps,
        "frames": progress.frames,
        "seconds": round(progress.video_seconds, 6),
        "poses_in_every": arguments.every,
        "poses": POSES_FILE,
    }
    write_detections(
        results_dir / FILE_NAME, predictor.engine.skeleton, predictor.spec, [], {"video": about}
    )


def _report(
    arguments: argparse.Namespace, results_dir: Path, progress: _Progress, status: StatusFile
) -> None:
    """Say what was done."""
    counts: dict[str, Any] = {
        "frames": progress.frames,
        "people per frame": round(progress.people / max(progress.frames, 1), 2),
    }
    if arguments.track or arguments.smooth:
        counts["tracks"] = progress.tracks
    counts["frames/s"] = round(progress.frames_per_s, 2)
    found = ", ".join(f"{name}: {number}" for name, number in counts.items())
    written = f"poses in {results_dir / POSES_FILE}"
    if not arguments.poses_only:
        written += f", drawn in {results_dir / VIDEO_FILE}"
    say(f"{found}; {written}")
    status.write("RUNNING", found, video=counts)
