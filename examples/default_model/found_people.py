"""Photos in, the people that a peer's network finds in them out, for `dataset_convert`.

python -m examples.default_model.found_people --images data/coco-train-more/images -o data/more.json

The file goes to `dataset_convert --pseudo_labels`: it stands in for the people that the data leave
unlabelled.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bodyposenet.console import say, track
from bodyposenet.ending import exit_code_of
from bodyposenet.media.source import list_images, read_image
from bodyposenet.runtime.detections import describe_image, write_detections
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.specs.inference import InferenceSpec
from examples.default_model.peer import PEER, Peer, to_our_joints


def main() -> None:
    """Find the people of a folder."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--images", required=True, metavar="DIR", help="folder of the photos")
    flags.add_argument("--peer", type=Path, default=PEER, metavar="FILE", help="OpenVINO's .xml")
    flags.add_argument("-o", "--output_file", type=Path, required=True, metavar="FILE")
    arguments = flags.parse_args()
    spec = InferenceSpec(flip_test=True)
    predictor = Predictor(Peer(arguments.peer), spec)
    entries = list_images("dir", arguments.images).entries
    found = []
    for entry in track(entries, "finding people"):
        poses = to_our_joints(predictor(read_image(entry.path)))
        found.append(describe_image(entry.path, poses, entry.fields))
    write_detections(arguments.output_file, predictor.engine.skeleton, spec, found)
    say(f"written: {arguments.output_file}")


if __name__ == "__main__":
    sys.exit(exit_code_of("found_people.py", main))
