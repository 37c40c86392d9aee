"""Writer of deployment bundles, and of their README."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bodyposenet.console import logger
from bodyposenet.exporting.bundle import deepstream, triton, trtexec
from bodyposenet.exporting.bundle.signature import DeviceTensor, ModelSignature, read_signature
from bodyposenet.exporting.bundle.templates import read_template, render_template
from bodyposenet.exporting.engine import DeviceOptions
from bodyposenet.files import atomic_write

_SEALED = ".etlt"


@dataclass(frozen=True)
class BundleOptions:
    """Options of a deployment bundle.

    Args:
        device: Sizes and limits on the device.
        calibration_cache: TensorRT's calibration cache, if one was written; used for INT8 with the
            target tensorrt.
    """

    device: DeviceOptions
    calibration_cache: Path | None = None


def write_bundle(folder: Path, model_file: Path, content: bytes, options: BundleOptions) -> None:
    """Write a deployment bundle.

    Files for programs that cannot run the model are skipped (TensorRT cannot read INT8 for the
    target cpu, for example), with the reason in the log and in the bundle's README.

    Args:
        folder: Folder of the bundle, created if missing. Files of an older bundle are replaced;
            other files are kept.
        model_file: The exported file, which gives the model its name.
        content: Content of the ONNX file, not encrypted.
        options: Sizes on the device, and the calibration cache.

    Raises:
        BodyPoseNetError: The folder cannot be written, the file is not one of `bpnet export`, or
            the shape is not a multiple of the stride.
    """
    signature = read_signature(model_file, content, options.device)
    unsupported = _unsupported(signature)
    for program, reason in unsupported.items():
        logger.warning("%s: files for %s are skipped: %s", folder, program, reason)
    if model_file.suffix.lower() == _SEALED:
        logger.warning(
            "%s is sealed, but the copy of the model in %s is a plain file", model_file, folder
        )
    cache = options.calibration_cache if _needs_calibration(signature) else None
    files = {"model.onnx": content, f"triton/{signature.name}/1/model.onnx": content}
    if cache is not None:
        files[deepstream.CALIBRATION] = cache.read_bytes()
    texts = _texts(
        signature, options.device.workspace, unsupported, has_calibration=cache is not None
    )
    files |= {name: text.encode() for name, text in texts.items()}
    files["README.md"] = write_readme(signature, files, unsupported).encode()
    for name, part in files.items():
        with atomic_write(folder / name) as file:
            file.write(part)


def _unsupported(signature: ModelSignature) -> dict[str, str]:
    """Map the programs that cannot run the model to the reason."""
    reasons = {
        "TensorRT": trtexec.unsupported_reason(signature),
        "DeepStream": deepstream.unsupported_reason(signature),
    }
    return {program: reason for program, reason in reasons.items() if reason}


def _needs_calibration(signature: ModelSignature) -> bool:
    """Return whether a program needs TensorRT's calibration cache to build an engine."""
    return signature.description.data_type == "int8-tensorrt"


def _texts(
    signature: ModelSignature,
    workspace: int,
    unsupported: Mapping[str, str],
    *,
    has_calibration: bool,
) -> dict[str, str]:
    """Map the names of the bundle's text files, except the README, to their content."""
    entry = f"{signature.name}/config.pbtxt"
    texts = {
        "labels.txt": "".join(f"{joint}\n" for joint in signature.description.skeleton.joints),
        "signature.json": json.dumps(signature.to_dict(), indent=2, ensure_ascii=False) + "\n",
        "run.py": read_template("run.py"),
        f"triton/{entry}": triton.write_configuration(signature, "onnxruntime_onnx"),
    }
    if "TensorRT" not in unsupported:
        texts["trtexec.sh"] = trtexec.write_script(
            signature, deepstream.engine_file(signature), workspace
        )
        texts[f"triton_tensorrt/{entry}"] = triton.write_configuration(signature, "tensorrt_plan")
    if "DeepStream" not in unsupported:
        texts["deepstream/nvinfer.txt"] = deepstream.write_nvinfer(
            signature, has_calibration=has_calibration
        )
    return texts


_DESCRIPTIONS = {
    "model.onnx": "the model",
    "signature.json": "tensors, normalization and skeleton of the model, for programs",
    "labels.txt": "the joints, one per line, in the order of the heatmaps",
    "run.py": "an example in Python, without PyTorch",
    "calibration.cache": "TensorRT's calibration cache",
    "trtexec.sh": "builds a TensorRT engine and measures its speed",
    "deepstream/nvinfer.txt": "configuration of Gst-nvinfer",
    "triton": "model repository for Triton with ONNX Runtime",
    "triton_tensorrt": "model repository for Triton with TensorRT, completed by trtexec.sh",
}
"""File or folder of a bundle -> its description in the README."""

_SECTIONS = {
    "trtexec.sh": "tensorrt.md",
    "deepstream/nvinfer.txt": "deepstream.md",
    "triton": "triton.md",
}
"""File or folder of a bundle -> template of the README's section on its use."""


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
    description, (height, width) = signature.description, signature.shape
    stride = description.stride
    return render_template(
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
                f"| `{part}` | {description} |"
                for part, description in _DESCRIPTIONS.items()
                if part in parts
            ),
            "unsupported": "".join(
                f"\nThere are no files for {program}: {reason}.\n"
                for program, reason in unsupported.items()
            ),
            "sections": "\n".join(
                read_template(name) for part, name in _SECTIONS.items() if part in parts
            ).rstrip(),
        },
    )


def _facts(signature: ModelSignature) -> dict[str, str]:
    """Return the rows of the README's table of the model."""
    skeleton, batch = signature.description.skeleton, signature.batch
    return {
        "data type": signature.description.data_type,
        "batch size": "dynamic" if batch is None else str(batch),
        "input": _format_tensor(signature.images, signature),
        "part affinity fields": _format_tensor(signature.pafs, signature),
        "heatmaps": f"{_format_tensor(signature.heatmaps, signature)}, the background last",
        "skeleton": f"{skeleton.name}, {len(skeleton.joints)} joints, {len(skeleton.limbs)} limbs",
    }


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
