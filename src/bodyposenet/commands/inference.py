"""Detect the people in images or a video; write their poses (detections.json) and draw them.

Example: bpnet inference --input photos -r results --dump_visualizations
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bodyposenet.commands.model_options import IMAGES, ParallelOptions
from bodyposenet.commands.options import (
    Need,
    Option,
    StrPath,
    command,
    ignored_options,
    options_class,
)
from bodyposenet.commands.output_formats import OutputFormats, describe_folders, split_names
from bodyposenet.console import logger, print_line, progress
from bodyposenet.directory_lock import directory_lock
from bodyposenet.errors import BodyPoseNetError, mask_passwords
from bodyposenet.files import make_directory
from bodyposenet.results_folder import StatusFile, results_folder

if TYPE_CHECKING:
    from bodyposenet.inference.detections import DetectionJob, ImageItem
    from bodyposenet.inference.parallel.executor import Executor, OpenPredictor
    from bodyposenet.inference.video import FrameResult
    from bodyposenet.media.inputs import ImageList, InputType
    from bodyposenet.media.video import Video

POSES_FILE = "detections.jsonl"
VIDEO_FILE = "annotated.mp4"
DRAWINGS = "images_annotated"

_DRAWING, _VIDEO = "annotated images", "videos, cameras and streams"
_DESCRIPTIONS = {
    "image": "an image", "dir": "a folder of images", "json": "a list of images",
    "video": "a video", "webcam": "a camera or stream",
}  # fmt: skip
_VIDEOS = Need(_VIDEO, lambda options: options.is_video, in_help=False)  # it is the heading


@options_class
class InferenceOptions(ParallelOptions):
    """Options of `inference`: those of TAO (TAO reference, section 1.5), and more."""

    input: Annotated[
        StrPath | int,
        Option(
            help="Image, folder of images, JSON file that lists images, video, number of a camera, "
            "or address of an image, a video or a stream (https://..., rtsp://...).",
            metavar="PATH",
        ),
    ]
    input_type: Annotated[
        Literal["image", "dir", "json", "video", "webcam", "auto"],
        Option(
            help="Type of the input. webcam: a camera, or the address of a video or stream; auto: "
            "detected by extension or content."
        ),
    ] = "auto"
    image_root_path: Annotated[
        StrPath,
        Option(
            help="Base folder of relative paths, of an image or in a JSON file. Default: the "
            "working directory.",
            metavar="DIR",
        ),
    ] = ""
    results_dir: Annotated[
        StrPath | None,
        Option(
            "-r",
            help="Folder of the results; those of an earlier run are replaced, as in TAO. "
            "Default: the working directory, without status.json; with --output json, no files "
            "are written.",
            metavar="DIR",
        ),
    ] = None
    output: Annotated[
        Literal["json"] | None,
        Option(
            help="json: print the poses on standard output, one line of JSON per image or frame, "
            "with joint names; all other output goes to standard error.",
            cli_only=True,
        ),
    ] = None
    output_format: Annotated[
        tuple[
            Literal[
                "coco",
                "label_studio",
                "cvat",
                "yolo_pose",
                "openpose",
                "csv",
                "deeplabcut",
            ],
            ...,
        ],
        BeforeValidator(split_names),
        Option(
            help="Also write the poses in these formats of other tools, each to a folder of its "
            "name in RESULTS_DIR. Images: coco, label_studio, cvat, yolo_pose, openpose, csv; "
            "videos: openpose, csv, deeplabcut (with --track).",
            metavar="FORMAT",
            nargs="+",
        ),
    ] = ()
    score_threshold: Annotated[
        float | None,
        Field(ge=0, le=1),
        Option(help="Minimum score of reported people. Default: all are reported.", metavar="X"),
    ] = None
    max_people: Annotated[
        int | None,
        Field(ge=1),
        Option(
            help="Maximum number of reported people per image, highest scores first.", metavar="N"
        ),
    ] = None
    batch: Annotated[
        int,
        Field(ge=1),
        Option(
            help="Batch size; images of different sizes are not batched.",
            metavar="N",
            needs=IMAGES,
        ),
    ] = 1
    benchmark: Annotated[
        bool,
        Option(
            help="Also report images/s and the time of each stage, after a first batch for "
            "warm-up.",
            needs=IMAGES,
        ),
    ] = False
    dump_visualizations: Annotated[
        bool,
        Option(
            help=f"Write annotated images to RESULTS_DIR/{DRAWINGS}. With -r, a single image is "
            "always drawn.",
            group=_DRAWING,
            needs=IMAGES,
        ),
    ] = False
    image_format: Annotated[
        Literal["png", "jpg", "webp"],
        Option(
            help="File format of annotated images; jpg is the fastest and smallest.",
            group=_DRAWING,
            needs=IMAGES,
        ),
    ] = "png"
    viz_names: Annotated[
        Literal["image", "index"],
        Option(
            help="Names of annotated images. image: the name of the input image (a.png for a.jpg, "
            "a_2.png for a second a.jpg); index: its index in the input, as in TAO (0.png).",
            group=_DRAWING,
            needs=IMAGES,
        ),
    ] = "image"
    track: Annotated[
        bool, Option(help="Assign track ids to people.", group=_VIDEO, needs=_VIDEOS)
    ] = False
    smooth: Annotated[
        bool,
        Option(help="Smooth the joints over time; implies --track.", group=_VIDEO, needs=_VIDEOS),
    ] = False
    vid_stride: Annotated[
        int,
        Field(ge=1),
        Option(
            deprecated=("--every",),
            help="Run the model on every N-th frame. The frames in between get the poses of the "
            "last one, extrapolated with --track.",
            metavar="N",
            group=_VIDEO,
            needs=_VIDEOS,
        ),
    ] = 1
    no_video: Annotated[
        bool,
        Option(
            deprecated=("--poses_only",),
            help="Do not write the annotated video.",
            group=_VIDEO,
            needs=_VIDEOS,
        ),
    ] = False
    show: Annotated[
        bool,
        Option(help="Show the annotated video in a window.", group=_VIDEO, needs=_VIDEOS),
    ] = False

    @functools.cached_property
    def detected_type(self) -> InputType:
        """The type of the input, detected if `input_type` is auto.

        Raises:
            BodyPoseNetError: The input does not exist, or its type is unknown.
        """
        from bodyposenet.media.inputs import detect_input_type

        if self.input == "":
            raise BodyPoseNetError(
                "--input is empty", "Give an image, a folder, a JSON file or a video."
            )
        if self.input_type != "auto":
            return self.input_type
        return detect_input_type(str(self.input), self.image_root_path)

    @property
    def is_video(self) -> bool:
        """Whether the input is a video, a camera or a stream."""
        return self.detected_type in ("video", "webcam")

    @property
    def prints_results(self) -> bool:
        """Whether the poses go to standard output."""
        return self.output == "json"

    @property
    def writes_files(self) -> bool:
        """Whether results are written to files."""
        return self.results_dir is not None or not self.prints_results

    @property
    def results_folder(self) -> Path:
        """The results folder; the working directory by default."""
        return Path(self.results_dir or ".")

    @property
    def output_formats(self) -> OutputFormats:
        """The formats of other tools in which poses are written."""
        return OutputFormats(self.output_format, self.results_folder)

    @property
    def limits(self) -> dict[str, Any]:
        """The given limits on the reported people, as keyword arguments of the predictor."""
        limits = {"score_threshold": self.score_threshold, "max_people": self.max_people}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def opener(self) -> OpenPredictor:
        """Return a function that opens the predictor, in this process or another one."""
        return partial(ParallelOptions.opener(self), **self.limits)


@dataclass(frozen=True)
class InferenceResult:
    """Detections in images or a video.

    Args:
        processed: Number of images or frames that were processed.
        people: Number of people in all of them.
        entries: The poses in each image as in detections.json; empty for videos.
        skipped: For each skipped image, the reason.
        files: The files and folders that were written.
        lines: Lines of the summary.
        counts: Counts for status.json.
        error: Error that ended the run early, or None; the results are complete up to there.
    """

    processed: int
    people: int
    entries: tuple[dict[str, Any], ...]
    skipped: tuple[str, ...]
    files: tuple[Path, ...]
    lines: tuple[str, ...]
    counts: Mapping[str, Any]
    error: Exception | KeyboardInterrupt | None = None

    @property
    def searched(self) -> int:
        """Deprecated: `processed`."""
        message = "InferenceResult.searched is deprecated; use InferenceResult.processed"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return self.processed

    def summary(self) -> str:
        """Return the number of detections, and the files."""
        return "\n".join(self.lines)


@command(InferenceOptions)
def predict(options: InferenceOptions) -> InferenceResult:
    """Detect the people in images or a video; write their poses and draw them.

    Example:
        >>> result = bodyposenet.predict(input="photos", results_dir="out")
        >>> result.entries[0]["scores"]

    Raises:
        BodyPoseNetError: An option, a spec, the model or the input is invalid, no image can be
            read, or the results cannot be written.
        KeyboardInterrupt: Ctrl-C ended a run on images or on a video file. The results up to there
            are written, as after an error.
    """
    result = None
    try:
        with _lock_results(options) as status:
            _reject_ignored(options)
            options.output_formats.check(
                is_video=options.is_video, has_tracks=options.track or options.smooth
            )
            result = (_predict_video if options.is_video else _predict_images)(options)
            if status is not None:
                status.write("RUNNING", result.lines[0], **result.counts)
            if result.error is not None:
                raise result.error
    except BaseException as error:
        if result is None or error is not result.error:
            raise
    return result


@contextmanager
def _lock_results(options: InferenceOptions) -> Generator[StatusFile | None, None, None]:
    """Lock the results folder; yield its status.json if the folder was given."""
    if options.results_dir is not None:
        with results_folder(make_directory(options.results_dir)) as status:
            yield status
    elif options.writes_files:
        with directory_lock(make_directory(".")) as check_in_place:
            yield None
            check_in_place()
    else:
        yield None


def _reject_ignored(options: InferenceOptions) -> None:
    """Raise an error for options that would have no effect."""
    ignored = list(ignored_options(options))
    if ignored:
        need = ignored[0][1]
        flags = ", ".join(field.flag for field, other in ignored if other.words == need.words)
        given = _DESCRIPTIONS[options.detected_type]
        raise BodyPoseNetError(
            f"{flags}: only works with {need.words}, but the input is {given}",
            "Omit it, or choose another --input_type.",
        )
    if not options.writes_files:
        for flag, is_given, files in (
            ("--dump_visualizations", options.dump_visualizations, "annotated images"),
            ("--output_format", options.output_format, "files"),
        ):
            if is_given:
                raise BodyPoseNetError(
                    f"{flag}: no files are written with --output json",
                    f"Give a folder for the {files} with -r.",
                )


# Images


def _predict_images(options: InferenceOptions) -> InferenceResult:
    from bodyposenet.inference import detections
    from bodyposenet.inference.detections import DetectionJob, clear_pictures, image_items
    from bodyposenet.media.inputs import check_image, list_images

    results_dir = options.results_folder
    images = list_images(options.detected_type, str(options.input), options.image_root_path)  # type: ignore[arg-type]
    if options.detected_type == "image" and not images.entries[0].address:
        check_image(images.entries[0].path)
    options.output_formats.check_images(images)
    executor = options.open_executor(results_dir)
    drawings = results_dir / DRAWINGS
    draws = _should_draw(options, images, drawings)
    if draws:
        make_directory(drawings)
    work = DetectionJob(drawings if draws else None, options.batch)
    items = image_items(images.entries, options.image_format, numbered=options.viz_names == "index")
    warm_up = _count_warm_up(executor, items, options)
    entries, end = _process(executor, work, [items[:warm_up], items[warm_up:]], options)
    files, folders = [], []
    if options.writes_files:
        files = [results_dir / detections.FILE_NAME, *([drawings] if draws else [])]
        former = detections.read_pictures(files[0])
        detections.write_detections(
            files[0], executor.skeleton, executor.spec, entries, images.fields
        )
        if end is None:
            _check_entries(entries)
            clear_pictures(drawings, entries, former)
        folders = options.output_formats.write_images(images, entries, executor)
    elif end is None:
        _check_entries(entries)
    if end is not None:
        logger.warning("the run stopped after %d of %d images", len(entries), len(items))
    elif not draws and options.writes_files:
        logger.info("add --dump_visualizations to draw the people")
    times = []
    if options.benchmark and len(entries) > warm_up:
        times = executor.stopwatch.table(len(entries) - warm_up)
    return _image_result(entries, executor.spec.display_score_threshold, files, folders, times, end)


def _image_result(
    entries: Sequence[dict[str, Any]], threshold: float, files: Sequence[Path],
    folders: Sequence[Path], times: Sequence[str], end: KeyboardInterrupt | BodyPoseNetError | None,
) -> InferenceResult:  # fmt: skip
    """Create the result of a run on images."""
    skipped = tuple(entry["error"] for entry in entries if "error" in entry)
    scores = [score for entry in entries for score in entry.get("scores", [])]
    counts = {
        "images": len(entries) - len(skipped), "people": len(scores),
        "skipped_images": len(skipped),
    }  # fmt: skip
    summary = (
        f"images: {counts['images']}, people: {len(scores)} "
        f"({sum(score >= threshold for score in scores)} with a score of at least {threshold:g})"
    )
    if files:
        summary += f"; poses in {files[0]}"
    if files[1:]:
        summary += f", people with that score drawn in {files[1]}"
    summary += describe_folders(folders)
    lines = [summary, *times]
    if skipped:
        lines.append(f"images that could not be processed and were skipped: {len(skipped)}")
        lines += [f"  {reason}" for reason in skipped]
    return InferenceResult(
        len(entries), len(scores), tuple(entries), skipped, (*files, *folders), tuple(lines),
        counts, end,
    )  # fmt: skip


def _should_draw(options: InferenceOptions, images: ImageList, drawings: Path) -> bool:
    """Return whether people are drawn: with --dump_visualizations, and for one image with -r.

    Raises:
        BodyPoseNetError: The input images would be overwritten.
    """
    if not options.writes_files:
        return False
    reads_drawings = any(
        image.path.parent.resolve() == drawings.resolve() for image in images.entries
    )
    if not options.dump_visualizations:
        return (
            options.detected_type == "image"
            and options.results_dir is not None
            and not reads_drawings
        )
    if reads_drawings:
        raise BodyPoseNetError(
            f"{drawings}: the input images are in the folder of the annotated images",
            "Choose another results folder (-r), or other images.",
        )
    return True


def _count_warm_up(
    executor: Executor, items: Sequence[ImageItem], options: InferenceOptions
) -> int:
    """Return the number of images that are processed before `--benchmark` starts to measure."""
    from bodyposenet.inference.parallel.executor import LocalExecutor

    if not options.benchmark or not isinstance(executor, LocalExecutor):
        return 0
    if len(items) <= options.batch:
        logger.info("--benchmark: too few images for a warm-up; the slower first run is included")
        return 0
    return options.batch


def _process(
    executor: Executor, work: DetectionJob, parts: Sequence[Sequence[ImageItem]],
    options: InferenceOptions,
) -> tuple[list[dict[str, Any]], KeyboardInterrupt | BodyPoseNetError | None]:  # fmt: skip
    """Run the model on images.

    Args:
        executor: Executor of the model.
        work: Job that processes each image.
        parts: The images, in parts that are processed one after the other.
        options: Options of the command.

    Returns:
        The entries of the images, and the error or interruption that ended the run early, or None.
    """
    entries: list[dict[str, Any]] = []
    names = {"keypoint_names": list(executor.skeleton.joints)}

    def _results_of_parts() -> Generator[dict[str, Any], None, None]:
        for part in parts:
            if part:
                yield from executor.run(work, part)

    with closing(_results_of_parts()) as results:
        try:
            for entry in progress(results, "inference", sum(map(len, parts))):
                entries.append(entry)
                if not _print_poses(entry | names if "keypoints" in entry else entry, options):
                    break
        except (KeyboardInterrupt, BodyPoseNetError) as end:
            if not entries:
                raise  # there are no results to write
            return entries, end
    return entries, None


def _print_poses(poses: Mapping[str, Any], options: InferenceOptions) -> bool:
    """Print a line of `--output json`; return False if the output is closed and unused."""
    return not options.prints_results or print_line(json.dumps(poses)) or options.writes_files


def _check_entries(entries: Sequence[Mapping[str, Any]]) -> None:
    """Raise an error if all images failed."""
    if all("error" in entry for entry in entries):
        problem = entries[0]["error"]
        if len(entries) > 1:
            problem = (
                f"none of the {len(entries)} images could be processed; first error: {problem}"
            )
        raise BodyPoseNetError(problem, "See the warnings above.")


# Videos and cameras


def _predict_video(options: InferenceOptions) -> InferenceResult:
    from bodyposenet.inference.detections import FILE_NAME, write_detections
    from bodyposenet.inference.recording import FrameCounts, describe_frame, record
    from bodyposenet.inference.video import VideoPredictor

    results_dir = options.results_folder
    predictor = options.open_predictor()
    video = _open_video(options, results_dir)
    counts = FrameCounts(video.total)

    def _count_and_print(result: FrameResult) -> bool:
        counts.add(result)
        return not options.prints_results or _print_poses(describe_frame(result), options)

    files = []
    if options.writes_files:
        files = [results_dir / POSES_FILE]
        if not options.no_video:
            files.append(results_dir / VIDEO_FILE)
    end = record(
        VideoPredictor(
            predictor, video,
            stride=options.vid_stride, track=options.track, smooth=options.smooth,
        ),
        _count_and_print,
        lines=files[0] if files else None,
        movie=files[1] if files[1:] else None,
        shows=options.show,
        score_threshold=predictor.spec.display_score_threshold,
    )  # fmt: skip
    if options.writes_files:
        description = {
            "path": mask_passwords(_input_name(options)),
            "frames_per_s": video.fps,
            "frames": counts.frames,
            "seconds": round(counts.video_seconds, 6),
            "poses_in_every": options.vid_stride,
            "poses": POSES_FILE,
        }
        write_detections(
            results_dir / FILE_NAME, predictor.engine.skeleton, predictor.spec, [],
            {"video": description},
        )  # fmt: skip
    name = Path(str(options.input)).stem if options.detected_type == "video" else "stream"
    folders = options.output_formats.write_video(name, results_dir / POSES_FILE, predictor)
    if end is not None and video.is_live and isinstance(end, KeyboardInterrupt):
        end = None  # a camera has no other end
    elif end is not None:
        logger.warning("the run stopped after %.2f s of the video", counts.video_seconds)
    figures = counts.figures(video)
    line = ", ".join(f"{name}: {number}" for name, number in figures.items())
    if files:
        line += f"; poses in {files[0]}" + "".join(f", drawn in {movie}" for movie in files[1:])
        line += describe_folders(folders)
        files += [results_dir / FILE_NAME, *folders]
    return InferenceResult(
        counts.frames, counts.people, (), (), tuple(files), (line,), {"video": figures}, end
    )


def _input_name(options: InferenceOptions) -> str:
    """Return the name of the input in detections.json."""
    if options.detected_type == "webcam":
        return str(options.input)
    return Path(str(options.input)).as_posix()


def _open_video(options: InferenceOptions, results_dir: Path) -> Video:
    from bodyposenet.media.video import open_camera, open_video

    if options.detected_type == "webcam":
        return open_camera(str(options.input))
    path = Path(str(options.input))
    video = open_video(path)
    if path.resolve() == (results_dir / VIDEO_FILE).resolve():
        raise BodyPoseNetError(
            f"{path}: would be overwritten by the annotated video",
            "Choose another results folder (-r).",
        )
    return video
