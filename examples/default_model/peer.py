"""human-pose-estimation-0001 of the Open Model Zoo (Apache-2.0), a peer's network, behind `Engine`.

It has our joints and the first 19 of our 22 limbs. As `distillation.teacher` of a train spec it
says what the network that learns should answer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.runtime.engines.protocol import crop
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton
from bodyposenet.types import Maps, Poses

PEER = Path("data/hpe0001/hpe0001_int8.xml")
"""Its network in INT8; the .bin lies beside it."""

OFFSET = 1.15
"""What its joints lie too high, in pixels of the image."""


class Peer:
    """The network as it is.

    Args:
        path: OpenVINO's .xml.
        threads: At most so many; 0: OpenVINO chooses.

    Raises:
        BodyPoseNetError: The file is missing.
    """

    stride = 8
    stages = 1
    fixed_shape: tuple[int, int] | None = None

    def __init__(self, path: Path, threads: int = 0) -> None:
        import openvino  # here, so that --help needs none

        if not path.is_file():
            raise BodyPoseNetError(
                f"{path}: no such file", "examples/default_model/README.md tells what it is."
            )
        self.skeleton = load_skeleton(DEFAULT_POSE_CONFIGURATION)
        model = openvino.Core().read_model(path)
        model.reshape([-1, 3, -1, -1])
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(model, "CPU", options)
        self._request = compiled.create_infer_request()

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network on images of whole cells."""
        blue_first = np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2))
        found = self._request.infer([blue_first.astype(np.float32)])
        heatmaps, pafs = found["Mconv7_stage2_L2"], found["Mconv7_stage2_L1"]
        return crop(heatmaps, pafs, *images.shape[1:3], self.stride)


def to_our_joints(poses: Poses) -> Poses:
    """The peer's poses where ours would be."""
    return poses.moved(Affine.translation(0, OFFSET))


class _Lowered(Peer):
    """Its maps moved down to where our joints are."""

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        return [
            Maps(_lower(maps.heatmaps), _lower(maps.pafs)) for maps in super().infer(images, stage)
        ]


def _lower(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, h, w) moved down by `OFFSET` pixels; between two cells their values mix."""
    share = np.float32(OFFSET / Peer.stride)
    above = np.concatenate([maps[:, :1], maps[:, :-1]], axis=1)
    return (1 - share) * maps + share * above


def open_teacher() -> Peer:
    """Called by `train`; on its share of the cores."""
    import torch

    return _Lowered(PEER, torch.get_num_threads())
