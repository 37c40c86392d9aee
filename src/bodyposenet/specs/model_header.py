"""Data models of the headers of model files (`.tlt`, `.state`, `.onnx`, `.etlt`).

Model files can come from untrusted sources, so the whole header is validated before it is used.
Unknown keys, such as those of later versions, are ignored at any depth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from bodyposenet.errors import BodyPoseNetError, first_problem
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.loading import Block, log_once
from bodyposenet.specs.network import STRIDE, ModelConfig
from bodyposenet.specs.number_types import Deviation, Divisor, NonNegativeInt, Offset, Stages
from bodyposenet.specs.pose import PoseConfiguration
from bodyposenet.specs.spec_file import Location, SpecFile
from bodyposenet.specs.training import TrainSpec
from bodyposenet.types import HEATMAP_SIGMA

Channels = Annotated[int, Field(ge=1, le=2**14)]
"""Output channels of a convolution; at most 4096 in networks that a spec can describe."""


class Header(Block):
    """Base class of headers and their parts."""

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def read(cls, path: str | Path, content: str | Mapping[str, Any]) -> Self:
        """Validate a header.

        Args:
            path: The model file, for messages.
            content: The header, as JSON text or as JSON values.

        Returns:
            The header.

        Raises:
            BodyPoseNetError: A value is missing or invalid.
        """
        try:
            # As JSON, for which strict validation accepts lists as tuples and 1 as 1.0.
            text = content if isinstance(content, str) else json.dumps(content)
            try:
                return cls.model_validate_json(text)
            except ValidationError as error:
                unknown = _unknown_keys(error)
                if not unknown:
                    raise
            keys = ", ".join(".".join(map(str, place)) for place in unknown)
            log_once(f"{path}: unknown keys ignored (of a later version?): {keys[:200]}")
            return cls.model_validate_json(json.dumps(_without(json.loads(text), unknown)))
        except ValueError as error:  # of pydantic, or of Python for integers of 4300 digits
            reason = first_problem(error) if isinstance(error, ValidationError) else error
            raise BodyPoseNetError(
                f"{path}: invalid or unsupported header: {reason}",
                "Update bodyposenet (pip install -U bodyposenet), or train or export the model "
                "again.",
            ) from error


def _unknown_keys(error: ValidationError) -> list[Location]:
    """Return the locations of unknown keys, in blocks that specs share."""
    problems = error.errors(include_url=False, include_input=False)
    return [problem["loc"] for problem in problems if problem["type"] == "extra_forbidden"]


def _without(content: Any, places: Sequence[Location]) -> Any:
    """Remove keys from JSON values in place, and return them."""
    for *outer, key in places:
        del reduce(getitem, outer, content)[key]
    return content


class PixelNormalization(Header):
    """Normalization of pixels: pixel / image_scale - image_offset."""

    image_scale: tuple[Divisor, Divisor, Divisor]
    """Divisors of red, green and blue (0 to 255)."""
    image_offset: tuple[Offset, Offset, Offset]
    """Subtracted after the division."""


class MapsHeader(Header):
    """Header with all data for decoding the maps of a model."""

    skeleton: PoseConfiguration
    """Joints and limbs of the maps."""
    normalization: PixelNormalization
    """Normalization of the network input."""
    stride: Annotated[int, Field(ge=1, le=64)] = STRIDE
    """Input pixels per cell of the maps."""
    heatmap_sigma: Deviation = HEATMAP_SIGMA
    """Standard deviation of a joint's Gaussian in network pixels."""
    spec: str = ""
    """Text of the train spec."""

    @model_validator(mode="after")
    def _take_sigma_of_spec(self) -> Self:
        """Take the sigma from the train spec, for files of older versions without the key."""
        if not self.has_sigma and self.spec:
            sigma = _read_sigma(self.spec)
            if sigma is not None:
                self.heatmap_sigma = sigma
        return self

    @property
    def has_sigma(self) -> bool:
        """Whether the file contains the sigma of its heatmaps; otherwise TAO's is assumed."""
        return "heatmap_sigma" in self.model_fields_set

    def to_skeleton(self) -> Skeleton:
        """Return the skeleton of the maps."""
        return Skeleton.from_pose_configuration(self.skeleton.model_dump())


_SIGMA = TypeAdapter(Deviation)


def _read_sigma(spec: str) -> float | None:
    """Return the heatmap sigma of a train spec, or None if its text is invalid."""
    try:
        content = TrainSpec.normalized_content(SpecFile(Path("train spec"), spec))
        labels = content.get("dataloader", {}).get("label_processor_config", {})
        return _SIGMA.validate_python(labels.get("heatmap_gaussian_sigma", HEATMAP_SIGMA))
    except (AttributeError, BodyPoseNetError, ValidationError):  # AttributeError: not a block
        return None


class _StagesOnly(Header):
    """The part of the network's configuration that every exported model has."""

    stages: Stages
    """Number of stages."""


class ExportedHeader(MapsHeader):
    """Header of an exported model of any architecture."""

    network: _StagesOnly
    """Configuration of the network."""
    data_type: Annotated[str, Field(max_length=64)] = "fp32"
    """Data type of weights and computation, see `exporting.DataType`."""


class NetworkHeader(MapsHeader):
    """Header with all data for rebuilding a network before its weights are loaded."""

    network: ModelConfig
    """Configuration of the network."""
    out_channels: Annotated[dict[str, Channels], Field(alias="widths")]
    """Output channels by name of the convolution, which pruning reduces."""
    stride: Annotated[int, Field(ge=STRIDE, le=STRIDE)] = STRIDE
    """Input pixels per cell of the maps."""
    epoch: NonNegativeInt
    """Number of finished epochs."""


class StateHeader(NetworkHeader):
    """Header of a training state, from which a training can resume."""

    samples: NonNegativeInt
    """Samples of the next epoch that all ranks together have processed."""
    invariants: dict[str, int | bool] = Field(default_factory=dict, alias="facts")
    """Properties of the training that must not change when it is resumed."""
    scaler: dict[str, int | float] | None = None
    """State of the gradient scaler; None without float16."""
