"""What must be known of a model to run it: from the header of its file, or from a train spec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.header import ExportedHeader
from bodyposenet.specs.network import STRIDE
from bodyposenet.specs.training import TrainSpec
from bodyposenet.types import HEATMAP_SIGMA

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
        """Read the header of a model file (see `model.checkpoint.describe`).

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
            header.joints(),
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
