"""The headers of model files (`.tlt`, `.state`, `.onnx`, `.etlt`), which describe the model.

A file may come from anywhere, so its header is checked as a whole before anything is built of it.
Keys that this version does not have are ignored, at any depth: a later version may have more.
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
"""Output channels of a convolution; the widest network that a spec can describe has 4096."""


class Header(Block):
    """A header, or a part of one."""

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def read(cls, path: str | Path, content: str | Mapping[str, Any]) -> Self:
        """Check a header.

        Args:
            path: The file, for errors and the log.
            content: As JSON, or what JSON can hold.

        Raises:
            BodyPoseNetError: A value is missing or wrong.
        """
        try:
            # As JSON, so that strict checking takes a list for a tuple and 1 for 1.0.
            text = content if isinstance(content, str) else json.dumps(content)
            try:
                return cls.model_validate_json(text)
            except ValidationError as error:
                unknown = _unknown_keys(error)
                if not unknown:
                    raise
            keys = ", ".join(".".join(map(str, place)) for place in unknown)
            log_once(f"{path}: keys ignored, perhaps of a later version: {keys[:200]}")
            return cls.model_validate_json(json.dumps(_without(json.loads(text), unknown)))
        except ValueError as error:  # pydantic's too; Python's of an integer of 4300 digits
            reason = first_problem(error) if isinstance(error, ValidationError) else error
            raise BodyPoseNetError(
                f"{path}: this version cannot read its header: {reason}",
                "Update bodyposenet (pip install -U bodyposenet), or make the file again where it "
                "was trained or exported.",
            ) from error


def _unknown_keys(error: ValidationError) -> list[Location]:
    """The places of keys that this version does not have, in blocks that specs share."""
    problems = error.errors(include_url=False, include_input=False)
    return [problem["loc"] for problem in problems if problem["type"] == "extra_forbidden"]


def _without(content: Any, places: Sequence[Location]) -> Any:
    """The content of a JSON text, which is changed, without some of its keys."""
    for *outer, key in places:
        del reduce(getitem, outer, content)[key]
    return content


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
    spec: str = ""

    @model_validator(mode="after")
    def _take_sigma_of_spec(self) -> Self:
        """Files of older versions have the sigma in the text of their train spec only."""
        if not self.has_sigma and self.spec:
            sigma = _read_sigma(self.spec)
            if sigma is not None:
                self.heatmap_sigma = sigma
        return self

    @property
    def has_sigma(self) -> bool:
        """Whether the file tells the sigma of its heatmaps; otherwise TAO's is assumed."""
        return "heatmap_sigma" in self.model_fields_set

    def to_skeleton(self) -> Skeleton:
        """The joints and limbs of the maps."""
        return Skeleton.from_pose_configuration(self.skeleton.model_dump())


_SIGMA = TypeAdapter(Deviation)


def _read_sigma(spec: str) -> float | None:
    """The sigma of the heatmaps that a train spec describes; None if its text is unreadable."""
    try:
        content = TrainSpec.normalized_content(SpecFile(Path("train spec"), spec))
        labels = content.get("dataloader", {}).get("label_processor_config", {})
        return _SIGMA.validate_python(labels.get("heatmap_gaussian_sigma", HEATMAP_SIGMA))
    except (AttributeError, BodyPoseNetError, ValidationError):  # AttributeError: no block
        return None


class _StagesOnly(Header):
    stages: Stages


class ExportedHeader(MapsHeader):
    """What is needed to run an exported model, whatever its architecture is."""

    network: _StagesOnly
    data_type: Annotated[str, Field(max_length=64)] = "fp32"


class NetworkHeader(MapsHeader):
    """What is needed to build a network again, to be filled with the tensors of the file."""

    network: ModelConfig
    out_channels: Annotated[dict[str, Channels], Field(alias="widths")]
    stride: Annotated[int, Field(ge=STRIDE, le=STRIDE)] = STRIDE
    epoch: NonNegativeInt


class StateHeader(NetworkHeader):
    """What is needed to go on with a training."""

    samples: NonNegativeInt
    facts: dict[str, int | bool] = Field(default_factory=dict)
    scaler: dict[str, int | float] | None = None
