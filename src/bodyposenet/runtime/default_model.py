"""The model that comes with the package: which of its files runs here, and how."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from bodyposenet.runtime.choices import AUTO, Device

FOLDER = Path(str(files("bodyposenet") / "resources" / "default_model"))
"""Its files and MODEL_CARD.md."""

ON_CPU, ON_GPU = "default-int8.onnx", "default-fp16.onnx"
WEIGHTS = FOLDER / ON_GPU
"""The file in float, which a training can start from."""

INFERENCE_SPEC = FOLDER / "infer_spec.yaml"
"""What holds where the user gives neither a model nor an inference spec."""


def default_model(engine: str = "auto", device: Device = AUTO) -> Path:
    """The file for this machine: INT8, or float16 where ONNX Runtime can use a GPU.

    Args:
        engine: What will run it, one of `choices.ENGINES`.
        device: Where it will run.
    """
    from bodyposenet.runtime.engines.onnx import has_cuda

    on_gpu = engine in ("auto", "onnx") and has_cuda(device)
    return FOLDER / (ON_GPU if on_gpu else ON_CPU)
