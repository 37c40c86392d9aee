"""Multi-person body pose estimation: an open, maintained implementation of BodyPoseNet.

    >>> import bodyposenet
    >>> model = bodyposenet.load()
    >>> poses = model("photo.jpg")

Importing the package is fast: its public names are imported on first use.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bodyposenet.commands.browse import browse_dataset
    from bodyposenet.commands.check import check_specs
    from bodyposenet.commands.dataset_convert import convert_dataset
    from bodyposenet.commands.evaluate import evaluate
    from bodyposenet.commands.export import export
    from bodyposenet.commands.inference import predict
    from bodyposenet.commands.init import init_project
    from bodyposenet.commands.prune import prune
    from bodyposenet.commands.train import train
    from bodyposenet.commands.web import write_web_page
    from bodyposenet.decoding import decode
    from bodyposenet.errors import BodyPoseNetError
    from bodyposenet.geometry import Affine
    from bodyposenet.inference.estimator import ImageError, PoseEstimator, load
    from bodyposenet.inference.video import VideoPredictor
    from bodyposenet.media.draw import draw
    from bodyposenet.media.smoothing import OneEuroFilter
    from bodyposenet.media.tracking import Tracker
    from bodyposenet.media.video import Frame
    from bodyposenet.person_pose import PersonPose
    from bodyposenet.poses import Poses
    from bodyposenet.skeleton import Skeleton
    from bodyposenet.types import Maps

# Turn off the telemetry of ONNX Runtime before it is imported: the import would write a device id
# and a queue of events to the user's cache folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.2.0"
__all__ = [
    "Affine",
    "BodyPoseNetError",
    "Frame",
    "ImageError",
    "Maps",
    "OneEuroFilter",
    "PersonPose",
    "PoseEstimator",
    "Poses",
    "Skeleton",
    "Tracker",
    "VideoPredictor",
    "__version__",
    "browse_dataset",
    "check_specs",
    "convert_dataset",
    "decode",
    "draw",
    "evaluate",
    "export",
    "init_project",
    "load",
    "predict",
    "prune",
    "train",
    "write_web_page",
]

_MODULES = {
    "Affine": "geometry", "BodyPoseNetError": "errors", "Frame": "media.video",
    "ImageError": "inference.estimator", "PersonPose": "person_pose",
    "VideoPredictor": "inference.video",
    "Maps": "types", "OneEuroFilter": "media.smoothing", "PoseEstimator": "inference.estimator",
    "Poses": "poses", "Skeleton": "skeleton", "Tracker": "media.tracking",
    "browse_dataset": "commands.browse",
    "check_specs": "commands.check", "convert_dataset": "commands.dataset_convert",
    "decode": "decoding", "draw": "media.draw", "evaluate": "commands.evaluate",
    "export": "commands.export", "init_project": "commands.init", "load": "inference.estimator",
    "predict": "commands.inference", "prune": "commands.prune", "train": "commands.train",
    "write_web_page": "commands.web",
}  # fmt: skip
"""Module of each public name; imported on first use."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise import_module(f"{__name__}.other_libraries").missing_package_attribute(name)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
