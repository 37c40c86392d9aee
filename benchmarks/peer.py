"""Engine for human-pose-estimation-0001 of the Open Model Zoo (Apache-2.0), for comparisons.

The network has the joints and limbs of bpnet_18joints, and runs in INT8 on OpenVINO.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet import BodyPoseNetError, Maps
from bodyposenet.inference.engines.base import crop
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton
from bodyposenet.telemetry import without_telemetry


class Peer:
    """The network as published: RGB images of any size, maps with a stride of 8 pixels.

    Args:
        path: OpenVINO's .xml, with the .bin in the same folder.
        threads: Maximum number of threads; 0 lets OpenVINO choose.

    Raises:
        BodyPoseNetError: The file is missing.
    """

    stride = 8
    stages = 1
    fixed_shape: tuple[int, int] | None = None

    def __init__(self, path: Path, threads: int = 0) -> None:
        with without_telemetry():
            import openvino  # here, so that --help works without OpenVINO

        if not path.is_file():
            raise BodyPoseNetError(
                f"File not found: {path}",
                "Download .xml and .bin of human-pose-estimation-0001 (Open Model Zoo), and give "
                "the path of the .xml.",
            )
        self.skeleton = load_skeleton(DEFAULT_POSE_CONFIGURATION)
        model = openvino.Core().read_model(path)
        model.reshape([-1, 3, -1, -1])
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(model, "CPU", options)
        self._request = compiled.create_infer_request()

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network on (N, H, W, 3) uint8 RGB images; H and W are multiples of 8."""
        height, width = images.shape[1:3]
        blue_first = np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2))
        found = self._request.infer([blue_first.astype(np.float32)])
        heatmaps, pafs = found["Mconv7_stage2_L2"], found["Mconv7_stage2_L1"]
        return crop(heatmaps, pafs, height, width, self.stride)
