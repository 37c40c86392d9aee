"""README of a deployment bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bodyposenet.exporting.bundle.signature import DeviceTensor, ModelSignature
from bodyposenet.exporting.bundle.templates import fill, read_template

_MEANINGS = {
    "model.onnx": "the model",
    "signature.json": "what programs must know to run it: tensors, normalization, skeleton",
    "labels.txt": "the joints, one per line, in the order of the heatmaps",
    "run.py": "an example in Python, without torch",
    "calibration.cache": "TensorRT's calibration cache",
    "trtexec.sh": "builds and measures a TensorRT engine",
    "deepstream/nvinfer.txt": "Gst-nvinfer's configuration",
    "deepstream/postprocess.yml": "post-processing, for NVIDIA's bodypose2d application",
    "triton": "a model repository for Triton with ONNX Runtime",
    "triton_tensorrt": "one with TensorRT, complete when trtexec.sh has run",
}

_SECTIONS = {
    "trtexec.sh": "tensorrt.md",
    "deepstream/nvinfer.txt": "deepstream.md",
    "triton": "triton.md",
}
"""Part of a bundle -> template of the section on how it is used."""


def write_readme(
    signature: ModelSignature, files: Iterable[str], unsupported: Mapping[str, str]
) -> str:
    """Return the text of a bundle's README.

    Args:
        signature: Signature of the model.
        files: Files of the bundle, with their folders.
        unsupported: Program that cannot run the model -> reason.
    """
    parts = {file if file in _MEANINGS else file.partition("/")[0] for file in files}
    description, (height, width) = signature.description, signature.shape
    stride = description.stride
    return fill(
        "README.md",
        {
            "name": signature.name,
            "facts": "\n".join(
                f"| {fact} | {value} |" for fact, value in _facts(signature).items()
            ),
            "height": height,
            "width": width,
            "stride": stride,
            "middle": (stride - 1) / 2,
            "normalization": _normalization(signature),
            "repeats": _repeats(signature),
            "files": "\n".join(
                f"| `{part}` | {meaning} |" for part, meaning in _MEANINGS.items() if part in parts
            ),
            "unsupported": "".join(
                f"\nNo files for {part}: {reason}.\n" for part, reason in unsupported.items()
            ),
            "sections": "\n".join(
                read_template(name) for part, name in _SECTIONS.items() if part in parts
            ).rstrip(),
        },
    )


def _facts(signature: ModelSignature) -> dict[str, str]:
    skeleton, batch = signature.description.skeleton, signature.batch
    return {
        "data type": signature.description.data_type,
        "images at once": "any number" if batch is None else str(batch),
        "input": _written(signature.images, signature),
        "part affinity fields": _written(signature.pafs, signature),
        "heatmaps": f"{_written(signature.heatmaps, signature)}, the background last",
        "skeleton": f"{skeleton.name}, {len(skeleton.joints)} joints, {len(skeleton.limbs)} limbs",
    }


def _written(tensor: DeviceTensor, signature: ModelSignature) -> str:
    """Format a tensor."""
    batch = "N" if signature.batch is None else signature.batch
    sizes = " × ".join(map(str, (batch, *tensor.sizes)))
    free = " (any height and width)" if None in tensor.declared else ""
    return f"`{tensor.name}`, {tensor.dtype}, {sizes}{free}"


def _normalization(signature: ModelSignature) -> str:
    if signature.images.dtype == "uint8":
        return "Leave the pixels as they are, red, green, blue: the model normalizes them."
    description = signature.description
    scale, offset = map(_numbers, (description.image_scale, description.image_offset))
    return f"Red, green, blue as float32: pixel / {scale} − {offset}."


def _numbers(values: tuple[float, ...]) -> str:
    """One number where all are the same."""
    numbers = [f"{value:g}" for value in values]
    return numbers[0] if len(set(numbers)) == 1 else f"({', '.join(numbers)})"


def _repeats(signature: ModelSignature) -> str:
    ratio = signature.upsample_ratio
    if ratio == 1:
        return "The fields have the same cells."
    return f"Every cell of the fields is repeated {ratio} × {ratio} times: take every {ratio}th."
