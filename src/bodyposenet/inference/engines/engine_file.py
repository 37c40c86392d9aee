"""Engine files (`.engine`): a model compiled by TensorRT or OpenVINO for one machine.

The file is a container (see `encryption`), optionally encrypted with a key. Its header names the
runtime and the device; its body is TensorRT's plan or OpenVINO's compiled model.
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
    """Header of an engine file.

    Args:
        runtime: Runtime that built the engine and can run it.
        version: Version of the runtime. Other versions may be unable to run the engine.
        device: Name of the GPU or processor. Others may be unable to run the engine.
        precision: Precision of the computation. It is stored because OpenVINO's compiled model does
            not contain it.
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
        """Check that OpenVINO supports the precision."""
        if self.runtime == "openvino" and self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}")
        return self

    @property
    def model_text(self) -> str:
        """Header of the model as JSON."""
        return json.dumps(self.model)

    def check_machine(self, path: str | Path, version: str, device: str) -> None:
        """Check that the engine was built for this machine.

        Args:
            path: Path of the file, for error messages.
            version: Installed version of the runtime.
            device: Name of the device of this machine.

        Raises:
            BodyPoseNetError: The version or the device differs.
        """
        if (self.version, self.device) != (version, device):
            raise BodyPoseNetError(
                f"{path}: built by {self.runtime} {self.version} for {self.device}, but this "
                f"machine has {self.runtime} {version} on {device}",
                BUILD_HERE,
            )


def write_engine(path: str | Path, header: EngineHeader, body: bytes, key: str = "") -> None:
    """Write an engine file.

    Args:
        path: Path of the file.
        header: Header, which is not encrypted.
        body: TensorRT's plan or OpenVINO's compiled model.
        key: Encryption key, or empty for an unencrypted file.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    write_container(path, {"kind": _KIND, **header.model_dump()}, body, key)


def read_engine(path: str | Path, key: str = "") -> tuple[EngineHeader, bytes]:
    """Read an engine file.

    Args:
        path: Path of the file.
        key: Encryption key, or empty for an unencrypted file.

    Returns:
        The header and the body.

    Raises:
        BodyPoseNetError: The file cannot be opened (see `encryption`), is not an engine file, or
            was written by an incompatible version.
    """
    header, body = read_container(path, key)
    if header.get("kind") != _KIND:
        raise BodyPoseNetError(
            f"{path}: not an engine file; its content: {header.get('kind', 'unknown')}",
            "Use an .engine file written by `bpnet export --engine_file`.",
        )
    try:
        return EngineHeader.model_validate(header), body
    except ValidationError as error:
        raise BodyPoseNetError(
            f"{path}: this version cannot read its header: {first_problem(error)}",
            "Update bodyposenet (pip install -U bodyposenet), or build the engine again.",
        ) from error
