"""Configuration files for DeepStream.

The keys follow Gst-nvinfer's documentation and NVIDIA's bodypose2d application. The files have not
been run with DeepStream.
"""

from __future__ import annotations

from bodyposenet.exporting.bundle import trtexec
from bodyposenet.exporting.bundle.signature import ModelSignature
from bodyposenet.exporting.bundle.templates import render_template
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton

CALIBRATION = "calibration.cache"
"""Name of TensorRT's calibration cache in a bundle."""

Limbs = tuple[tuple[int, int], ...]
"""Pairs of joints."""

_NETWORK_MODES = {"fp32": 0, "int8-tensorrt": 1, "fp16": 2}
"""Data type -> value of nvinfer's `network-mode`."""

_MIN_JOINTS = 4
"""Minimum number of joints of a person, NVIDIA's default."""

_MAX_JOINTS = 18
"""Number of joints that NVIDIA's post-processing library is compiled for."""

_LINES: Limbs = (
    (0, 1), (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (2, 8), (8, 9), (9, 10),
    (5, 11), (11, 12), (12, 13), (0, 14), (14, 16), (8, 11), (15, 17), (0, 15),
)  # fmt: skip
"""Lines that the application draws, as pairs of joints."""


def unsupported_reason(signature: ModelSignature) -> str:
    """Return why nvinfer cannot run the model; empty if it can."""
    if trtexec.unsupported_reason(signature):
        return "DeepStream uses TensorRT, which cannot read the model"
    if signature.images.dtype != "float32":
        return "the input of nvinfer is normalized float32: export without --bake_normalization"
    if len(set(signature.description.image_scale)) > 1:
        return (
            "nvinfer divides all channels by the same number, but the model's image_scale differs "
            "between channels: use a preprocessing of your own (Gst-nvdspreprocess)"
        )
    return ""


def write_nvinfer(signature: ModelSignature, *, has_calibration: bool) -> str:
    """Return the text of a Gst-nvinfer configuration file.

    nvinfer computes net-scale-factor x (pixel - offset); the network needs pixel / image_scale -
    image_offset.

    Args:
        signature: Signature of a model that nvinfer can run.
        has_calibration: Whether the bundle holds a calibration cache.
    """
    scale, *_ = signature.description.image_scale
    offsets = [scale * offset for offset in signature.description.image_offset]
    return render_template(
        "nvinfer.txt",
        {
            "name": signature.name,
            "data_type": signature.description.data_type,
            "batch_size": signature.max_batch_size,
            "network_mode": _NETWORK_MODES[signature.description.data_type],
            "calibration": _calibration(signature, has_calibration),
            "infer_dims": f"3;{signature.shape[0]};{signature.shape[1]}",
            "input_order": int(signature.channels_last),
            "scale": f"{1 / scale:.10g}",
            "offsets": ";".join(f"{offset:.10g}" for offset in offsets),
            "outputs": ";".join(tensor.name for tensor in signature.outputs),
        },
    )


def _calibration(signature: ModelSignature, has_calibration: bool) -> str:
    """Return the lines of the file that name the calibration cache, or a remark if there is none.

    nvinfer needs the cache, although the ONNX file contains the ranges.
    """
    if signature.description.data_type != "int8-tensorrt":
        return ""
    if has_calibration:
        return (
            "# The ONNX file contains the ranges, but nvinfer builds INT8 only with a cache.\n"
            f"int8-calib-file=../{CALIBRATION}\n"
        )
    return (
        "# The ONNX file contains the ranges, but nvinfer builds INT8 only if int8-calib-file\n"
        "# names a file: build the engine with ../trtexec.sh first.\n"
    )


def write_postprocessing(signature: ModelSignature) -> str:
    """Return the text of the configuration of NVIDIA's post-processing, with its constants."""
    skeleton = signature.description.skeleton
    joints = len(skeleton.joints)
    remarks = ""
    if joints > _MAX_JOINTS:
        remarks = (
            f"# {joints} joints: the application is compiled for {_MAX_JOINTS} and must be "
            "recompiled.\n"
        )
    return render_template(
        "postprocess.yml",
        {
            "name": signature.name,
            "remarks": remarks,
            "ratio": signature.upsample_ratio,
            "least_joints": min(_MIN_JOINTS, joints),
            "batch_size": signature.max_batch_size,
            "joints": joints,
            "limbs": _pairs(skeleton.limbs),
            "lines": _pairs(_lines(skeleton)),
        },
    )


def _lines(skeleton: Skeleton) -> Limbs:
    """Return the lines to draw: NVIDIA's for its own skeleton, the limbs for all others."""
    nvidia_joints = load_skeleton("bpnet_18joints.json").joints
    return _LINES if skeleton.joints == nvidia_joints else skeleton.limbs


def _pairs(limbs: Limbs) -> str:
    """Format pairs of joints as a YAML list."""
    return "\n".join(f"- {start},{end}" for start, end in limbs)
