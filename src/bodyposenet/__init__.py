"""Multi-person body pose estimation: an open, maintained implementation of BodyPoseNet."""

from __future__ import annotations

__version__ = "0.1.0"
