"""Models for a web page: ONNX files with decoding inside, and their description for the scripts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.engines.base import ModelDescription
from bodyposenet.inference.engines.exported import (
    PAF_SCORES,
    PEAKS,
    InputSignature,
    Signature,
    read_input_signature,
)
from bodyposenet.inference.engines.onnx import open_session, read_tensors, session_header


@dataclass(frozen=True)
class WebModel:
    """A model with decoding inside.

    Args:
        content: Content of the ONNX file.
        description: Description of the network.
        decoding: Entry `decoding` of the header, see `exporting.decoding_graph`.
        images: Signature of the input.
    """

    content: bytes
    description: ModelDescription
    decoding: dict[str, Any]
    images: InputSignature

    @classmethod
    def read(cls, path: Path, content: bytes) -> WebModel:
        """Read an exported model, and append the decoding if it is missing.

        Args:
            path: Path of the file, for errors.
            content: Content of the ONNX file.

        Raises:
            BodyPoseNetError: It is not a model of `bpnet export`, or requires larger batches.
        """
        session = open_session(path, content=content, device="cpu")
        inputs, outputs = map(read_tensors, (session.get_inputs(), session.get_outputs()))
        if session_header(session) is None:
            raise BodyPoseNetError(
                f"{path}: the file does not contain its joints and its normalization",
                "Use a file written by `bpnet export`.",
            )
        if not {PEAKS, PAF_SCORES} <= outputs.keys():
            # Needs the package onnx, which a model with decoding does not.
            from bodyposenet.exporting.decoding_graph import append_decoding

            Signature.read(path, inputs, outputs)  # raises an error for other networks
            content = append_decoding(content)
            session = open_session(path, content=content, device="cpu")
        images = read_input_signature(inputs)
        if images.batch not in (None, 1):
            raise BodyPoseNetError(
                f"{path}: the model requires batches of {images.batch} images, but the page "
                "processes one image at a time",
                "Export the model again, without --static_batch_size or with a size of 1.",
            )
        header = session_header(session) or "{}"
        description = ModelDescription.from_header(path, header)
        return cls(content, description, json.loads(header)["decoding"], images)
