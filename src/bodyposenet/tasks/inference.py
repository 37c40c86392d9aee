"""Find the people in images or a video; write their poses (detections.json) and draw them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bodyposenet.console import StatusFile, logger, say, track
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import replacing
from bodyposenet.tasks.flags import add_model_arguments, load_predictor
from bodyposenet.tasks.video import add_video_arguments, run_video

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bodyposenet.media.source import ImageEntry
    from bodyposenet.runtime.pipeline import Pipeline
    from bodyposenet.runtime.predictor import Predictor
    from bodyposenet.runtime.stopwatch import Stopwatch
    from bodyposenet.types import Poses

_PARTS = {
    "network": "network",
    "waiting": "waiting for other parts",
    "read": "beside it: read",
    "resize": "beside it: resize",
    "decode": "beside it: decode",
    "finish": "beside it: draw and write",
}
"""Parts of the pipeline and how `--benchmark` calls them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `inference` (guide; reference 1.5)."""
    add_model_arguments(parser)
    parser.add_argument(
        "--input_type", choices=("image", "dir", "json", "video", "webcam", "auto"),
        default="image",
        help="what --input is: an image, a folder of images, a JSON that names images, a video, "
        "the number of a camera; or auto, to tell by what is there",
    )  # fmt: skip
    parser.add_argument("--input", required=True, metavar="PATH", help="the input")
    parser.add_argument(
        "--image_root_path", default="", metavar="DIR",
        help="folder that the paths of the image or of the JSON are relative to",
    )  # fmt: skip
    parser.add_argument(
        "--dump_visualizations", action="store_true",
        help="also draw the people: RESULTS_DIR/images_annotated",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N",
        help="images that the network gets at once, where they have one size; 1 by default",
    )  # fmt: skip
    parser.add_argument(
        "--benchmark", action="store_true", help="also tell images/s and the time of each part"
    )
    add_video_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Find and draw.

    Raises:
        BodyPoseNetError: A spec, the model or the input is wrong, or no image could be read.
    """
    if arguments.batch < 1:
        raise BodyPoseNetError(f"--batch {arguments.batch}: at least 1")
    results_dir = Path(arguments.results_dir or ".")
    with StatusFile(results_dir) as status:
        if arguments.input_type == "auto":
            from bodyposenet.media.kinds import tell_kind

            arguments.input_type = tell_kind(arguments.input, arguments.image_root_path)
        if arguments.input_type in ("video", "webcam"):
            run_video(arguments, load_predictor(arguments), results_dir, status)
        else:
            _run_on_images(arguments, results_dir, status)


def _run_on_images(arguments: argparse.Namespace, results_dir: Path, status: StatusFile) -> None:
    from bodyposenet.media.source import list_images
    from bodyposenet.runtime import detections

    images = list_images(arguments.input_type, arguments.input, arguments.image_root_path)
    predictor = load_predictor(arguments)
    drawings = results_dir / "images_annotated" if arguments.dump_visualizations else None
    pipeline = image_pipeline(predictor, drawings, arguments.batch)
    count = len(images.entries)
    entries = list(track(pipeline.run(enumerate(images.entries)), "inference", count))
    if arguments.benchmark:
        say("\n".join(_times(pipeline.stopwatch, count)))
    result = results_dir / detections.FILE_NAME
    skeleton, spec = predictor.engine.skeleton, predictor.spec
    detections.write_detections(result, skeleton, spec, entries, images.fields)
    _report(entries, result, drawings, status)


def image_pipeline(
    predictor: Predictor, drawings: Path | None = None, batch: int = 1
) -> Pipeline[tuple[int, ImageEntry], dict[str, Any]]:
    """The work on images: numbered ones in, their entries in detections.json out.

    Args:
        predictor: Finds the people.
        drawings: Folder that receives pictures, each named by its number; None: nothing is drawn.
        batch: Images that the network gets at once.
    """
    from bodyposenet.media.draw import draw
    from bodyposenet.media.source import read_image
    from bodyposenet.runtime import detections
    from bodyposenet.runtime.pipeline import Pipeline

    def read(numbered: tuple[int, ImageEntry]) -> NDArray[np.uint8]:
        return read_image(numbered[1].path)

    def finish(
        numbered: tuple[int, ImageEntry], pixels: NDArray[np.uint8], poses: Poses
    ) -> dict[str, Any]:
        index, image = numbered
        entry = detections.describe_image(image.path, poses, image.fields)
        if drawings is None:
            return entry
        threshold = predictor.spec.display_score_threshold
        _write_picture(drawings / f"{index}.png", draw(pixels, poses, score_threshold=threshold))
        return entry | {"viz_id": index}

    def skip(numbered: tuple[int, ImageEntry], error: BodyPoseNetError) -> dict[str, Any]:
        logger.warning("skipped: %s", error)
        return detections.describe_image(numbered[1].path, error.what, numbered[1].fields)

    return Pipeline(predictor, read, finish, skip, batch=batch)


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    import cv2

    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    with replacing(path) as file:
        file.write(encoded.tobytes())


def _times(stopwatch: Stopwatch, images: int) -> list[str]:
    """A table of the parts: their time per image, and as shares of the whole time."""
    whole = stopwatch.elapsed
    rows = [
        (meaning, 1000 * seconds / images, 100 * seconds / whole)
        for part, meaning in _PARTS.items()
        if (seconds := stopwatch.seconds.get(part, 0.0))
    ]
    return [
        f"{images / whole:.2f} images/s; parts beside the network overlap with it:",
        *(f"  {meaning:<28}{ms:>9.2f} ms/image{share:>8.1f} %" for meaning, ms, share in rows),
    ]


def _report(
    entries: list[dict[str, Any]], result: Path, drawings: Path | None, status: StatusFile
) -> None:
    """Say what was found; an error if nothing could be worked on."""
    failures = [entry["error"] for entry in entries if "error" in entry]
    done = len(entries) - len(failures)
    if not done:
        raise BodyPoseNetError(
            f"none of the images could be worked on ({len(failures)}); the first: {failures[0]}"
        )
    people = sum(len(entry["scores"]) for entry in entries if "error" not in entry)
    found = f"images: {done}, people: {people}"
    say(f"{found}; poses in {result}" + (f", drawn in {drawings}" if drawings else ""))
    if failures:
        say(f"images that could not be worked on and were skipped: {len(failures)}")
        say("\n".join(f"  {failure}" for failure in failures))
    status.write("RUNNING", found, images=done, people=people, skipped_images=len(failures))
