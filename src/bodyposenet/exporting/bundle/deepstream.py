"""Configuration files for DeepStream.

The keys are those of Gst-nvinfer's documentation and of NVIDIA's bodypose2d application; not run
here, for want of a GPU.
"""

from __future__ import annotations

from bodyposenet.exporting.bundle import trtexec
from bodyposenet.exporting.bundle.signature import ModelSignature
from bodyposenet.exporting.bundle.templates import render_template
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton

CALIBRATION = "calibration.cache"
"""File of a bundle that holds TensorRT's calibration cache."""

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
"""Lines that the application draws, as pairs of joints."""


def unsupported_reason(signature: ModelSignature) -> str:
    """Return why nvinfer cannot run the model; empty if it can."""
    if trtexec.unsupported_reason(signature):
        return "it runs models with TensorRT"
    if signature.images.dtype != "float32":
        return "nvinfer gives normalized float32: export without --bake_normalization"
    if len(set(signature.description.image_scale)) > 1:
        return (
            "nvinfer divides all colors by one number, the image_scale of this model differs: put "
            "a pre-processing of your own before it (Gst-nvdspreprocess)"
        )
    return ""


def write_nvinfer(signature: ModelSignature, *, has_calibration: bool) -> str:
    """Return the text of a Gst-nvinfer configuration file.

    nvinfer gives net-scale-factor x (pixel - offset), the network takes pixel / image_scale -
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
    """Return the lines on the cache; the file has the ranges, but nvinfer wants a cache too."""
    if signature.description.data_type != "int8-tensorrt":
        return ""
    if has_calibration:
        return (
            "# The ONNX file has the ranges; nvinfer builds INT8 only if there is a cache, too.\n"
            f"int8-calib-file=../{CALIBRATION}\n"
        )
    return (
        "# The ONNX file has the ranges, but nvinfer builds INT8 only if int8-calib-file names a\n"
        "# file: build the engine with ../trtexec.sh first.\n"
    )


def write_postprocessing(signature: ModelSignature) -> str:
    """Return the configuration file of NVIDIA's post-processing, with its own constants."""
    skeleton = signature.description.skeleton
    joints = len(skeleton.joints)
    remarks = ""
    if joints > _MOST_JOINTS:
        remarks = (
            f"# {joints} joints: that application is compiled for {_MOST_JOINTS} and must be "
            "compiled anew.\n"
        )
    return render_template(
        "postprocess.yml",
        {
            "name": signature.name,
            "remarks": remarks,
            "ratio": signature.upsample_ratio,
            "least_joints": min(_LEAST_JOINTS, joints),
            "batch_size": signature.max_batch_size,
            "joints": joints,
            "limbs": _pairs(skeleton.limbs),
            "lines": _pairs(_lines(skeleton)),
        },
    )


def _lines(skeleton: Skeleton) -> Limbs:
    """Return the lines to draw of a person: NVIDIA's for its own joints, else the limbs."""
    theirs = load_skeleton("bpnet_18joints.json").joints
    return _LINES if skeleton.joints == theirs else skeleton.limbs


def _pairs(limbs: Limbs) -> str:
    return "\n".join(f"- {start},{end}" for start, end in limbs)
