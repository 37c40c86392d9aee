"""Activations of an exported model, on images or on drawn people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bodyposenet.demo import draw_scene
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.engines.base import ModelDescription
from bodyposenet.inference.engines.exported import Signature, normalize
from bodyposenet.inference.engines.onnx import open_session, read_tensors, session_header

_MODEL = "the exported model"

_SCENES = 8
_SHAPE = 256, 256
"""Number and size of the images of drawn people."""


def drawn_activations(content: bytes) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the float tensors of a model by name, on images of drawn people.

    They are the same in every run, and need no photos.

    Args:
        content: Content of a float32 ONNX file from `export_onnx`.
    """
    model = ActivationCollector(content)
    height, width = model.fixed_shape or _SHAPE
    for seed in range(_SCENES):
        scene = draw_scene(np.random.default_rng(seed), height, width)[0]
        yield from model.run(normalize(scene[None], model.description))


class ActivationCollector:
    """Runs a model and returns all of its float tensors.

    Args:
        content: Content of a float32 ONNX file from `export_onnx`.
    """

    def __init__(self, content: bytes) -> None:
        model = onnx.load_model_from_string(content)
        self._names = _float_tensors(model.graph)
        maps = {output.name for output in model.graph.output}
        model.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in self._names if name not in maps
        )
        self._session = open_session(_MODEL, content=model.SerializeToString(), device="cpu")
        inputs = read_tensors(self._session.get_inputs())
        outputs = read_tensors(self._session.get_outputs())
        self._signature = Signature.read(_MODEL, inputs, {name: outputs[name] for name in maps})
        (self._input,) = inputs
        header = session_header(self._session)
        assert header is not None  # `export_onnx` writes one
        self.description = ModelDescription.from_header(_MODEL, header)

    @property
    def fixed_shape(self) -> tuple[int, int] | None:
        """Height and width of the images in pixels, or None if they are dynamic."""
        return self._signature.fixed_shape

    def run(self, batch: NDArray[np.float32]) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Yield the tensors by name, from the first convolution's input on.

        Images run one by one, or in the model's static batch size, so that large batches need no
        more memory.

        Args:
            batch: (N, H, W, 3) float32, normalized RGB; converted to the input of the model.

        Raises:
            BodyPoseNetError: The model computes values that are not finite.
        """
        count = self._signature.batch or 1
        inputs = self._as_input(batch)
        for start in range(0, len(inputs), count):
            images = inputs[start : start + count]
            rest = np.repeat(images[-1:], count - len(images), axis=0)
            full = np.concatenate([images, rest])
            found: Any = self._session.run(self._names, {self._input: full})
            tensors = dict(zip(self._names, found, strict=True))
            if full.dtype == np.float32:
                tensors[self._input] = full
            _check_finite(tensors)
            yield {name: values[: len(images)] for name, values in tensors.items()}

    def _as_input(self, batch: NDArray[np.float32]) -> NDArray[Any]:
        """Convert normalized images to the model's layout, and to pixels if it normalizes them."""
        inputs: NDArray[Any] = batch
        if self._signature.normalizes_input:
            scale, offset = self.description.image_scale, self.description.image_offset
            pixels = (batch + np.array(offset, np.float32)) * np.array(scale, np.float32)
            inputs = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        if not self._signature.channels_last:
            inputs = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
        return inputs


def _check_finite(tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Refuse tensors with values that are not finite."""
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise BodyPoseNetError(
                f"Tensor {name} of the model has values that are not finite, which INT8 cannot "
                "represent",
                "Check the training for NaN losses, or export a model of an earlier epoch.",
            )


def _float_tensors(graph: onnx.GraphProto) -> list[str]:
    """Name the float tensors from the first convolution's input on."""
    kinds = {
        value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)
    }
    first = next(i for i, node in enumerate(graph.node) if node.op_type == "Conv")
    names = [graph.node[first].input[0], *(node.output[0] for node in graph.node[first:])]
    return [name for name in names if kinds.get(name) == onnx.TensorProto.FLOAT]
