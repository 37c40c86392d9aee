"""A category in COCO's convention: the keypoints of a dataset, or the joints of a network."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, model_validator

from bodyposenet.files import exists, is_file
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.loading import Block, Spec, log_once
from bodyposenet.specs.spec_file import SpecFile

Sigma = Annotated[float, Field(ge=1e-4, le=10)]


class KeypointCategory(Block):
    """The keypoints of a person and the limbs between them."""

    supercategory: str = "person"
    """Free."""
    id: int = 1
    """Of a dataset: the id of the annotation file's category of people, if none has the name; its
    keypoints must be these, unless the spec gives no name."""
    name: str = "person"
    """Of a dataset: the name of the annotation file's category of people, in any case. If none has
    the name, nor the id and the keypoints, people are those of the only one that has keypoints."""
    num_joints: int
    """Number of keypoints."""
    keypoints: tuple[str, ...] = Field(max_length=512)
    """Their names; of a network, in the order of its heatmaps. Annotation files are read by name;
    if they name no keypoints, these are in their order.
    `left` and `right`, or `l` and `r`, in a name make pairs: `left_hip`, `RightHip`, `hip-l`."""
    skeleton: tuple[tuple[int, int], ...] = Field(default=(), max_length=2048)
    """Limbs as pairs of keypoints counted from 1. In PAF order; those of a dataset are not used."""
    skeleton_edge_names: tuple[tuple[str, str], ...] = Field(default=(), max_length=2048)
    """The same limbs by name."""
    sigmas: tuple[Sigma, ...] = ()
    """OKS sigmas of the keypoints (ours); by default COCO's, by the joint's name."""

    @model_validator(mode="after")
    def _counts_agree(self) -> KeypointCategory:
        if self.num_joints != len(self.keypoints):
            raise ValueError(
                f"num_joints is {self.num_joints}, but {len(self.keypoints)} keypoints are named"
            )
        if len(set(self.keypoints)) != len(self.keypoints):
            raise ValueError("a keypoint is named twice")
        if self.sigmas and len(self.sigmas) != len(self.keypoints):
            raise ValueError(f"{len(self.sigmas)} sigmas for {len(self.keypoints)} keypoints")
        return self


DEFAULT_POSE_CONFIGURATION = "bpnet_18joints.json"

_OLD_AUXILIARY_LIMBS = "completing_limbs"
"""Older name of `auxiliary_limbs`, in files of earlier versions."""


class PoseCategory(KeypointCategory):
    """The joints and limbs that the network predicts; either list of limbs is enough."""

    derived_joints: dict[str, tuple[str, str]] | None = None
    """Joint -> the two joints it lies between, for datasets that lack it (ours).
    By default a neck lies between the shoulders."""
    auxiliary_limbs: tuple[tuple[str, str], ...] | None = Field(
        default=None, validation_alias=AliasChoices("auxiliary_limbs", _OLD_AUXILIARY_LIMBS)
    )
    """Limbs by name that `mode: accurate` assembles last and that start no person (ours).
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
        for edge in self.auxiliary_limbs or ():
            if edge not in (self.skeleton_edge_names or named):
                raise ValueError(f"auxiliary_limbs: {list(edge)} is not one of the limbs")
        return self


class PoseConfiguration(Spec):
    """The pose configuration (TAO reference, section 2.2)."""

    pose_config_type: str
    """Its name."""
    categories: tuple[PoseCategory, ...] = Field(min_length=1, max_length=1)
    """One category: people."""

    @classmethod
    def normalized_content(cls, file: SpecFile) -> dict[str, Any]:
        """Return the content of a file; an older name in it is mentioned in the log.

        Raises:
            BodyPoseNetError: The file is broken.
        """
        content = super().normalized_content(file)
        categories = content.get("categories")
        for index, category in enumerate(categories if isinstance(categories, list) else ()):
            if isinstance(category, dict) and _OLD_AUXILIARY_LIMBS in category:
                place = file.place(("categories", index, _OLD_AUXILIARY_LIMBS))
                log_once(f"{place} is deprecated: rename it auxiliary_limbs")
        return content


def bundled_pose_configuration(name: str) -> Path | None:
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
        path = bundled_pose_configuration(path.name) or path
    configuration = PoseConfiguration.load(path)
    return Skeleton.from_pose_configuration(configuration.model_dump())
