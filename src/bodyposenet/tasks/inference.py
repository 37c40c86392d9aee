"""Find the people in images; write their poses (detections.json) and draw them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bodyposenet.console import StatusFile, logger, say, track
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import replacing
from bodyposenet.tasks.flags import add_model_arguments

if TYPE_CHECKING:
    from bodyposenet.media.source import ImageEntry
    from bodyposenet.runtime.predictor import Predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `inference` (guide; reference 1.5)."""
    add_model_arguments(parser)
    parser.add_argument(
        "--input_type", choices=("image", "dir", "json"), default="image",
        help="what --input is: an image, a folder of images, or a JSON that names images",
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


def run(arguments: argparse.Namespace) -> None:
    """Find and draw.

    Raises:
        BodyPoseNetError: A spec, the model or the input is wrong, or no image could be read.
    """
    from bodyposenet.media.source import list_images
    from bodyposenet.runtime import detections
    from bodyposenet.runtime.models import open_predictor

    results_dir = Path(arguments.results_dir or ".")
    with StatusFile(results_dir) as status:
        images = list_images(arguments.input_type, arguments.input, arguments.image_root_path)
        predictor = open_predictor(
            arguments.inference_spec, arguments.model_filename, arguments.key
        )
        drawings = results_dir / "images_annotated" if arguments.dump_visualizations else None
        entries = [
            _work_on(predictor, image, drawings, index)
            for index, image in enumerate(track(images.entries, "inference"))
        ]
        result = results_dir / detections.FILE_NAME
        detections.write_detections(
            result, predictor.engine.skeleton, predictor.spec, entries, images.fields
        )
        _report(entries, result, drawings, status)


def _work_on(
    predictor: Predictor, image: ImageEntry, drawings: Path | None, index: int
) -> dict[str, Any]:
    """The entry of one image in detections.json; its picture is written on the way."""
    import cv2

    from bodyposenet.media.draw import draw
    from bodyposenet.media.source import read_image
    from bodyposenet.runtime import detections

    try:
        pixels = read_image(image.path)
        poses = predictor(pixels)
    except BodyPoseNetError as error:
        logger.warning("skipped: %s", error)
        return detections.describe_image(image.path, error.what, image.fields)
    entry = detections.describe_image(image.path, poses, image.fields)
    if drawings is None:
        return entry
    encoded = cv2.imencode(".png", cv2.cvtColor(draw(pixels, poses), cv2.COLOR_RGB2BGR))[1]
    with replacing(drawings / f"{index}.png") as file:
        file.write(encoded.tobytes())
    return entry | {"viz_id": index}


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
