"""A category in COCO's convention: the keypoints of a dataset, or the joints of a network."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from bodyposenet.specs.loading import Block

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
