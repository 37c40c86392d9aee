"""An exported model in, its deployment kit out: a folder that can be copied to a device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bodyposenet.console import logger
from bodyposenet.exporting.deployment import deepstream, triton, trtexec
from bodyposenet.exporting.deployment.contract import Contract, read_contract
from bodyposenet.exporting.deployment.overview import write_overview
from bodyposenet.exporting.deployment.templates import read_template
from bodyposenet.exporting.device import DeviceOptions
from bodyposenet.files import replacing

_SEALED = ".etlt"


@dataclass(frozen=True)
class KitOptions:
    """What the file does not say of its use.

    Args:
        device: What it will be given.
        calibration_cache: TensorRT's calibration cache, where one was written; only INT8 of the
            flavour tensorrt has a use for it.
    """

    device: DeviceOptions
    calibration_cache: Path | None = None


def write_kit(folder: Path, model_file: Path, content: bytes, options: KitOptions) -> None:
    """Write all that is needed to run a model elsewhere.

    What a program cannot do with this model (TensorRT reads no INT8 of the flavour cpu, for
    example) is left out; the log and the kit's README say why.

    Args:
        folder: Where to; it is made. Files of an older kit are replaced, others stay.
        model_file: What was exported; its name becomes the model's.
        content: The ONNX file, not sealed.
        options: What it is to run on.

    Raises:
        BodyPoseNetError: The folder cannot be written; the file is no model of ours; the shape is
            no whole number of cells.
    """
    contract = read_contract(model_file, content, options.device)
    gaps = _find_gaps(contract)
    for part, reason in gaps.items():
        logger.warning("%s: no %s: %s", folder, part, reason)
    if model_file.suffix.lower() == _SEALED:
        logger.warning("%s is sealed, the model in %s is not", model_file, folder)
    cache = options.calibration_cache if _needs_calibration(contract) else None
    files = {"model.onnx": content, f"triton/{contract.name}/1/model.onnx": content}
    if cache is not None:
        files[deepstream.CALIBRATION] = cache.read_bytes()
    texts = _texts(contract, options.device.workspace, gaps, has_calibration=cache is not None)
    files |= {name: text.encode() for name, text in texts.items()}
    files["README.md"] = write_overview(contract, files, gaps).encode()
    for name, part in files.items():
        with replacing(folder / name) as file:
            file.write(part)


def _find_gaps(contract: Contract) -> dict[str, str]:
    """What the kit cannot have -> why."""
    obstacles = {
        "TensorRT": trtexec.find_obstacle(contract),
        "DeepStream": deepstream.find_obstacle(contract),
    }
    return {part: obstacle for part, obstacle in obstacles.items() if obstacle}


def _needs_calibration(contract: Contract) -> bool:
    return contract.description.data_type == "int8-tensorrt"


def _texts(
    contract: Contract, workspace: int, gaps: Mapping[str, str], *, has_calibration: bool
) -> dict[str, str]:
    """File of the kit -> its text, but for the README."""
    entry = f"{contract.name}/config.pbtxt"
    texts = {
        "labels.txt": "".join(f"{joint}\n" for joint in contract.description.skeleton.joints),
        "contract.json": json.dumps(contract.to_dict(), indent=2, ensure_ascii=False) + "\n",
        "run.py": read_template("run.py"),
        f"triton/{entry}": triton.write_configuration(contract, "onnxruntime_onnx"),
    }
    if "TensorRT" not in gaps:
        texts["trtexec.sh"] = trtexec.write_script(contract, workspace)
        texts[f"triton_tensorrt/{entry}"] = triton.write_configuration(contract, "tensorrt_plan")
    if "DeepStream" not in gaps:
        texts["deepstream/nvinfer.txt"] = deepstream.write_nvinfer(
            contract, has_calibration=has_calibration
        )
        texts["deepstream/postprocess.yml"] = deepstream.write_postprocessing(contract)
    return texts
