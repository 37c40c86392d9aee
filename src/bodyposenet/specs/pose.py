"""Keypoint categories in COCO's format, and the pose configuration of a network."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, model_validator

from bodyposenet.files import exists, is_file
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.loading import Block, Spec, log_once
from bodyposenet.specs.spec_file import SpecFile

MAX_KEYPOINTS = 512
"""Largest number of keypoints of a person."""

Sigma = Annotated[float, Field(ge=1e-4, le=10)]


class KeypointCategory(Block):
    """Keypoints of a person, and limbs between them."""

    supercategory: str = "person"
    """Any text."""
    id: int = 1
    """Datasets only: id of the category of people in the annotation file, used if no category has
    the name and the keypoints match, or if the spec has an id but no name."""
    name: str = "person"
    """Datasets only: name of the category of people in the annotation file; case is ignored. If no
    category matches by name, or by id and keypoints, the only category with keypoints is used."""
    num_joints: int
    """Number of keypoints."""
    keypoints: tuple[str, ...] = Field(max_length=MAX_KEYPOINTS)
    """Names of the keypoints; of a network, in the order of its heatmaps. Keypoints of annotation
    files are matched by name, or by order if the file has no names. Left and right keypoints are
    paired by `left` and `right`, or `l` and `r`, in the name: `left_hip`, `RightHip`, `hip-l`."""
    skeleton: tuple[tuple[int, int], ...] = Field(default=(), max_length=2048)
    """Limbs as pairs of keypoint numbers (from 1), in the order of the PAFs. Of a dataset, they are
    only used to draw and check its labels."""
    skeleton_edge_names: tuple[tuple[str, str], ...] = Field(default=(), max_length=2048)
    """The same limbs as pairs of names."""
    sigmas: tuple[Sigma, ...] = ()
    """OKS sigmas of the keypoints (not in TAO). Default: COCO's sigmas, by name."""

    @model_validator(mode="after")
    def _counts_agree(self) -> KeypointCategory:
        """Check that the numbers of keypoints agree, and that keypoints are not repeated."""
        if self.num_joints != len(self.keypoints):
            raise ValueError(
                f"num_joints is {self.num_joints}, but there are {len(self.keypoints)} keypoints"
            )
        if len(set(self.keypoints)) != len(self.keypoints):
            raise ValueError("repeated keypoint names")
        if self.sigmas and len(self.sigmas) != len(self.keypoints):
            raise ValueError(
                f"expected {len(self.keypoints)} sigmas, one per keypoint, got {len(self.sigmas)}"
            )
        return self


DEFAULT_POSE_CONFIGURATION = "bpnet_18joints.json"
COCO_POSE_CONFIGURATION = "coco_17joints.json"

_OLD_AUXILIARY_LIMBS = "completing_limbs"
"""Older name of `auxiliary_limbs`, in files of earlier versions."""


class PoseCategory(KeypointCategory):
    """Joints and limbs that the network predicts; one of both lists of limbs is sufficient."""

    derived_joints: dict[str, tuple[str, str]] | None = None
    """Joints that are the midpoint of two others, for datasets without them (not in TAO). Default:
    neck, between the shoulders."""
    auxiliary_limbs: tuple[tuple[str, str], ...] | None = Field(
        default=None, validation_alias=AliasChoices("auxiliary_limbs", _OLD_AUXILIARY_LIMBS)
    )
    """Limbs, as pairs of names, that `mode: accurate` assembles last and that do not start a person
    (not in TAO). Default: those between a shoulder and an ear."""

    @model_validator(mode="after")
    def _limbs_fit(self) -> PoseCategory:
        """Check that there are limbs, that they connect keypoints, and that both lists agree."""
        if len(self.keypoints) < 2:
            raise ValueError(
                "expected at least two keypoints and a limb: people are assembled along limbs"
            )
        if not self.skeleton and not self.skeleton_edge_names:
            raise ValueError("missing limbs: set skeleton or skeleton_edge_names")
        for name in {name for edge in self.skeleton_edge_names for name in edge}:
            if name not in self.keypoints:
                raise ValueError(f"skeleton_edge_names: {name} is not a keypoint")
        for start, end in self.skeleton:
            if start == end or min(start, end) < 1 or max(start, end) > self.num_joints:
                raise ValueError(
                    f"skeleton: [{start}, {end}] is not a pair of keypoint numbers (from 1)"
                )
        named = [
            (self.keypoints[start - 1], self.keypoints[end - 1]) for start, end in self.skeleton
        ]
        if self.skeleton and self.skeleton_edge_names and named != list(self.skeleton_edge_names):
            raise ValueError("skeleton and skeleton_edge_names have different limbs")
        for edge in self.auxiliary_limbs or ():
            if edge not in (self.skeleton_edge_names or named):
                raise ValueError(f"auxiliary_limbs: {list(edge)} is not one of the limbs")
        return self


class PoseConfiguration(Spec):
    """Pose configuration of a network (TAO reference, section 2.2)."""

    pose_config_type: str
    """Name of the pose configuration."""
    categories: tuple[PoseCategory, ...] = Field(min_length=1, max_length=1)
    """A single category, for people."""

    @classmethod
    def normalized_content(cls, file: SpecFile) -> dict[str, Any]:
        """Return the content of a file; a deprecated key is logged.

        Raises:
            BodyPoseNetError: The file is invalid.
        """
        content = super().normalized_content(file)
        categories = content.get("categories")
        for index, category in enumerate(categories if isinstance(categories, list) else ()):
            if isinstance(category, dict) and _OLD_AUXILIARY_LIMBS in category:
                place = file.place(("categories", index, _OLD_AUXILIARY_LIMBS))
                log_once(f"{place} is deprecated: rename it auxiliary_limbs")
        return content


def bundled_pose_configuration(name: str) -> Path | None:
    """Return the path of a pose configuration that the package includes, by file name, or None."""
    path = Path(str(files("bodyposenet") / "resources" / "pose")) / name
    return path if is_file(path) else None


def load_skeleton(path: str | Path) -> Skeleton:
    """Load the skeleton of a pose configuration.

    Args:
        path: File, or the name of a pose configuration that is included in the package.

    Returns:
        The skeleton.

    Raises:
        BodyPoseNetError: The file is missing or invalid.
    """
    path = Path(path)
    if not exists(path) and path.name == str(path):
        path = bundled_pose_configuration(path.name) or path
    configuration = PoseConfiguration.load(path)
    return Skeleton.from_pose_configuration(configuration.model_dump())


@cache
def bundled_skeleton(name: str) -> Skeleton:
    """Load the skeleton of a pose configuration that is included in the package.

    In contrast to `load_skeleton`, a file of the same name in the working directory, such as a copy
    that was changed, has no effect.

    Args:
        name: File name of the pose configuration.
    """
    return load_skeleton(str(bundled_pose_configuration(name)))
