"""Interface of the engines, which run a network on uint8 images of one size."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.description import ModelDescription
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import HEATMAP_SIGMA, Maps


class Engine(Protocol):
    """A loaded model on some runtime and device.

    Args:
        skeleton: What its maps are of.
        stride: Pixels per cell of the maps.
        stages: How many the model has.
        fixed_shape: The only height and width that it takes; None: it takes any.
    """

    skeleton: Skeleton
    stride: int
    stages: int
    fixed_shape: tuple[int, int] | None

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network; any number of threads may call this at once.

        Args:
            images: (N, H, W, 3) uint8 RGB, of any height and width but for `fixed_shape`.
            stage: Counted from 1; None: the last.

        Returns:
            N maps of ceil(H / stride) x ceil(W / stride) cells.

        Raises:
            BodyPoseNetError: The model has no such stage, or takes no images of this size.
        """
        ...


class ModelEngine(Engine, Protocol):
    """The engine of a model file.

    Args:
        name: What runs it, as `--engine` takes it, and what that computes in where there is a
            choice: `onnx`, `openvino bf16`.
        description: What the model is.
    """

    name: str
    description: ModelDescription


def crop(
    heatmaps: NDArray[np.float32],
    pafs: NDArray[np.float32],
    height: int,
    width: int,
    stride: int,
    heatmap_sigma: float = HEATMAP_SIGMA,
) -> list[Maps]:
    """Cut a batch of maps to the cells that images of height x width reach into.

    Args:
        heatmaps: (N, K + 1, h, w).
        pafs: (N, 2 L, h, w).
        height: Of the images before they were padded.
        width: Of the images before they were padded.
        stride: Pixels per cell.
        heatmap_sigma: Standard deviation of a joint's Gaussian, in pixels.
    """
    rows, columns = -(-height // stride), -(-width // stride)
    return [
        Maps(
            np.ascontiguousarray(heatmap[:, :rows, :columns], dtype=np.float32),
            np.ascontiguousarray(paf[:, :rows, :columns], dtype=np.float32),
            stride,
            heatmap_sigma,
        )
        for heatmap, paf in zip(heatmaps, pafs, strict=True)
    ]


def stage_index(stage: int | None, stages: int) -> int:
    """Index, from 0, of a stage that is counted from 1; the last where it is None.

    Raises:
        BodyPoseNetError: The model has no such stage.
    """
    if stage is None:
        return stages - 1
    if not 1 <= stage <= stages:
        raise BodyPoseNetError(
            f"output_stage_to_use: there is no stage {stage}, the model has stages 1 to {stages}",
            "Write one of these in the inference spec, or null for the last.",
        )
    return stage - 1
