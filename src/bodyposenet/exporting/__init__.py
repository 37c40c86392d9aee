"""Export of trained networks: ONNX, float16, INT8, engines, verification and bundles."""

from typing import Literal

DataType = Literal["fp32", "fp16", "int8-cpu", "int8-tensorrt"]
"""Data type of weights and computation, as written to the header of an exported file."""
