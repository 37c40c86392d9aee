"""Writer of deployment bundles."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.bundle import deepstream, triton, trtexec
from bodyposenet.exporting.bundle.readme import write_readme
from bodyposenet.exporting.bundle.signature import ModelSignature, read_signature
from bodyposenet.exporting.bundle.templates import read_client, read_template
from bodyposenet.exporting.engine import DeviceOptions
from bodyposenet.exporting.outputs import is_sealed
from bodyposenet.files import atomic_write, exists

_OPTIONAL_FILES = (
    "bodypose.py",
    "bodypose.hpp",
    "trtexec.sh",
    "deepstream/nvinfer.txt",
    "deepstream/postprocess.yml",  # of earlier versions
)
"""Files that not every bundle has, except for the calibration cache: it may be a user's file."""


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
        folder: Folder of the bundle, created if missing. Files of an older bundle are replaced or
            removed, also the engines that were built from its model; other files are kept.
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
    if is_sealed(model_file):
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
    _remove_outdated_files(folder, signature.name, files)
    for name, part in files.items():
        with atomic_write(folder / name) as file:
            file.write(part)


def _remove_outdated_files(folder: Path, name: str, files: Collection[str]) -> None:
    """Remove the files of an older bundle that the new one does not have, and its engines.

    nvinfer and Triton would run an engine of the older model without an error.

    Args:
        folder: Folder of the bundle.
        name: Name of the model.
        files: Paths of the files of the new bundle, relative to the folder.

    Raises:
        BodyPoseNetError: A file cannot be removed.
    """
    for file in _outdated_files(folder, name, files):
        try:
            file.unlink()
        except OSError as error:
            raise BodyPoseNetError(
                f"{file}: belongs to an older bundle and cannot be removed: {error.strerror}",
                "Remove it, or give another --deployment_bundle.",
            ) from error


def _outdated_files(folder: Path, name: str, files: Collection[str]) -> Iterator[Path]:
    """Yield the files that `_remove_outdated_files` removes."""
    repository = f"triton_tensorrt/{name}"
    for file in (*_OPTIONAL_FILES, f"{repository}/config.pbtxt", f"{repository}/1/model.plan"):
        if file not in files and exists(folder / file):
            yield folder / file
    yield from folder.glob(deepstream.ENGINES)


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
        **_programs(signature),
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


def _programs(signature: ModelSignature) -> dict[str, str]:
    """Return the example program, and the files that assign peaks to people if it needs them."""
    if signature.decoding is None:
        return {"run.py": read_template("run.py")}
    clients = {name: read_client(name) for name in ("bodypose.py", "bodypose.hpp")}
    return {"run.py": read_template("run_decoding.py")} | clients
