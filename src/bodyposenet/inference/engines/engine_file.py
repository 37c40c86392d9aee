"""Engine files: what a runtime has built of a model for one machine, and a header that says which.

TensorRT's plan, or OpenVINO's compiled model; in our container, closed with a key if one is given.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError, model_validator

from bodyposenet.encryption import read_container, write_container
from bodyposenet.errors import BodyPoseNetError, first_problem
from bodyposenet.inference.engines.base import PRECISIONS
from bodyposenet.specs.loading import Block

_KIND = "engine"

BUILD_HERE = "Build it on this machine: bpnet export -m MODEL.tlt --engine_file FILE.engine"


class EngineHeader(Block):
    """What an engine was built with, and for.

    Args:
        runtime: What runs it.
        version: Of the runtime; another version may not run it.
        device: The GPU's or the processor's name; another one may not run it.
        precision: What it computes in: OpenVINO forgets it, and must be told again.
        model: Header of the model, as in its ONNX file.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    runtime: Literal["openvino", "tensorrt"]
    version: str
    device: str
    precision: str
    model: dict[str, Any]

    @model_validator(mode="after")
    def _known_precision(self) -> EngineHeader:
        if self.runtime == "openvino" and self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}")
        return self

    @property
    def model_text(self) -> str:
        """The model's header as JSON."""
        return json.dumps(self.model)

    def check_machine(self, path: str | Path, version: str, device: str) -> None:
        """Refuse an engine that was built elsewhere.

        Args:
            path: The file, for errors.
            version: Of the runtime that is installed here.
            device: What it would run on here.

        Raises:
            BodyPoseNetError: One of them is another.
        """
        if (self.version, self.device) != (version, device):
            raise BodyPoseNetError(
                f"{path}: built by {self.runtime} {self.version} for {self.device}, but here is "
                f"{self.runtime} {version} on {device}",
                BUILD_HERE,
            )


def write_engine(path: str | Path, header: EngineHeader, body: bytes, key: str = "") -> None:
    """Write an engine file.

    Args:
        path: The file.
        header: Readable without the key.
        body: The plan, or the compiled model.
        key: Any text; empty: a plain file.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    write_container(path, {"kind": _KIND, **header.model_dump()}, body, key)


def read_engine(path: str | Path, key: str = "") -> tuple[EngineHeader, bytes]:
    """Read what `write_engine` wrote.

    Raises:
        BodyPoseNetError: The file cannot be opened (see `encryption`), holds something else, or
            comes from a version that builds other engines.
    """
    header, body = read_container(path, key)
    if header.get("kind") != _KIND:
        raise BodyPoseNetError(
            f"{path}: holds no engine, but {header.get('kind', 'something else')}",
            "Give an .engine file as `bpnet export --engine_file` wrote it.",
        )
    try:
        return EngineHeader.model_validate(header), body
    except ValidationError as error:
        raise BodyPoseNetError(
            f"{path}: this version cannot read its header: {first_problem(error)}",
            "Update bodyposenet (pip install -U bodyposenet), or build the engine again.",
        ) from error
