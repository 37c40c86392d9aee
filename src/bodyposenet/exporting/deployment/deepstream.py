"""A contract in, configuration files for DeepStream out.

The keys are those of Gst-nvinfer's documentation and of NVIDIA's bodypose2d application
(reference 14.6); not run here, for want of a GPU.
"""

from __future__ import annotations

from bodyposenet.exporting.deployment import trtexec
from bodyposenet.exporting.deployment.contract import Contract
from bodyposenet.exporting.deployment.templates import fill
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton

CALIBRATION = "calibration.cache"
"""File of a kit that holds TensorRT's calibration cache."""

Limbs = tuple[tuple[int, int], ...]
"""Pairs of joints."""

_NETWORK_MODES = {"fp32": 0, "int8-tensorrt": 1, "fp16": 2}
_LEAST_JOINTS = 4
_MOST_JOINTS = 18
"""NVIDIA's post-processing library is compiled for so many."""
_LINES: Limbs = (
    (0, 1), (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (2, 8), (8, 9), (9, 10),
    (5, 11), (11, 12), (12, 13), (0, 14), (14, 16), (8, 11), (15, 17), (0, 15),
)  # fmt: skip
"""What that application draws."""


def find_obstacle(contract: Contract) -> str:
    """Why nvinfer cannot run the model; empty where it can."""
    if trtexec.find_obstacle(contract):
        return "it runs models with TensorRT"
    if contract.images.dtype != "float32":
        return "nvinfer gives normalized float32: export without --bake_normalization"
    if len(set(contract.description.image_scale)) > 1:
        return (
            "nvinfer divides all colors by one number, the image_scale of this model differs: put "
            "a pre-processing of your own before it (Gst-nvdspreprocess)"
        )
    return ""


def write_nvinfer(contract: Contract, *, has_calibration: bool) -> str:
    """The text of a Gst-nvinfer configuration file.

    nvinfer gives net-scale-factor x (pixel - offset), the network takes pixel / image_scale -
    image_offset.

    Args:
        contract: Of a model that nvinfer can run.
        has_calibration: Whether the kit holds a calibration cache.
    """
    scale, *_ = contract.description.image_scale
    offsets = [scale * offset for offset in contract.description.image_offset]
    return fill(
        "nvinfer.txt",
        {
            "name": contract.name,
            "data_type": contract.description.data_type,
            "batch_size": contract.max_batch_size,
            "network_mode": _NETWORK_MODES[contract.description.data_type],
            "calibration": _calibration(contract, has_calibration),
            "infer_dims": f"3;{contract.shape[0]};{contract.shape[1]}",
            "input_order": int(contract.channels_last),
            "scale": f"{1 / scale:.10g}",
            "offsets": ";".join(f"{offset:.10g}" for offset in offsets),
            "outputs": ";".join(tensor.name for tensor in contract.outputs),
        },
    )


def _calibration(contract: Contract, has_calibration: bool) -> str:
    """The ranges stand in the file itself, but without a cache nvinfer builds no INT8."""
    if contract.description.data_type != "int8-tensorrt":
        return ""
    if has_calibration:
        return (
            "# The ranges stand in the ONNX file; nvinfer builds INT8 only where it sees a cache.\n"
            f"int8-calib-file=../{CALIBRATION}\n"
        )
    return (
        "# The ranges stand in the ONNX file, but nvinfer builds INT8 only where int8-calib-file\n"
        "# names a file: build the engine with ../trtexec.sh first.\n"
    )


def write_postprocessing(contract: Contract) -> str:
    """The text of the configuration file of NVIDIA's post-processing, with its own constants."""
    skeleton = contract.description.skeleton
    joints = len(skeleton.joints)
    remarks = ""
    if joints > _MOST_JOINTS:
        remarks = (
            f"# {joints} joints: that application is compiled for {_MOST_JOINTS} and must be "
            "compiled anew.\n"
        )
    return fill(
        "postprocess.yml",
        {
            "name": contract.name,
            "remarks": remarks,
            "ratio": contract.upsample_ratio,
            "least_joints": min(_LEAST_JOINTS, joints),
            "batch_size": contract.max_batch_size,
            "joints": joints,
            "limbs": _pairs(skeleton.limbs),
            "lines": _pairs(_lines(skeleton)),
        },
    )


def _lines(skeleton: Skeleton) -> Limbs:
    """What to draw of a person: NVIDIA's lines for its own joints, else the limbs."""
    theirs = load_skeleton("bpnet_18joints.json").joints
    return _LINES if skeleton.joints == theirs else skeleton.limbs


def _pairs(limbs: Limbs) -> str:
    return "\n".join(f"- {start},{end}" for start, end in limbs)
