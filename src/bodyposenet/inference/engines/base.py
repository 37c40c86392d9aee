"""Interface of the inference engines, and the types that they share.

An `Engine` runs a network on uint8 images of one size and returns `Maps`. There is one module per
runtime (`pytorch`, `onnx`, `openvino`, `tensorrt`); `inference.models` chooses the runtime of a
model file.
"""

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

RUNTIMES = {
    ".tlt": ("pytorch",),
    ".hdf5": ("pytorch",),
    ".onnx": ("onnx", "openvino"),
    ".etlt": ("onnx", "openvino"),
    ".engine": ("openvino", "tensorrt"),
}
"""Runtimes by extension of the model file, the default one first.

Only the runtime that built an `.engine` file can run it; the header of the file names it.
"""

ENGINES = (
    "auto",
    *dict.fromkeys(runtime for runtimes in RUNTIMES.values() for runtime in runtimes),
)
"""Values of the option `engine`; `auto` is the default runtime of the file."""

PRECISIONS = ("fp32", "bf16")
"""Values of the option `precision`, the default one first."""


class Device(NamedTuple):
    """A processor that runs a network.

    Args:
        kind: `auto` (a GPU if the runtime can use one, else the CPU), `cpu`, `cuda` or `mps`.
        index: Index of the GPU, or None for the first one.
    """

    kind: str
    index: int | None = None

    @classmethod
    def parse(cls, name: object) -> Device:
        """Parse a name such as `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

        Args:
            name: The name, or an object whose `str()` is a name, such as a `torch.device`.

        Raises:
            BodyPoseNetError: The name is unknown.
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

    def unavailable_error(
        self, runtime: str, available: Sequence[str], reason: str = ""
    ) -> BodyPoseNetError:
        """Return the error that a runtime raises if it cannot use this device.

        Args:
            runtime: Display name of the runtime.
            available: Devices that the runtime can use.
            reason: The reason, if known.
        """
        return BodyPoseNetError(
            f"device {self}: {runtime} cannot use it" + (f": {reason}" if reason else ""),
            f"Available: {', '.join(available)}.",
        )


AUTO = Device("auto")

Triple = tuple[float, float, float]
"""One value each for red, green and blue."""


@dataclass(frozen=True)
class ModelDescription:
    """Description of a model: skeleton, normalization of the input, and properties of the maps.

    Args:
        skeleton: Joints and limbs of the maps.
        image_scale: Divisors of red, green and blue (0 to 255).
        image_offset: Values that are subtracted afterwards.
        stages: Number of stages; the last one has the best maps.
        stride: Pixels per cell of the maps.
        heatmap_sigma: Standard deviation of a joint's Gaussian in the heatmaps, in pixels.
        data_type: Data type of an exported file: `fp32`, `fp16`, `int8-cpu` or `int8-tensorrt`.
        has_stages: Whether `stages` is known. False for a train spec with `load_graph`, whose
            network comes from another file.
    """

    skeleton: Skeleton
    image_scale: Triple
    image_offset: Triple
    stages: int
    stride: int = STRIDE
    heatmap_sigma: float = HEATMAP_SIGMA
    data_type: str = "fp32"
    has_stages: bool = True

    @classmethod
    def from_header(
        cls, path: str | Path, text: str, expected: ModelDescription | None = None
    ) -> ModelDescription:
        """Read the header of a model file (see `model.checkpoint.model_header`).

        Args:
            path: Path of the file, for error messages.
            text: The header as JSON.
            expected: Description from a train spec, whose sigma is used if the header has none.

        Raises:
            BodyPoseNetError: The header is damaged or was written by an incompatible version.
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
        """Describe the network that a train spec trains.

        Raises:
            BodyPoseNetError: The pose configuration is missing or wrong.
        """
        pixels = spec.dataloader.normalization_params
        return cls(
            spec.skeleton, pixels.image_scale, pixels.image_offset, spec.model.stages,
            heatmap_sigma=spec.dataloader.label_processor_config.heatmap_gaussian_sigma,
            has_stages=not spec.load_graph,
        )  # fmt: skip

    def training_entries(self) -> dict[str, Any]:
        """Return the entries of a model header that TAO's own files do not contain."""
        pixels = {"image_scale": self.image_scale, "image_offset": self.image_offset}
        return {"normalization": pixels, "heatmap_sigma": self.heatmap_sigma}

    def differences(self, other: ModelDescription) -> list[str]:
        """Name the properties in which two models differ.

        Names of skeletons, OKS sigmas and data types are not compared.
        """
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
            for name, (value, other_value) in pairs.items()
            if value != other_value and (name != "stages" or (self.has_stages and other.has_stages))
        ]


class Engine(Protocol):
    """A loaded network on a runtime and a device.

    Attributes:
        skeleton: Joints and limbs of the maps.
        stride: Pixels per cell of the maps.
        stages: Number of stages of the network.
        fixed_shape: The only supported height and width of images, or None for any.
    """

    skeleton: Skeleton
    stride: int
    stages: int
    fixed_shape: tuple[int, int] | None

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network. Must support concurrent calls from any number of threads.

        Args:
            images: (N, H, W, 3) uint8 RGB images of any size, or of `fixed_shape`.
            stage: Stage of the maps, counted from 1, or None for the last.

        Returns:
            N maps of ceil(H / stride) x ceil(W / stride) cells.

        Raises:
            BodyPoseNetError: The network does not have this stage or does not support the size.
        """
        ...


class ModelEngine(Engine, Protocol):
    """An engine opened from a model file.

    Attributes:
        name: Name of the runtime as in the option `engine`, followed by the precision if it can be
            chosen: `onnx`, `openvino bf16`.
        description: Description of the model.
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
    """Split a batch of maps and crop them to the cells that the images cover.

    Args:
        heatmaps: (N, K + 1, h, w).
        pafs: (N, 2 L, h, w).
        height: Height of the images before they were padded, in pixels.
        width: Width of the images before they were padded, in pixels.
        stride: Pixels per cell.
        heatmap_sigma: Standard deviation of a joint's Gaussian, in pixels.

    Returns:
        N maps of ceil(height / stride) x ceil(width / stride) cells.
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
    """Convert a stage counted from 1 (None for the last) to an index.

    Raises:
        BodyPoseNetError: The network does not have this stage.
    """
    if stage is None:
        return stages - 1
    if not 1 <= stage <= stages:
        raise BodyPoseNetError(
            f"output_stage_to_use: there is no stage {stage}, the model has stages 1 to {stages}",
            "Write one of these in the inference spec, or null for the last.",
        )
    return stage - 1
