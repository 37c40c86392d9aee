"""Our model and a peer's on the same photos, machine and threads, each decoded in all our ways.

python -m benchmarks.peers --images DIR --annotations A.json [--model FILE] [--peer FILE]
    [--engine NAME] [--input_size N] [--limit N] [--threads N] [--quick] [--json FILE]

The peer is human-pose-estimation-0001 of the Open Model Zoo (Apache-2.0), a network of the same
kind with the same joints, in INT8 on OpenVINO. Both run through our predictor, with the short side
at --input_size (adjust_network_input), image by image in turn; joints are compared as they are.
Ours is the default model where no --model is given. Without photos or the peer's file nothing is
measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import progress
from bodyposenet.data.coco import CocoImage, load_coco
from bodyposenet.decoding import DecodingOptions, decode, warm_up
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.geometry import Affine
from bodyposenet.inference.engines.base import ENGINES, Engine
from bodyposenet.inference.models import open_engine
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import read_image
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import Maps

from . import harness
from .peer import Peer

PEER = Path("../shared/peers/hpe0001/hpe0001_int8.xml")
_QUICK_IMAGES = 40

_WAYS: dict[str, dict[str, Any]] = {
    "tao": {"mode": "tao"},
    "accurate": {},
    "complete_pose": {"complete_pose": True},
    "flip": {"flip_test": True},
    "flip_complete": {"flip_test": True, "complete_pose": True},
}
"""Keys of the inference spec."""

_SHOWN = {"ap": 0, "ap50": 1, "ap_medium": 3, "ap_large": 4}
"""Figure -> its place among the ten of an evaluation."""


class Contestant:
    """A network, and what it finds in every way.

    Args:
        engine: The network.
        input_size: Least height and width of its input; the longer side follows the image.
    """

    def __init__(self, engine: Engine, input_size: int) -> None:
        self.skeleton = engine.skeleton
        self._predictors = {
            flip_test: Predictor(
                engine,
                InferenceSpec(
                    input_shape=(input_size, input_size),
                    keep_aspect_ratio_mode="adjust_network_input",
                    flip_test=flip_test,
                ),
            )
            for flip_test in (False, True)
        }
        self._results: dict[str, list[dict[str, Any]]] = {way: [] for way in _WAYS}
        self._seconds: dict[str, list[float]] = {
            part: [] for part in ("network", "network_flip", *(f"decode_{way}" for way in _WAYS))
        }

    def run(self, image: CocoImage, pixels: NDArray[np.uint8]) -> None:
        """Find the people of one image in every way; maps serve all that differ in decoding."""
        found: dict[bool, tuple[Maps, Affine]] = {}
        for flip_test, predictor in self._predictors.items():
            start = perf_counter()
            found[flip_test] = predictor.maps(pixels)
            part = "network_flip" if flip_test else "network"
            self._seconds[part].append(perf_counter() - start)
        for way, keys in _WAYS.items():
            spec = InferenceSpec(**keys)
            maps, to_network = found[spec.flip_test]
            start = perf_counter()
            decoded = decode(maps, self.skeleton, DecodingOptions.from_spec(spec))
            self._seconds[f"decode_{way}"].append(perf_counter() - start)
            poses = decoded.transform(to_network.inverse())
            self._results[way] += poses.to_coco(image.image_id, COCO_JOINTS)

    def accuracy(self, way: str, images: list[CocoImage]) -> dict[str, float]:
        """AP in one way, by figure."""
        outcome = evaluate_poses(self._results[way], images, COCO_JOINTS, self.skeleton)
        return {figure: outcome.values[place] for figure, place in _SHOWN.items()}

    def milliseconds(self) -> dict[str, float]:
        """Medians: of each part, and `ms` of network and decoding in one pass."""
        parts = {f"{part}_ms": 1000 * median(taken) for part, taken in self._seconds.items()}
        return parts | {"ms": parts["network_ms"] + parts["decode_accurate_ms"]}


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Run both on all images, plain and with the flip test, and decode their maps in all ways."""
    if arguments.images is None or arguments.annotations is None or not arguments.peer.exists():
        print("nothing to measure: give --images, --annotations and a --peer that exists")
        return {}
    images = load_coco(arguments.annotations, COCO_JOINTS)
    images = images[: _QUICK_IMAGES if arguments.quick else arguments.limit]
    engine = open_engine(
        InferenceSpec(), arguments.model, engine=arguments.engine, threads=arguments.threads
    )
    ours = Contestant(engine, arguments.input_size)
    peer = Contestant(Peer(arguments.peer, arguments.threads), arguments.input_size)
    read: list[float] = []
    warm_up("accurate")
    warm_up("tao")
    for image in progress(images, "peers"):
        start = perf_counter()
        pixels = read_image(arguments.images / image.file_name)
        read.append(perf_counter() - start)
        for contestant in (ours, peer):
            contestant.run(image, pixels)
    figures = {"read_ms": 1000 * median(read)}
    for name, contestant in (("ours", ours), ("peer", peer)):
        shown = contestant.accuracy("accurate", images) | contestant.milliseconds()
        figures |= {f"{name}_{figure}": value for figure, value in shown.items()}
    for name, contestant in (("ours", ours), ("same_maps", peer)):
        for way in _WAYS:
            shown = contestant.accuracy(way, images)
            figures |= {f"{name}_{way}_{figure}": value for figure, value in shown.items()}
    return figures


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("peers", __doc__)
    flags.add_argument("--images", type=Path, help="folder of the photos")
    flags.add_argument("--annotations", type=Path, help="their COCO keypoint JSON")
    flags.add_argument("--model", metavar="FILE", help="ours; the default model without it")
    flags.add_argument(
        "--engine", choices=ENGINES, default="openvino",
        help="runs ours; openvino by default, as for the peer",
    )  # fmt: skip
    flags.add_argument("--peer", type=Path, default=PEER, help="its model, OpenVINO's .xml")
    flags.add_argument(
        "--input_size", type=int, default=368, metavar="N",
        help="short side of the network input; 368 by default",
    )  # fmt: skip
    flags.add_argument("--limit", type=int, help="only the first so many images")
    flags.add_argument("--threads", type=int, default=1, help="of the networks; 1 by default")
    return flags


if __name__ == "__main__":
    harness.run("peers", _flags(), measure)
