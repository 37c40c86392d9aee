"""The headers of model files, `.tlt`, `.state`, `.onnx`, `.etlt`: what they say of their model.

A file may come from anywhere, so its header is checked as a whole before anything is built of it.
Keys that are not needed for that are not checked: a later version may have more of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ValidationError

from bodyposenet.errors import BodyPoseNetError, first_problem
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.loading import Block
from bodyposenet.specs.network import STRIDE, ModelConfig
from bodyposenet.specs.numbers import Deviation, Divisor, Offset, Stages, Whole
from bodyposenet.specs.pose import PoseConfiguration
from bodyposenet.types import HEATMAP_SIGMA

Channels = Annotated[int, Field(ge=1, le=2**14)]
"""Output channels of a convolution; the widest network that a spec can describe has 4096."""


class Header(Block):
    """A header, or a part of one."""

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def read(cls, path: str | Path, content: str | Mapping[str, Any]) -> Self:
        """Check a header.

        Args:
            path: The file, for errors.
            content: As JSON, or what JSON can hold.

        Raises:
            BodyPoseNetError: A value is missing or wrong.
        """
        try:
            # As JSON, so that strict checking takes a list for a tuple and 1 for 1.0.
            text = content if isinstance(content, str) else json.dumps(content)
            return cls.model_validate_json(text)
        except ValueError as error:  # pydantic's too; Python's of an integer of 4300 digits
            reason = first_problem(error) if isinstance(error, ValidationError) else error
            raise BodyPoseNetError(
                f"{path}: this version cannot read its header: {reason}",
                "Update bodyposenet (pip install -U bodyposenet), or make the file again where it "
                "was trained or exported.",
            ) from error


class PixelNormalization(Header):
    """How pixels become the network's input: pixel / image_scale - image_offset."""

    image_scale: tuple[Divisor, Divisor, Divisor]
    image_offset: tuple[Offset, Offset, Offset]


class MapsHeader(Header):
    """What is needed to make poses of a model's maps."""

    skeleton: PoseConfiguration
    normalization: PixelNormalization
    stride: Annotated[int, Field(ge=1, le=64)] = STRIDE
    heatmap_sigma: Deviation = HEATMAP_SIGMA

    def joints(self) -> Skeleton:
        """The joints and limbs of the maps."""
        return Skeleton.from_pose_configuration(self.skeleton.model_dump())


class _StagesOnly(Header):
    stages: Stages


class ExportedHeader(MapsHeader):
    """What is needed to run an exported model, whatever its architecture is."""

    network: _StagesOnly
    data_type: Annotated[str, Field(max_length=64)] = "fp32"


class NetworkHeader(MapsHeader):
    """What is needed to build a network again, to be filled with the tensors of the file."""

    network: ModelConfig
    widths: dict[str, Channels]
    stride: Annotated[int, Field(ge=STRIDE, le=STRIDE)] = STRIDE
    epoch: Whole
    spec: str


class StateHeader(NetworkHeader):
    """What is needed to go on with a training."""

    samples: Whole
    facts: dict[str, int | bool] = Field(default_factory=dict)
    scaler: dict[str, int | float] | None = None
