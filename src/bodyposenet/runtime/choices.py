"""What runs which model file; names only, so that the command line need not load the engines."""

from __future__ import annotations

RUNTIMES = {".tlt": ("pytorch",), ".onnx": ("onnx", "openvino")}
"""Extension of a model file -> the runtimes that run it, the usual one first."""

ENGINES = ("auto", *(runtime for runtimes in RUNTIMES.values() for runtime in runtimes))
"""What may be asked for; `auto` is the usual runtime of the file."""

PRECISIONS = ("fp32", "bf16")
"""What engines that can choose compute in; the first is the default."""
