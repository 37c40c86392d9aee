"""AP and time of the default model and of human-pose-estimation-0001, in the same run.

python -m benchmarks.peers --images DIR --annotations A.json [--model FILE] [--peer FILE]
    [--engine NAME] [--input_size N] [--limit N] [--threads N] [--quick] [--json FILE]

human-pose-estimation-0001 of the Open Model Zoo (Apache-2.0), the peer, is a network of the same
kind with the same joints, in INT8 on OpenVINO. Both networks run in the same predictor, with the
short side at --input_size (adjust_network_input), alternately on each image; the joints are not
shifted.
Without --model, the default model is measured. Without photos or the peer's file nothing is
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

from bodyposenet import Affine, Maps, decode
from bodyposenet.console import progress
from bodyposenet.data.coco import CocoImage, load_coco
from bodyposenet.decoding import DecodingOptions, warm_up
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.inference.engines.base import ENGINES, Engine
from bodyposenet.inference.models import open_engine
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import read_image
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.inference import InferenceSpec

from . import harness
from .peer import Peer

PEER = Path("data/hpe0001/hpe0001_int8.xml")
"""Default of --peer, as in examples/default_model."""

_QUICK_IMAGES = 40

_VARIANTS: dict[str, dict[str, Any]] = {
    "tao": {"mode": "tao"},
    "accurate": {},
    "complete_pose": {"complete_pose": True},
    "flip": {"flip_test": True},
    "flip_complete": {"flip_test": True, "complete_pose": True},
}
"""Keys of the inference spec."""

_SHOWN = {"ap": 0, "ap50": 1, "ap_medium": 3, "ap_large": 4}
"""Figure -> index in the ten values of an evaluation."""


class Candidate:
    """A network, with its results and times for every variant of decoding.

    Args:
        engine: The network.
        input_size: Length of the short side of the input; the long side follows the image.
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
        self._results: dict[str, list[dict[str, Any]]] = {variant: [] for variant in _VARIANTS}
        self._seconds: dict[str, list[float]] = {
            part: []
            for part in ("network", "network_flip", *(f"decode_{variant}" for variant in _VARIANTS))
        }

    def run(self, image: CocoImage, pixels: NDArray[np.uint8]) -> None:
        """Detect the people of one image with every variant; decoding variants share the maps."""
        found: dict[bool, tuple[Maps, Affine]] = {}
        for flip_test, predictor in self._predictors.items():
            start = perf_counter()
            found[flip_test] = predictor.maps(pixels)
            part = "network_flip" if flip_test else "network"
            self._seconds[part].append(perf_counter() - start)
        for variant, keys in _VARIANTS.items():
            spec = InferenceSpec(**keys)
            maps, to_network = found[spec.flip_test]
            start = perf_counter()
            decoded = decode(maps, self.skeleton, DecodingOptions.from_spec(spec))
            self._seconds[f"decode_{variant}"].append(perf_counter() - start)
            poses = decoded.transform(to_network.inverse())
            self._results[variant] += poses.to_coco(image.image_id, COCO_JOINTS)

    def accuracy(self, variant: str, images: list[CocoImage]) -> dict[str, float]:
        """Return the AP figures of one variant."""
        outcome = evaluate_poses(self._results[variant], images, COCO_JOINTS, self.skeleton)
        return {figure: outcome.values[place] for figure, place in _SHOWN.items()}

    def milliseconds(self) -> dict[str, float]:
        """Return the median time of each part, and of network and decoding together (`ms`)."""
        parts = {f"{part}_ms": 1000 * median(taken) for part, taken in self._seconds.items()}
        return parts | {"ms": parts["network_ms"] + parts["decode_accurate_ms"]}


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Run both networks on all images with and without the flip test; decode with all variants."""
    if arguments.images is None or arguments.annotations is None or not arguments.peer.exists():
        print("Nothing to measure: give --images, --annotations and an existing --peer.")
        return {}
    images = load_coco(arguments.annotations, COCO_JOINTS)
    images = images[: _QUICK_IMAGES if arguments.quick else arguments.limit]
    engine = open_engine(
        InferenceSpec(), arguments.model, engine=arguments.engine, threads=arguments.threads
    )
    own = Candidate(engine, arguments.input_size)
    peer = Candidate(Peer(arguments.peer, arguments.threads), arguments.input_size)
    read: list[float] = []
    warm_up("accurate")
    warm_up("tao")
    for image in progress(images, "peers"):
        start = perf_counter()
        pixels = read_image(arguments.images / image.file_name)
        read.append(perf_counter() - start)
        for candidate in (own, peer):
            candidate.run(image, pixels)
    figures = {"read_ms": 1000 * median(read)}
    for name, candidate in (("ours", own), ("peer", peer)):
        shown = candidate.accuracy("accurate", images) | candidate.milliseconds()
        figures |= {f"{name}_{figure}": value for figure, value in shown.items()}
    for name, candidate in (("ours", own), ("same_maps", peer)):
        for variant in _VARIANTS:
            shown = candidate.accuracy(variant, images)
            figures |= {f"{name}_{variant}_{figure}": value for figure, value in shown.items()}
    return figures


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("peers", __doc__)
    flags.add_argument("--images", type=Path, help="folder of the photos")
    flags.add_argument("--annotations", type=Path, help="COCO keypoint annotations of the photos")
    flags.add_argument("--model", metavar="FILE", help="model; default: the default model")
    flags.add_argument(
        "--engine", choices=ENGINES, default="openvino",
        help="engine of the model; default: openvino, as for the peer",
    )  # fmt: skip
    flags.add_argument(
        "--peer", type=Path, default=PEER, help="OpenVINO's .xml of human-pose-estimation-0001"
    )
    flags.add_argument(
        "--input_size", type=int, default=368, metavar="N",
        help="short side of the network input; default: 368",
    )  # fmt: skip
    flags.add_argument("--limit", type=int, help="only the first N images")
    flags.add_argument("--threads", type=int, default=1, help="threads; default: 1")
    return flags


if __name__ == "__main__":
    harness.run("peers", _flags(), measure)
