"""A float32 ONNX file and normalized images in, all tensors that it computes of them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.description import ModelDescription
from bodyposenet.runtime.engines.exported import Signature
from bodyposenet.runtime.engines.onnx import header_of, open_session, read_tensors

_MODEL = "the exported model"


class WatchedModel:
    """A model whose tensors are all outputs.

    Args:
        content: A float32 ONNX file from `export_onnx`, of any form.
    """

    def __init__(self, content: bytes) -> None:
        model = onnx.load_model_from_string(content)
        self._names = _float_tensors(model.graph)
        known = {output.name for output in model.graph.output}
        model.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in self._names if name not in known
        )
        self._session = open_session(_MODEL, content=model.SerializeToString(), on_cpu=True)
        inputs = read_tensors(self._session.get_inputs())
        outputs = read_tensors(self._session.get_outputs())
        self._signature = Signature.read(_MODEL, inputs, {name: outputs[name] for name in known})
        (self._input,) = inputs
        header = header_of(self._session)
        assert header is not None  # `export_onnx` writes one
        self.description = ModelDescription.from_header(_MODEL, header)

    @property
    def fixed_shape(self) -> tuple[int, int] | None:
        """The only height and width of images that it takes; None: it takes any."""
        return self._signature.fixed_shape

    def run(self, batch: NDArray[np.float32]) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Every image's tensors by name, from the first convolution's input on.

        Of the images that a model takes at once, and one by one where it takes any number: so
        large batches need no more memory.

        Args:
            batch: (N, H, W, 3) float32, normalized RGB, whatever the model takes.

        Raises:
            BodyPoseNetError: It computes values that are not finite.
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
        """Normalized images to what the model takes: its layout, and pixels again."""
        inputs: NDArray[Any] = batch
        if self._signature.bakes_normalization:
            scale, offset = self.description.image_scale, self.description.image_offset
            pixels = (batch + np.array(offset, np.float32)) * np.array(scale, np.float32)
            inputs = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        if not self._signature.channels_last:
            inputs = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
        return inputs


def _check_finite(tensors: Mapping[str, NDArray[np.float32]]) -> None:
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise BodyPoseNetError(
                f"the model's tensor {name} has values that are not finite: INT8 cannot cover them",
                "Look for NaN in the training, or export a model of an earlier epoch.",
            )


def _float_tensors(graph: onnx.GraphProto) -> list[str]:
    """What the nodes from the first convolution on compute, and its input where a node does."""
    kinds = {
        value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)
    }
    first = next(i for i, node in enumerate(graph.node) if node.op_type == "Conv")
    names = [graph.node[first].input[0], *(node.output[0] for node in graph.node[first:])]
    return [name for name in names if kinds.get(name) == onnx.TensorProto.FLOAT]
