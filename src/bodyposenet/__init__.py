"""Multi-person body pose estimation: an open, maintained implementation of BodyPoseNet.

Importing the package is quick: what it offers is imported when it is first asked for.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bodyposenet.api import ImageError, PoseEstimator, load
    from bodyposenet.decoding import decode
    from bodyposenet.errors import BodyPoseNetError
    from bodyposenet.geometry import Affine
    from bodyposenet.media.draw import draw
    from bodyposenet.media.smoothing import OneEuroFilter
    from bodyposenet.media.tracking import Tracker
    from bodyposenet.poses import Poses
    from bodyposenet.skeleton import Skeleton
    from bodyposenet.tasks.dataset_convert import convert_dataset
    from bodyposenet.tasks.evaluate import evaluate
    from bodyposenet.tasks.export import export
    from bodyposenet.tasks.inference import predict
    from bodyposenet.tasks.prune import prune
    from bodyposenet.tasks.train import train
    from bodyposenet.types import Maps

# No telemetry. It begins when ONNX Runtime is imported, which keeps a device id and a queue of
# events in the user's cache folder, so it is turned off here, before that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = [
    "Affine",
    "BodyPoseNetError",
    "ImageError",
    "Maps",
    "OneEuroFilter",
    "PoseEstimator",
    "Poses",
    "Skeleton",
    "Tracker",
    "__version__",
    "convert_dataset",
    "decode",
    "draw",
    "evaluate",
    "export",
    "load",
    "predict",
    "prune",
    "train",
]

_HOMES = {
    "Affine": "geometry", "BodyPoseNetError": "errors", "ImageError": "api", "Maps": "types",
    "OneEuroFilter": "media.smoothing", "PoseEstimator": "api", "Poses": "poses",
    "Skeleton": "skeleton", "Tracker": "media.tracking",
    "convert_dataset": "tasks.dataset_convert", "decode": "decoding", "draw": "media.draw",
    "evaluate": "tasks.evaluate", "export": "tasks.export", "load": "api",
    "predict": "tasks.inference", "prune": "tasks.prune", "train": "tasks.train",
}  # fmt: skip
"""Name -> the module that it is in."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise import_module(f"{__name__}.other_libraries").no_attribute(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
