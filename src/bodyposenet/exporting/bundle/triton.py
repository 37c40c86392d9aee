"""Configuration files of a Triton model repository, for ONNX Runtime and for TensorRT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bodyposenet.exporting.bundle.signature import DeviceTensor, ModelSignature
from bodyposenet.exporting.bundle.templates import render_template

Platform = Literal["onnxruntime_onnx", "tensorrt_plan"]

_TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}
_ANY = -1


def write_configuration(signature: ModelSignature, platform: Platform) -> str:
    """Return the text of a `config.pbtxt` (Triton's ModelConfig message).

    Triton batches requests up to `max_batch_size`, unless the model has a static batch size.

    Args:
        signature: Signature of the model.
        platform: Platform that runs it. A TensorRT plan has a single height and width.
    """
    scheduling = "dynamic_batching { }"
    if signature.batch is not None:
        scheduling = "# The model has a static batch size, so Triton does no batching."
    if signature.description.data_type == "int8-cpu":
        scheduling += (
            "\n# x86 processors without VNNI need an option that Triton cannot set: see README.md."
            "\ninstance_group [ { kind: KIND_CPU } ]"
        )

    def block(tensors: Sequence[DeviceTensor]) -> str:
        """Format a list of tensors."""
        return ",\n".join(_tensor(tensor, signature.batch, platform) for tensor in tensors)

    return render_template(
        "config.pbtxt",
        {
            "name": signature.name,
            "data_type": signature.description.data_type,
            "platform": platform,
            "max_batch_size": signature.max_batch_size if signature.batch is None else 0,
            "input": block([signature.images]),
            "outputs": block(signature.outputs),
            "scheduling": scheduling,
        },
    )


def _tensor(tensor: DeviceTensor, batch: int | None, platform: Platform) -> str:
    """Format a tensor; its dims include the batch only if the batch size is static."""
    sides = tensor.sizes
    if platform == "onnxruntime_onnx":
        sides = [_ANY if side is None else side for side in tensor.declared]
    dims = [*([] if batch is None else [batch]), *sides]
    return "\n".join(
        [
            "  {",
            f'    name: "{tensor.name}"',
            f"    data_type: {_TYPES[tensor.dtype]}",
            f"    dims: [ {', '.join(map(str, dims))} ]",
            "  }",
        ]
    )
