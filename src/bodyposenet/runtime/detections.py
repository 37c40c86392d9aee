"""Writing and reading `detections.json`: TAO's schema with a few more keys.

Top level: the pose configuration (`pose_config_type`, `categories`), `keypoint_names`, the
`inference_spec`, the input JSON's own keys, and `images`. Each of these has `full_image_path`, its
own fields from the input, `keypoints` (a list of [x, y] per person, [0, 0] where a joint is
missing), `scores` (one per person) and `keypoint_scores` (a list per person, 0 where a joint is
missing). If the image was drawn, it also has `viz_id`, its place in the input, and `viz_name`, the
file name of its picture. An image that could not be read has `error` instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import read_json, write_json
from bodyposenet.poses import Poses
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec

FILE_NAME = "detections.json"

_RESULT_KEYS = {
    "keypoints", "scores", "keypoint_scores", "inferred", "track_ids", "viz_id", "viz_name",
    "error",
}  # fmt: skip
"""Keys of an entry that the input JSON cannot set."""


class DetectionsEntry(BaseModel):
    """One entry of `images`, to check what was written before; the input's own fields are free."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    full_image_path: str
    keypoints: list[list[list[float]]] = []
    scores: list[float] = []
    keypoint_scores: list[list[float]] = []
    inferred: list[list[bool]] = []
    viz_id: int = 0
    viz_name: str = ""
    error: str = ""


def describe_image(
    path: Path | str, found: Poses | str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """One entry of `images`.

    Args:
        path: The image file, or its address.
        found: The people in it, or why it could not be read.
        fields: What the input says of the image.
    """
    own = {key: value for key, value in fields.items() if key not in _RESULT_KEYS}
    result = found.to_dict() if isinstance(found, Poses) else {"error": found}
    return own | {"full_image_path": path if isinstance(path, str) else path.as_posix()} | result


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
    """File names of the pictures of `images` entries."""
    return {picture for entry in entries if (picture := picture_of(entry))}


def picture_of(entry: Mapping[str, Any]) -> str:
    """File name of an entry's picture, empty if there is none.

    Files of versions before 0.2 name pictures by `viz_id` alone.
    """
    if "viz_name" in entry:
        return str(entry["viz_name"])
    return f"{entry['viz_id']}.png" if "viz_id" in entry else ""


def read_pictures(path: Path) -> set[str]:
    """File names of the pictures that a former run listed; empty if there is no such file.

    Args:
        path: The `detections.json` of that run.
    """
    try:
        return pictures_of(read_json(path)["images"])
    except (BodyPoseNetError, KeyError, TypeError):  # none, or not one of ours
        return set()
