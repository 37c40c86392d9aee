"""A contract in, entries of a Triton model repository out: for ONNX Runtime and for TensorRT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bodyposenet.exporting.deployment.contract import Contract, DeviceTensor
from bodyposenet.exporting.deployment.templates import fill

Platform = Literal["onnxruntime_onnx", "tensorrt_plan"]

_TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}
_ANY = -1


def write_configuration(contract: Contract, platform: Platform) -> str:
    """The text of a `config.pbtxt` (Triton's ModelConfig message).

    A model that takes any number of images at once is batched by Triton, up to `max_batch_size`;
    one that is bound to a number takes tensors of just that many.

    Args:
        contract: Of the model.
        platform: What runs it. A TensorRT plan takes one height and width, whatever the file says.
    """
    scheduling = "dynamic_batching { }"
    if contract.batch is not None:
        scheduling = "# The model takes one number of images at once, so Triton batches nothing."
    if contract.description.data_type == "int8-cpu":
        scheduling += "\ninstance_group [ { kind: KIND_CPU } ]"

    def block(tensors: Sequence[DeviceTensor]) -> str:
        return ",\n".join(_tensor(tensor, contract.batch, platform) for tensor in tensors)

    return fill(
        "config.pbtxt",
        {
            "name": contract.name,
            "data_type": contract.description.data_type,
            "platform": platform,
            "max_batch_size": contract.max_batch_size if contract.batch is None else 0,
            "input": block([contract.images]),
            "outputs": block(contract.outputs),
            "scheduling": scheduling,
        },
    )


def _tensor(tensor: DeviceTensor, batch: int | None, platform: Platform) -> str:
    """One tensor; its dims hold the batch only where Triton makes none."""
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
