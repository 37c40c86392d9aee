"""The pose configuration (`bpnet_18joints.json`): the skeleton that the network predicts."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pydantic import Field, model_validator

from bodyposenet.files import exists, is_file
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.keypoint_category import KeypointCategory
from bodyposenet.specs.loading import Spec

DEFAULT_POSE_CONFIGURATION = "bpnet_18joints.json"


class PoseCategory(KeypointCategory):
    """The joints and limbs that the network predicts; either list of limbs is enough."""

    derived_joints: dict[str, tuple[str, str]] | None = None
    """Joint -> the two joints it lies between, for datasets that lack it (ours).
    By default a neck lies between the shoulders."""
    completing_limbs: tuple[tuple[str, str], ...] | None = None
    """Limbs by name that `mode: accurate` takes last and that start no body (ours).
    By default those between a shoulder and an ear."""

    @model_validator(mode="after")
    def _limbs_fit(self) -> PoseCategory:
        if len(self.keypoints) < 2:
            raise ValueError(
                "at least two keypoints are needed, and a limb between them: people are assembled "
                "along limbs"
            )
        if not self.skeleton and not self.skeleton_edge_names:
            raise ValueError("no limbs: give skeleton or skeleton_edge_names")
        for name in {name for edge in self.skeleton_edge_names for name in edge}:
            if name not in self.keypoints:
                raise ValueError(f"skeleton_edge_names: {name} is no keypoint")
        for start, end in self.skeleton:
            if start == end or min(start, end) < 1 or max(start, end) > self.num_joints:
                raise ValueError(
                    f"skeleton: [{start}, {end}] is no pair of keypoints (counted from 1)"
                )
        named = [
            (self.keypoints[start - 1], self.keypoints[end - 1]) for start, end in self.skeleton
        ]
        if self.skeleton and self.skeleton_edge_names and named != list(self.skeleton_edge_names):
            raise ValueError("skeleton and skeleton_edge_names do not name the same limbs")
        for edge in self.completing_limbs or ():
            if edge not in (self.skeleton_edge_names or named):
                raise ValueError(f"completing_limbs: {list(edge)} is no limb")
        return self


class PoseConfiguration(Spec):
    """The pose configuration (reference 2.2)."""

    pose_config_type: str
    """Its name."""
    categories: tuple[PoseCategory, ...] = Field(min_length=1, max_length=1)
    """One category: people."""


def shipped_pose_configuration(name: str) -> Path | None:
    """The pose configuration of that bare name that comes with the package, if there is one."""
    path = Path(str(files("bodyposenet") / "resources" / "pose")) / name
    return path if is_file(path) else None


def load_skeleton(path: str | Path) -> Skeleton:
    """Read a pose configuration.

    Args:
        path: A file, or the bare name of a configuration that comes with the package.

    Raises:
        BodyPoseNetError: The file is missing or wrong.
    """
    path = Path(path)
    if not exists(path) and path.name == str(path):
        path = shipped_pose_configuration(path.name) or path
    configuration = PoseConfiguration.load(path)
    return Skeleton.from_pose_configuration(configuration.model_dump())
