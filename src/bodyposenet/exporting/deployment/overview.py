"""A contract and the files of a kit in, the README that explains them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bodyposenet.exporting.deployment.contract import Contract, DeviceTensor
from bodyposenet.exporting.deployment.templates import fill, read_template

_MEANINGS = {
    "model.onnx": "the model",
    "contract.json": "what a program must know to run it: tensors, normalization, skeleton",
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
"""Part of a kit -> the text that says how it is used."""


def write_overview(contract: Contract, files: Iterable[str], gaps: Mapping[str, str]) -> str:
    """The text of a kit's README.

    Args:
        contract: Of the model.
        files: Of the kit, with their folders.
        gaps: What is left out -> why.
    """
    parts = {file if file in _MEANINGS else file.partition("/")[0] for file in files}
    description, (height, width) = contract.description, contract.shape
    stride = description.stride
    return fill(
        "README.md",
        {
            "name": contract.name,
            "facts": "\n".join(f"| {fact} | {value} |" for fact, value in _facts(contract).items()),
            "height": height,
            "width": width,
            "stride": stride,
            "middle": (stride - 1) / 2,
            "normalization": _normalization(contract),
            "repeats": _repeats(contract),
            "files": "\n".join(
                f"| `{part}` | {meaning} |" for part, meaning in _MEANINGS.items() if part in parts
            ),
            "gaps": "".join(f"\nNo {part}: {reason}.\n" for part, reason in gaps.items()),
            "sections": "\n".join(
                read_template(name) for part, name in _SECTIONS.items() if part in parts
            ).rstrip(),
        },
    )


def _facts(contract: Contract) -> dict[str, str]:
    skeleton, batch = contract.description.skeleton, contract.batch
    return {
        "data type": contract.description.data_type,
        "images at once": "any number" if batch is None else str(batch),
        "input": _written(contract.images, contract),
        "part affinity fields": _written(contract.pafs, contract),
        "heatmaps": f"{_written(contract.heatmaps, contract)}, the background last",
        "skeleton": f"{skeleton.name}, {len(skeleton.joints)} joints, {len(skeleton.limbs)} limbs",
    }


def _written(tensor: DeviceTensor, contract: Contract) -> str:
    """A tensor for people."""
    batch = "N" if contract.batch is None else contract.batch
    sizes = " × ".join(map(str, (batch, *tensor.sizes)))
    free = " (any height and width)" if None in tensor.declared else ""
    return f"`{tensor.name}`, {tensor.dtype}, {sizes}{free}"


def _normalization(contract: Contract) -> str:
    if contract.images.dtype == "uint8":
        return "Leave the pixels as they are, red, green, blue: the model normalizes them."
    description = contract.description
    scale, offset = map(_numbers, (description.image_scale, description.image_offset))
    return f"Red, green, blue as float32: pixel / {scale} − {offset}."


def _numbers(values: tuple[float, ...]) -> str:
    """One number where all are the same."""
    numbers = [f"{value:g}" for value in values]
    return numbers[0] if len(set(numbers)) == 1 else f"({', '.join(numbers)})"


def _repeats(contract: Contract) -> str:
    ratio = contract.upsample_ratio
    if ratio == 1:
        return "The fields have the same cells."
    return f"Every cell of the fields stands there {ratio} × {ratio} times: take every {ratio}th."
