"""Find the people in images or a video; write their poses (detections.json) and draw them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence, Set
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bodyposenet.console import logger, say, track
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import make_directory
from bodyposenet.results_folder import StatusFile, results_folder
from bodyposenet.tasks.flags import (
    add_executor_arguments,
    add_model_arguments,
    load_predictor,
    open_executor,
)
from bodyposenet.tasks.video import add_video_arguments, run_video

if TYPE_CHECKING:
    from bodyposenet.media.source import ImageList
    from bodyposenet.runtime.image_work import ImageItem, ImageWork
    from bodyposenet.runtime.scale.executor import Executor
    from bodyposenet.runtime.stopwatch import Stopwatch
    from bodyposenet.specs.inference import InferenceSpec

_PARTS = {
    "network": "network",
    "waiting": "waiting for other parts",
    "read": "beside it: read",
    "resize": "beside it: resize",
    "decode": "beside it: decode",
    "finish": "beside it: draw and write",
}
"""Parts of the pipeline and how `--benchmark` calls them."""

_OF_VIDEOS = {"every": 1, "track": False, "smooth": False, "poses_only": False, "show": False}
_OF_IMAGES = {
    "processes": None, "ray": None, "overwrite": False, "batch": 1, "benchmark": False,
    "image_format": "png", "viz_names": "image",
}  # fmt: skip
"""Flags that do nothing for the other kind of input, and their defaults."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `inference` (guide; reference 1.5)."""
    add_model_arguments(parser)
    parser.add_argument(
        "--input_type", choices=("image", "dir", "json", "video", "webcam", "auto"),
        default="auto",
        help="what --input is: an image, a folder of images, a JSON that names images, a video, "
        "the number of a camera; or auto, the default, to tell by what is there",
    )  # fmt: skip
    parser.add_argument("--input", required=True, metavar="PATH", help="the input")
    parser.add_argument(
        "--image_root_path", default="", metavar="DIR",
        help="folder that the paths of the image or of the JSON are relative to",
    )  # fmt: skip
    parser.add_argument(
        "--dump_visualizations", action="store_true",
        help="also draw the people, in RESULTS_DIR/images_annotated; always so for a single image",
    )  # fmt: skip
    parser.add_argument(
        "--image_format", choices=("png", "jpg", "webp"), default="png",
        help="file format of the pictures; jpg takes the least time and space",
    )  # fmt: skip
    parser.add_argument(
        "--viz_names", choices=("image", "index"), default="image",
        help="how pictures are named: by their image (a.jpg gives a.png, a second a.jpg a_2.png), "
        "which is the default, or by its viz_id, as TAO names them (0.png)",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N",
        help="images that the network gets at once, where they have one size; 1 by default",
    )  # fmt: skip
    parser.add_argument(
        "--benchmark", action="store_true", help="also tell images/s and the time of each part"
    )
    add_executor_arguments(parser)
    add_video_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Find and draw.

    Raises:
        BodyPoseNetError: A spec, the model or the input is wrong, or no image could be read.
    """
    if arguments.batch < 1:
        raise BodyPoseNetError(f"--batch {arguments.batch}: at least 1")
    results_dir = make_directory(arguments.results_dir or ".")
    with results_folder(results_dir) as status:
        arguments.input_type = _input_type(arguments)
        is_video = arguments.input_type in ("video", "webcam")
        _check_flags(arguments, is_video)
        if is_video:
            run_video(arguments, load_predictor(arguments), results_dir, status)
        else:
            _run_on_images(arguments, results_dir, status)


def _input_type(arguments: argparse.Namespace) -> str:
    """What `--input` is.

    Raises:
        BodyPoseNetError: It is nothing that is there.
    """
    if not arguments.input:
        raise BodyPoseNetError("--input is empty", "Name an image, a folder, a JSON or a video.")
    if arguments.input_type != "auto":
        return arguments.input_type
    from bodyposenet.media.kinds import tell_kind

    return tell_kind(arguments.input, arguments.image_root_path)


def _check_flags(arguments: argparse.Namespace, is_video: bool) -> None:
    """Refuse flags that would do nothing."""
    useless, meant_for = _OF_VIDEOS, "videos and webcams"
    if is_video:
        useless, meant_for = _OF_IMAGES, "images"
    given = [
        f"--{name}" for name, default in useless.items() if getattr(arguments, name) != default
    ]
    if given:
        raise BodyPoseNetError(
            f"{', '.join(given)}: for {meant_for} only, but the input is of the type "
            f"{arguments.input_type}",
            "Leave it out, or choose another --input_type.",
        )


def _run_on_images(arguments: argparse.Namespace, results_dir: Path, status: StatusFile) -> None:
    from bodyposenet.media.kinds import check_image
    from bodyposenet.media.source import list_images
    from bodyposenet.runtime import detections
    from bodyposenet.runtime.image_work import ImageWork, image_items

    images = list_images(arguments.input_type, arguments.input, arguments.image_root_path)
    if arguments.input_type == "image":
        check_image(images.entries[0].path)
    executor = open_executor(arguments, results_dir)
    drawings = results_dir / "images_annotated"
    draws = _draws(arguments, images, drawings)
    if draws:
        make_directory(drawings)
    work = ImageWork(drawings if draws else None, arguments.batch)
    items = image_items(
        images.entries, arguments.image_format, numbered=arguments.viz_names == "index"
    )
    entries, end = _find(executor, work, items)
    if arguments.benchmark:
        say("\n".join(_times(executor.stopwatch, len(entries))))
    result = results_dir / detections.FILE_NAME
    former = detections.read_pictures(result)
    detections.write_detections(result, executor.skeleton, executor.spec, entries, images.fields)
    if end is None:
        _check_entries(entries)
    _report(entries, executor.spec, result, work.drawings, status)
    if end is not None:
        logger.warning("the results end after %d of %d images", len(entries), len(images.entries))
        raise end
    _clear_pictures(drawings, entries, former)
    if not draws and arguments.input_type != "image":
        logger.info("the people are not drawn: --dump_visualizations draws them")


def _draws(arguments: argparse.Namespace, images: ImageList, drawings: Path) -> bool:
    """Whether the people are drawn: where that is asked for, and of a single image.

    Raises:
        BodyPoseNetError: What is to be read would be drawn over.
    """
    reads_drawings = any(
        image.path.parent.resolve() == drawings.resolve() for image in images.entries
    )
    if not arguments.dump_visualizations:
        return arguments.input_type == "image" and not reads_drawings
    if reads_drawings:
        raise BodyPoseNetError(
            f"{drawings}: is where pictures of the results are drawn",
            "Choose another results folder (-r), or other images.",
        )
    return True


def _find(
    executor: Executor, work: ImageWork, items: Sequence[ImageItem]
) -> tuple[list[dict[str, Any]], KeyboardInterrupt | BodyPoseNetError | None]:
    """The entries of the images, and what ended it before the last one, if anything did."""
    entries: list[dict[str, Any]] = []
    with closing(executor.run(work, items)) as found:
        try:
            for entry in track(found, "inference", len(items)):
                entries.append(entry)
        except (KeyboardInterrupt, BodyPoseNetError) as end:
            if not entries:
                raise  # there is nothing to keep
            return entries, end
    return entries, None


def _check_entries(entries: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to report on nothing."""
    if all("error" in entry for entry in entries):
        problem = entries[0]["error"]
        if len(entries) > 1:
            problem = f"none of the {len(entries)} images could be worked on; the first: {problem}"
        raise BodyPoseNetError(problem, "The warnings above say what to do.")


