"""trtexec command lines that build a TensorRT engine.

They follow NVIDIA's documentation of trtexec 10 and 11, and have not been run.
"""

from __future__ import annotations

from bodyposenet.exporting.bundle.signature import ModelSignature
from bodyposenet.exporting.bundle.templates import render_template

_TENSORRT8_FLAGS = {
    "fp32": "omit it",
    "fp16": "use --fp16 instead",
    "int8-tensorrt": "use --int8 --fp16 instead",
}
"""Data type -> replacement of --stronglyTyped in TensorRT 8, which takes types only as hints."""


def unsupported_reason(signature: ModelSignature) -> str:
    """Return why TensorRT cannot read the model; empty if it can."""
    if signature.description.data_type == "int8-cpu":
        return (
            "TensorRT cannot read INT8 for the target cpu, whose zero points are not 0: export "
            "with --int8_target tensorrt"
        )
    if signature.decoding is not None and not signature.decoding["static_shapes"]:
        return (
            "the sizes of tensors inside the model depend on the image: export with "
            "--static_batch_size and --static_input_dims"
        )
    return ""


def write_script(signature: ModelSignature, engine: str, workspace: int) -> str:
    """Return the text of the script that calls trtexec.

    Args:
        signature: Signature of a model that TensorRT can read.
        engine: Name of the engine file.
        workspace: Bytes that TensorRT may use while it builds.
    """
    return render_template(
        "trtexec.sh",
        {
            "name": signature.name,
            "engine": engine,
            "data_type": signature.description.data_type,
            "instead": _TENSORRT8_FLAGS[signature.description.data_type],
            "shapes": "".join(f"    {flag} \\\n" for flag in _shape_flags(signature)),
            "workspace": workspace >> 20,
        },
    )


def _shape_flags(signature: ModelSignature) -> list[str]:
    """Return flags for the smallest, usual and largest input, if the model's is dynamic."""
    images = signature.images
    if signature.batch is not None and None not in images.declared:
        return []
    sizes = {
        "min": signature.batch or 1,
        "opt": signature.opt_batch_size,
        "max": signature.max_batch_size,
    }
    return [
        f"--{which}Shapes={images.name}:{'x'.join(map(str, (count, *images.sizes)))}"
        for which, count in sizes.items()
    ]
