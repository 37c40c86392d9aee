"""Configuration file of DeepStream's Gst-nvinfer.

The keys follow its documentation, and the name of the engine its source
(nvdsinfer_model_builder.cpp). The file has not been run with DeepStream.
"""

from __future__ import annotations

from bodyposenet.exporting.bundle import trtexec
from bodyposenet.exporting.bundle.signature import ModelSignature
from bodyposenet.exporting.bundle.templates import render_template

CALIBRATION = "calibration.cache"
"""Name of TensorRT's calibration cache in a bundle."""

ENGINES = "model.onnx_b*_gpu*_*.engine"
"""Pattern of the names of engines, see `engine_file`."""

_NETWORK_MODES = {"fp32": 0, "int8-tensorrt": 1, "fp16": 2}
"""Data type -> value of nvinfer's `network-mode`."""

_PRECISIONS = {"fp32": "fp32", "int8-tensorrt": "int8", "fp16": "fp16"}
"""Data type -> precision in the name of an engine file of nvinfer."""


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


def engine_file(signature: ModelSignature) -> str:
    """Return the name under which nvinfer saves the engine of `model.onnx`, beside that file.

    nvinfer opens `model-engine-file` at each start. If the file does not exist, nvinfer builds the
    engine, and saves it under this name.

    Args:
        signature: Signature of a model that TensorRT can read.
    """
    precision = _PRECISIONS[signature.description.data_type]
    return f"model.onnx_b{signature.max_batch_size}_gpu0_{precision}.engine"


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
            "engine": engine_file(signature),
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

    nvinfer needs the cache, although the ONNX file contains the ranges: without it, nvinfer builds
    a float16 engine at each start, whose name differs from that in the file.
    """
    if signature.description.data_type != "int8-tensorrt":
        return ""
    if has_calibration:
        return (
            "# The ONNX file contains the ranges, but nvinfer builds INT8 only with a cache.\n"
            f"int8-calib-file=../{CALIBRATION}\n"
        )
    return (
        "# Without int8-calib-file, nvinfer builds a float16 engine at each start. The ONNX file\n"
        "# contains the ranges: build the INT8 engine with ../trtexec.sh first.\n"
    )
