"""A trained peer's maps, decoded by both decoders: what ours is worth on what a network says.

python -m benchmarks.peers --images DIR --annotations A.json [--peer FILE] [--limit N] [--quick]
    [--json FILE]

The peer is human-pose-estimation-0001 of the Open Model Zoo (Apache-2.0), a network of the same
kind with the same joints and limbs. It runs through our predictor, at 368 with
adjust_network_input, on one core. Without photos or the peer's file nothing is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from bodyposenet.console import track
from bodyposenet.data.coco import load_coco
from bodyposenet.decoding import DecodingOptions, decode, warm_up
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.geometry import Affine
from bodyposenet.media.source import read_image
from bodyposenet.runtime.engines.protocol import crop
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton
from bodyposenet.types import Maps, Poses

from . import harness

_PEER = Path("../shared/peers/hpe0001/hpe0001_int8.xml")
_QUICK_IMAGES = 40

_TO_ITS_JOINTS = Affine.translation(0, 1.15)
"""What its keypoints lie too high, in pixels of the image."""

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


class Peer:
    """The peer's network behind `Engine`.

    Args:
        path: Its model, as OpenVINO's IR.
    """

    stride = 8
    stages = 1
    fixed_shape: tuple[int, int] | None = None

    def __init__(self, path: Path) -> None:
        self.skeleton = load_skeleton(DEFAULT_POSE_CONFIGURATION)
        model = openvino.Core().read_model(path)
        model.reshape([1, 3, -1, -1])
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        compiled = openvino.Core().compile_model(model, "CPU", options)
        self._request = compiled.create_infer_request()

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network on images of whole cells, one by one."""
        maps = []
        for image in images:
            blue_first = np.ascontiguousarray(image[None, :, :, ::-1].transpose(0, 3, 1, 2))
            found = self._request.infer([blue_first.astype(np.float32)])
            heatmaps, pafs = found["Mconv7_stage2_L2"], found["Mconv7_stage2_L1"]
            maps += crop(heatmaps, pafs, len(image), image.shape[1], self.stride)
        return maps


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Run the peer on all images, plain and with the flip test, and decode its maps in all ways."""
    if arguments.images is None or arguments.annotations is None or not arguments.peer.exists():
        print("nothing to measure: give --images, --annotations and a --peer that exists")
        return {}
    images = load_coco(arguments.annotations, COCO_JOINTS)
    images = images[: _QUICK_IMAGES if arguments.quick else arguments.limit]
    peer = Peer(arguments.peer)
    results: dict[str, list[dict[str, Any]]] = {way: [] for way in _WAYS}
    seconds: dict[str, list[float]] = {part: [] for part in ("peer", "peer_flip", *_WAYS)}
    warm_up()
    for image in track(images, "peers"):
        pixels = read_image(arguments.images / image.file_name)
        for way, poses in _find_poses(peer, pixels, seconds).items():
            results[way] += poses.moved(_TO_ITS_JOINTS).to_coco(image.image_id, COCO_JOINTS)
    figures: dict[str, float] = {}
    for way, found in results.items():
        outcome = evaluate_poses(found, images, COCO_JOINTS, peer.skeleton)
        for name, place in _SHOWN.items():
            figures[f"same_maps_{way}_{name}"] = outcome.values[place]
    return figures | {f"{part}_ms": 1000 * median(taken) for part, taken in seconds.items()}


def _find_poses(
    peer: Peer, pixels: NDArray[np.uint8], seconds: dict[str, list[float]]
) -> dict[str, Poses]:
    """The poses of one image in every way; the same maps serve all that differ in decoding only."""
    found: dict[bool, tuple[Maps, Affine]] = {}
    for flip_test, part in ((False, "peer"), (True, "peer_flip")):
        predictor = Predictor(peer, InferenceSpec(flip_test=flip_test))
        start = perf_counter()
        found[flip_test] = predictor.maps(pixels)
        seconds[part].append(perf_counter() - start)
    poses = {}
    for way, keys in _WAYS.items():
        spec = InferenceSpec(**keys)
        maps, to_network = found[spec.flip_test]
        start = perf_counter()
        decoded = decode(maps, peer.skeleton, DecodingOptions.from_spec(spec))
        seconds[way].append(perf_counter() - start)
        poses[way] = decoded.moved(to_network.inverse())
    return poses


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("peers", __doc__)
    flags.add_argument("--images", type=Path, help="folder of the photos")
    flags.add_argument("--annotations", type=Path, help="their COCO keypoint JSON")
    flags.add_argument("--peer", type=Path, default=_PEER, help="its model, OpenVINO's .xml")
    flags.add_argument("--limit", type=int, help="only the first so many images")
    return flags


if __name__ == "__main__":
    harness.run("peers", _flags(), measure)
