"""The pose configuration (`bpnet_18joints.json`): the skeleton that the network predicts."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.loading import Block, Spec

DEFAULT_POSE_CONFIGURATION = "bpnet_18joints.json"


class PoseCategory(Block):
    """The joints and limbs of a person."""

    supercategory: str = "person"
    """Free."""
    id: int = 1
    """Free."""
    name: str = "person"
    """Free."""
    num_joints: int
    """Number of joints."""
    keypoints: tuple[str, ...]
    """Names of the joints, in heatmap order."""
    skeleton: tuple[tuple[int, int], ...] = ()
    """Limbs as pairs of joints counted from 1, in PAF order."""
    skeleton_edge_names: tuple[tuple[str, str], ...] = ()
    """The same limbs by name; either list is enough, both must agree."""
    sigmas: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """OKS sigmas (ours); by default COCO's, by the joint's name."""
    derived_joints: dict[str, tuple[str, str]] | None = None
    """Joint -> the two joints it lies between, for datasets that lack it (ours).
    By default a neck lies between the shoulders."""

    @model_validator(mode="after")
    def _limbs_fit(self) -> PoseCategory:
        if self.num_joints != len(self.keypoints):
            raise ValueError(
                f"num_joints is {self.num_joints}, but {len(self.keypoints)} keypoints are named"
            )
        if len(set(self.keypoints)) != len(self.keypoints):
            raise ValueError("a keypoint is named twice")
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
        if self.sigmas and len(self.sigmas) != len(self.keypoints):
            raise ValueError(f"{len(self.sigmas)} sigmas for {len(self.keypoints)} keypoints")
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
    return path if path.is_file() else None


def load_skeleton(path: str | Path) -> Skeleton:
    """Read a pose configuration.

    Args:
        path: A file, or the bare name of a configuration that comes with the package.

    Raises:
        BodyPoseNetError: The file is missing or wrong.
    """
    path = Path(path)
    if not path.exists() and path.name == str(path):
        path = shipped_pose_configuration(path.name) or path
    configuration = PoseConfiguration.load(path)
    return Skeleton.from_pose_configuration(configuration.model_dump())
