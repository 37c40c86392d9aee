"""The poses of many images in, `detections.json` out: TAO's schema and a little more.

Top level: the pose configuration (`pose_config_type`, `categories`), `keypoint_names`, the
`inference_spec`, the input JSON's own keys, and `images`. Each of these has `full_image_path`, its
own fields from the input, `keypoints` (a list of [x, y] per person, [0, 0] where a joint is
missing), `scores` (one per person) and `keypoint_scores` (a list per person, 0 where a joint is
missing); `viz_id`, the number of its picture, if there is one. An image that could not be read has
`error` instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import read_json, write_json
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import Poses

FILE_NAME = "detections.json"


class DetectionsEntry(BaseModel):
    """One entry of `images`, to check what was written before; the input's own fields are free."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    full_image_path: str
    keypoints: list[list[list[float]]] = []
    scores: list[float] = []
    keypoint_scores: list[list[float]] = []
    inferred: list[list[bool]] = []
    viz_id: int = 0
    error: str = ""


def picture_name(number: int) -> str:
    """Name of the picture of an image."""
    return f"{number}.png"


def describe_image(path: Path, found: Poses | str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of `images`.

    Args:
        path: The image file.
        found: The people in it, or why it could not be read.
        fields: What the input says of the image.
    """
    results = {"keypoints", "scores", "keypoint_scores", "inferred", "track_ids", "viz_id", "error"}
    own = {key: value for key, value in fields.items() if key not in results}
    result = found.to_dict() if isinstance(found, Poses) else {"error": found}
    return own | {"full_image_path": path.as_posix()} | result


def write_detections(
    path: Path,
    skeleton: Skeleton,
    spec: InferenceSpec,
    images: Sequence[Mapping[str, Any]],
    fields: Mapping[str, Any] | None = None,
) -> None:
    """Write the file at once.

    Args:
        path: Where to.
        skeleton: The joints and limbs of all poses.
        spec: How the poses were found.
        images: Entries of `describe_image`.
        fields: The input JSON's own keys; those of this schema are replaced.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    document = {
        **(fields or {}),
        **skeleton.to_pose_configuration(),
        "keypoint_names": list(skeleton.joints),
        "inference_spec": spec.model_dump(),
        "images": list(images),
    }
    write_json(path, document)


def pictures_of(entries: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names of the pictures that entries of `images` tell of."""
    return {picture_name(entry["viz_id"]) for entry in entries if "viz_id" in entry}


def read_pictures(path: Path) -> set[str]:
    """Names of the pictures that a file of a former run tells of; none where there is no such file.

    Args:
        path: Where it was written.
    """
    try:
        return pictures_of(read_json(path)["images"])
    except (BodyPoseNetError, KeyError, TypeError):  # none, or not one of ours
        return set()
