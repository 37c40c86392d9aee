"""Images and their maps in, one picture for TensorBoard out: what was asked and what was said."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bodyposenet.decoding import DecodingOptions, decode
from bodyposenet.media.draw import draw
from bodyposenet.model.loss import Targets
from bodyposenet.model.network import BodyPoseNetwork, StageMaps
from bodyposenet.types import Maps

_MOST_ROWS = 4


def draw_predictions(
    images: NDArray[np.uint8], targets: Targets, maps: StageMaps, network: BodyPoseNetwork
) -> NDArray[np.uint8]:
    """One row per sample: skeletons; target and predicted joints; target and predicted limbs.

    Args:
        images: (B, H, W, 3) uint8 RGB, the inputs.
        targets: What the network should say.
        maps: What it says.
        network: Its skeleton, stride and sigma.

    Returns:
        (rows x H, 5 x W, 3) uint8 RGB.
    """
    rows = []
    for row, image in enumerate(images[:_MOST_ROWS]):
        said = Maps(
            _array(maps.heatmaps[-1][row]), _array(maps.pafs[-1][row]),
            network.stride, network.heatmap_sigma,
        )  # fmt: skip
        poses = decode(said, network.skeleton, DecodingOptions())
        panels = [
            draw(image, poses, score_threshold=0),
            _overlay(image, _joint_strength(_array(targets.heatmaps[row]))),
            _overlay(image, _joint_strength(said.heatmaps)),
            _overlay(image, _limb_strength(_array(targets.pafs[row]))),
            _overlay(image, _limb_strength(said.pafs)),
        ]
        rows.append(np.concatenate(panels, axis=1))
    return np.concatenate(rows, axis=0)


def _array(maps: Tensor) -> NDArray[np.float32]:
    return maps.float().cpu().numpy()


def _joint_strength(heatmaps: NDArray[np.float32]) -> NDArray[np.float32]:
    return heatmaps[:-1].max(axis=0)


def _limb_strength(pafs: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.hypot(pafs[0::2], pafs[1::2]).max(axis=0)


def _overlay(image: NDArray[np.uint8], strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image, darkened, with a map of 0..1 glowing over it."""
    height, width = image.shape[:2]
    glow = cv2.resize((strength.clip(0, 1) * 255).astype(np.uint8), (width, height))
    color = cv2.cvtColor(cv2.applyColorMap(glow, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(image, 0.4, color, 0.8, 0)  # type: ignore[return-value]
