"""Export of trained networks for other runtimes: ONNX, fp16, INT8, engines, deployment bundles."""

from typing import Literal

DataType = Literal["fp32", "fp16", "int8-cpu", "int8-tensorrt"]
"""Type of weights and calculation, as in the header of an exported file."""