def _clear_pictures(drawings: Path, entries: Sequence[Mapping[str, Any]], former: Set[str]) -> None:
    """Remove the pictures that the former detections.json listed and this one does not."""
    from bodyposenet.runtime.detections import pictures_of

    ours = pictures_of(entries)
    present = {file.name: file for file in drawings.glob("*")}
    stale = [present[name] for name in sorted(former - ours) if name in present]
    for file in stale:
        file.unlink(missing_ok=True)
    if stale:
        logger.info("%s: removed %d pictures of the former run", drawings, len(stale))
    if unknown := len(present) - len(stale) - len(ours & present.keys()):
        logger.info("%s: %d other files are left as they are", drawings, unknown)


def _times(stopwatch: Stopwatch, images: int) -> list[str]:
    """A table of the parts: their time per image, and as shares of the whole time.

    Other processes do not tell of parts.
    """
    whole = stopwatch.elapsed
    rows = [
        (meaning, 1000 * seconds / images, 100 * seconds / whole)
        for part, meaning in _PARTS.items()
        if (seconds := stopwatch.seconds.get(part, 0.0))
    ]
    return [
        f"{images / whole:.2f} images/s"
        + ("; parts beside the network overlap with it:" if rows else ""),
        *(f"  {meaning:<28}{ms:>9.2f} ms/image{share:>8.1f} %" for meaning, ms, share in rows),
    ]


def _report(
    entries: Sequence[Mapping[str, Any]], spec: InferenceSpec, result: Path,
    drawings: Path | None, status: StatusFile,
) -> None:  # fmt: skip
    """Say what was found."""
    failures = [entry["error"] for entry in entries if "error" in entry]
    done = len(entries) - len(failures)
    scores = [score for entry in entries for score in entry.get("scores", [])]
    threshold = spec.display_score_threshold
    sure = sum(score >= threshold for score in scores)
    found = f"images: {done}, people: {len(scores)} ({sure} scored {threshold:g} or more)"
    drawn = f", people from that score on drawn in {drawings}" if drawings else ""
    say(f"{found}; poses in {result}{drawn}")
    if failures:
        say(f"images that could not be worked on and were skipped: {len(failures)}")
        say("\n".join(f"  {failure}" for failure in failures))
    status.write("RUNNING", found, images=done, people=len(scores), skipped_images=len(failures))
