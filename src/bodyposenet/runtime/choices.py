"""What runs which model file; names only, so that the command line need not load the engines."""

from __future__ import annotations

RUNTIMES = {
    ".tlt": ("pytorch",),
    ".hdf5": ("pytorch",),
    ".onnx": ("onnx", "openvino"),
    ".etlt": ("onnx", "openvino"),
    ".engine": ("openvino", "tensorrt"),
}
"""Extension of a model file -> the runtimes that run it, the usual one first.

An `.engine` file is run by the one that built it; its header says which.
"""

ENGINES = (
    "auto",
    *dict.fromkeys(runtime for runtimes in RUNTIMES.values() for runtime in runtimes),
)
"""What may be asked for; `auto` is the usual runtime of the file."""

PRECISIONS = ("fp32", "bf16")
"""What engines that can choose compute in; the first is the default."""
