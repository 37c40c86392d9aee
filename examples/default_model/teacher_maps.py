"""Compute a teacher's maps of whole photos, once, for `distillation.maps` of a train spec.

python -m examples.default_model.teacher_maps -e train.yaml -i teacher.yaml -m teacher.onnx -o maps

The inference spec sets the input shape, the scales and the flip test. After an interruption, the
same command resumes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bodyposenet.console import configure_logging, print_result
from bodyposenet.exit_codes import exit_code_of
from bodyposenet.inference.engines.base import ENGINES, PRECISIONS
from bodyposenet.inference.models import open_predictor
from bodyposenet.media.inputs import list_images
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.precompute_maps import Photo, compute_teacher_maps, training_photos


def main() -> None:
    """Compute the maps of a training's photos, or of a folder."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    photos_of = flags.add_mutually_exclusive_group(required=True)
    photos_of.add_argument("--images", metavar="DIR", help="folder of the photos")
    photos_of.add_argument(
        "-e",
        "--experiment_spec_file",
        metavar="FILE",
        help="train spec; its training photos are used",
    )
    flags.add_argument(
        "-i", "--inference_spec", metavar="FILE", help="input shape, scales and flip test"
    )
    flags.add_argument(
        "-m", "--model", metavar="FILE", help="the teacher; default: the default model"
    )
    flags.add_argument("-k", "--key", default="", help="key of an encrypted model")
    flags.add_argument(
        "--engine", default="auto", choices=ENGINES, help="runtime of the model; default: auto"
    )
    flags.add_argument("--precision", choices=PRECISIONS, help="precision of the model")
    flags.add_argument("--threads", type=int, metavar="N", help="maximum number of threads")
    flags.add_argument("-o", "--output_dir", type=Path, required=True, metavar="DIR")
    arguments = flags.parse_args()
    configure_logging("INFO")
    if arguments.images:
        photos = [Photo(entry.path) for entry in list_images("dir", arguments.images).entries]
    else:
        photos = training_photos(TrainSpec.load(arguments.experiment_spec_file))
    predictor = open_predictor(
        arguments.inference_spec, arguments.model, arguments.key, arguments.engine,
        arguments.threads, arguments.precision,
    )  # fmt: skip
    done = compute_teacher_maps(predictor, photos, arguments.output_dir)
    per_photo = 1000 * done.megabytes / max(done.computed + done.kept, 1)
    print_result(
        f"{arguments.output_dir}: maps of {done.computed + done.kept} photos ({done.computed} "
        f"computed now), {done.megabytes:.0f} MB, {per_photo:.0f} KB per photo; {done.failed} "
        "photos could not be read"
    )


if __name__ == "__main__":
    sys.exit(exit_code_of("teacher_maps.py", main))
