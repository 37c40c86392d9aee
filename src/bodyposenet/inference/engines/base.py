"""Interface of the engines, which run a network on uint8 images of one size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.model_header import ExportedHeader
from bodyposenet.specs.network import STRIDE
from bodyposenet.specs.training import TrainSpec
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


RUNTIMES = {
    ".tlt": ("pytorch",),
    ".hdf5": ("pytorch",),
    ".onnx": ("onnx", "openvino"),
    ".etlt": ("onnx", "openvino"),
    ".engine": ("openvino", "tensorrt"),
}
"""Extension of a model file -> the runtimes that run it, the usual one first.

An `.engine` file is run by the one that built it; its header says which.
"""

ENGINES = (
    "auto",
    *dict.fromkeys(runtime for runtimes in RUNTIMES.values() for runtime in runtimes),
)
"""What may be asked for; `auto` is the usual runtime of the file."""

PRECISIONS = ("fp32", "bf16")
"""What engines that can choose compute in; the first is the default."""


class Device(NamedTuple):
    """A processor to run a network on.

    Args:
        kind: `auto` (a GPU where the runtime can use one, else the CPU), `cpu`, `cuda` or `mps`.
        index: Which GPU, counted from 0; None: the first one.
    """

    kind: str
    index: int | None = None

    @classmethod
    def parse(cls, name: object) -> Device:
        """Read a name such as `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

        Args:
            name: The name, or an object whose text is one, such as a `torch.device`.

        Raises:
            BodyPoseNetError: It is not the name of a device.
        """
        match = re.fullmatch(r"(auto|cpu|cuda|mps)(?::(\d{1,3}))?", str(name))
        if match is None or (match[2] and match[1] == "auto"):
            number = str(name).isdecimal()
            raise BodyPoseNetError(
                f"Unknown device: {name!r}",
                f'Write "cuda:{name}".' if number else 'Write "auto", "cpu", "cuda" or "cuda:1".',
            )
        index = int(match[2]) if match[2] and match[1] == "cuda" else None
        return cls(match[1], index)

    def __str__(self) -> str:
        return self.kind if self.index is None else f"{self.kind}:{self.index}"

    def missing(self, runtime: str, available: Sequence[str], reason: str = "") -> BodyPoseNetError:
        """The error that a runtime raises which cannot use this device.

        Args:
            runtime: Its name, for people.
            available: Devices that it can use.
            reason: Why it cannot use this one, where that is known.
        """
        return BodyPoseNetError(
            f"device {self}: {runtime} cannot use it" + (f": {reason}" if reason else ""),
            f"Available: {', '.join(available)}.",
        )


AUTO = Device("auto")


Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ModelDescription:
    """A model without its weights.

    Args:
        skeleton: What its maps are of.
        image_scale: Divides red, green and blue (0 to 255).
        image_offset: Is taken off afterwards.
        stages: How many it has; the last one's maps are the best.
        stride: Pixels per cell of the maps.
        heatmap_sigma: Standard deviation of a joint's Gaussian in the heatmaps, in pixels.
        data_type: What an exported file computes in: `fp32`, `fp16`, `int8-cpu` or `int8-tensorrt`.
        knows_stages: False for a train spec with load_graph, whose network is another file's.
    """

    skeleton: Skeleton
    image_scale: Triple
    image_offset: Triple
    stages: int
    stride: int = STRIDE
    heatmap_sigma: float = HEATMAP_SIGMA
    data_type: str = "fp32"
    knows_stages: bool = True

    @classmethod
    def from_header(
        cls, path: str | Path, text: str, expected: ModelDescription | None = None
    ) -> ModelDescription:
        """Read the header of a model file (see `model.checkpoint.model_header`).

        Args:
            path: The file, for errors.
            text: Its header, as JSON.
            expected: From a train spec: its sigma counts for headers that have none.

        Raises:
            BodyPoseNetError: The header is broken, or not one of this version.
        """
        header = ExportedHeader.read(path, text)
        sigma = header.heatmap_sigma
        if expected is not None and not header.has_sigma:
            sigma = expected.heatmap_sigma
        return cls(
            header.to_skeleton(),
            header.normalization.image_scale,
            header.normalization.image_offset,
            header.network.stages,
            header.stride,
            sigma,
            header.data_type,
        )

    @classmethod
    def from_train_spec(cls, spec: TrainSpec) -> ModelDescription:
        """What a network trained with this spec is.

        Raises:
            BodyPoseNetError: The pose configuration is missing or wrong.
        """
        pixels = spec.dataloader.normalization_params
        return cls(
            spec.skeleton, pixels.image_scale, pixels.image_offset, spec.model.stages,
            heatmap_sigma=spec.dataloader.label_processor_config.heatmap_gaussian_sigma,
            knows_stages=not spec.load_graph,
        )  # fmt: skip

    def training(self) -> dict[str, Any]:
        """The header's entries on how a model was trained, for files that lack them."""
        pixels = {"image_scale": self.image_scale, "image_offset": self.image_offset}
        return {"normalization": pixels, "heatmap_sigma": self.heatmap_sigma}

    def differences(self, other: ModelDescription) -> list[str]:
        """In what two models differ; names, sigmas and data types do not count."""
        pairs = {
            "joints": (self.skeleton.joints, other.skeleton.joints),
            "limbs": (self.skeleton.limbs, other.skeleton.limbs),
            "image_scale": (self.image_scale, other.image_scale),
            "image_offset": (self.image_offset, other.image_offset),
            "heatmap_gaussian_sigma": (self.heatmap_sigma, other.heatmap_sigma),
            "stages": (self.stages, other.stages),
        }
        return [
            name
            for name, (ours, theirs) in pairs.items()
            if ours != theirs and (name != "stages" or (self.knows_stages and other.knows_stages))
        ]
