"""README of a deployment bundle."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from bodyposenet.exporting.bundle.signature import DeviceTensor, ModelSignature
from bodyposenet.exporting.bundle.templates import render_template

_DESCRIPTIONS = {
    "model.onnx": "the model",
    "signature.json": "tensors, normalization and skeleton of the model, for programs",
    "labels.txt": "the joints, one per line, in the order of the model's output",
    "run.py": "an example in Python, without PyTorch",
    "bodypose.py": "assignment of peaks to people, for `run.py`",
    "bodypose.hpp": "the same in C++",
    "calibration.cache": "TensorRT's calibration cache",
    "trtexec.sh": "builds a TensorRT engine and measures its speed",
    "deepstream/nvinfer.txt": "configuration of Gst-nvinfer",
    "triton": "model repository for Triton with ONNX Runtime",
    "triton_tensorrt": "model repository for Triton with TensorRT, completed by trtexec.sh",
}
"""File or folder of a bundle -> its description in the README."""


def write_readme(
    signature: ModelSignature, files: Iterable[str], unsupported: Mapping[str, str]
) -> str:
    """Return the text of a bundle's README.

    Args:
        signature: Signature of the model.
        files: Paths of the bundle's files, relative to its folder.
        unsupported: Reason by the name of each program that cannot run the model.
    """
    parts = {file if file in _DESCRIPTIONS else file.partition("/")[0] for file in files}
    values = _values(signature)
    return render_template(
        "README.md",
        {
            **values,
            "facts": _rows(_facts(signature)),
            "decoding": render_template(
                "maps.md" if signature.decoding is None else "peaks.md", values
            ).rstrip(),
            "files": _rows(
                {
                    f"`{part}`": description
                    for part, description in _DESCRIPTIONS.items()
                    if part in parts
                }
            ),
            "unsupported": "".join(
                f"\nThere are no files for {program}: {reason}.\n"
                for program, reason in unsupported.items()
            ),
            "sections": "\n".join(
                render_template(name, values) for name in _sections(signature, parts)
            ).rstrip(),
        },
    )


def _sections(signature: ModelSignature, parts: Collection[str]) -> list[str]:
    """Return the templates of the README's sections, given the files and folders of the bundle."""
    needed = {
        "python.md": signature.decoding is None,
        "python_decoding.md": signature.decoding is not None,
        "int8_cpu.md": signature.description.data_type == "int8-cpu",
        "tensorrt.md": "trtexec.sh" in parts,
        "deepstream.md": "deepstream/nvinfer.txt" in parts,
        "triton.md": "triton" in parts,
    }
    return [name for name, is_needed in needed.items() if is_needed]


def _values(signature: ModelSignature) -> dict[str, object]:
    """Return the values of the names in the templates."""
    stride = signature.description.stride
    return {
        "name": signature.name,
        "height": signature.shape[0],
        "width": signature.shape[1],
        "stride": stride,
        "middle": (stride - 1) / 2,
        "normalization": _normalization(signature),
        "repeats": _repeats(signature),
        "decoder": "`find_poses` of `run.py`"
        if signature.decoding is None
        else "`find_people` of `run.py` (Python) or `bodypose::assemble` of `bodypose.hpp` (C++)",
    }


def _rows(entries: Mapping[str, str]) -> str:
    """Format the rows of a table of two columns."""
    return "\n".join(f"| {name} | {value} |" for name, value in entries.items())


def _facts(signature: ModelSignature) -> dict[str, str]:
    """Return the rows of the README's table of the model."""
    skeleton, batch = signature.description.skeleton, signature.batch
    outputs = [_format_tensor(output, signature) for output in signature.outputs]
    return {
        "data type": signature.description.data_type,
        "batch size": "dynamic" if batch is None else str(batch),
        "input": _format_tensor(signature.images, signature),
        **dict(zip(_output_names(signature), outputs, strict=True)),
        "skeleton": f"{skeleton.name}, {len(skeleton.joints)} joints, {len(skeleton.limbs)} limbs",
    }


def _output_names(signature: ModelSignature) -> tuple[str, str]:
    """Return descriptions of the outputs, in the order of the file."""
    if signature.decoding is None:
        return "part affinity fields", "heatmaps, the background last"
    return "peaks: x, y, score", "PAF scores of pairs of peaks"


def _format_tensor(tensor: DeviceTensor, signature: ModelSignature) -> str:
    """Format the name, type and sizes of a tensor."""
    batch = "N" if signature.batch is None else signature.batch
    sizes = " × ".join(map(str, (batch, *tensor.sizes)))
    dynamic = " (dynamic height and width)" if None in tensor.declared else ""
    return f"`{tensor.name}`, {tensor.dtype}, {sizes}{dynamic}"


def _normalization(signature: ModelSignature) -> str:
    """Return the README's sentence on the normalization."""
    if signature.images.dtype == "uint8":
        return "RGB pixels as uint8, without normalization: the model normalizes them."
    description = signature.description
    scale, offset = map(_numbers, (description.image_scale, description.image_offset))
    return f"RGB as float32: pixel / {scale} − {offset}."


def _numbers(values: tuple[float, ...]) -> str:
    """Format numbers as one if all are equal."""
    numbers = [f"{value:g}" for value in values]
    return numbers[0] if len(set(numbers)) == 1 else f"({', '.join(numbers)})"


def _repeats(signature: ModelSignature) -> str:
    """Return the README's sentence on the cells of the part affinity fields."""
    ratio = signature.upsample_ratio
    if ratio == 1:
        return "The part affinity fields have the same cells."
    return (
        f"Every cell of the part affinity fields is repeated {ratio} × {ratio} times: use every "
        f"{ratio}th row and column."
    )
