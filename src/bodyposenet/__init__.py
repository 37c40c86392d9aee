"""Multi-person body pose estimation: an open, maintained implementation of BodyPoseNet.

Importing the package is quick: what it offers is imported when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bodyposenet.media.draw import draw
    from bodyposenet.skeleton import Skeleton
    from bodyposenet.types import Poses

__version__ = "0.1.0"
__all__ = ["Poses", "Skeleton", "__version__", "draw"]

_HOMES = {"Poses": "types", "Skeleton": "skeleton", "draw": "media.draw"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
