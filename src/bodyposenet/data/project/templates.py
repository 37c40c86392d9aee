"""Specs and pose configurations of the package, to copy and to change."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from bodyposenet.errors import BodyPoseNetError, closest
from bodyposenet.files import atomic_write, refuse_existing

_PURPOSES = {
    "bpnet_train_lightweight_openpose_coco.yaml": "train spec: lightweight OpenPose on COCO",
    "bpnet_train_m1_coco.yaml": "train spec of TAO's guide: vgg on COCO",
    "coco_spec.json": "dataset spec of COCO",
    "infer_spec.yaml": "inference spec of TAO's guide",
    "infer_spec_accurate.yaml": "inference spec: every option of the decoder",
    "bpnet_18joints.json": "pose configuration of the default model: COCO's joints and a neck",
    "bpnet_18joints_22limbs.json": "pose configuration: the same with three limbs more",
    "coco_17joints.json": "pose configuration: COCO's joints and limbs",
}
"""File name -> what it is."""


def list_templates() -> str:
    """Return the names of the templates and what they are, one a line."""
    width = max(map(len, _PURPOSES))
    return "\n".join(f"{name:<{width}}  {purpose}" for name, purpose in _PURPOSES.items())


def copy_template(name: str, folder: Path, *, overwrite: bool) -> Path:
    """Copy a template to a folder.

    Args:
        name: File name of the template.
        folder: The folder; created if missing.
        overwrite: Whether a file of this name may be replaced.

    Returns:
        Path of the copy.

    Raises:
        BodyPoseNetError: There is no such template, or the file exists or cannot be written.
    """
    if name not in _PURPOSES:
        close = closest(name, _PURPOSES)
        hint = f"Did you mean {close[0]}?" if close else f"Templates:\n{list_templates()}"
        raise BodyPoseNetError(f"unknown template: {name}", hint)
    path = folder / name
    refuse_existing(path, overwrite=overwrite)
    resources = files("bodyposenet") / "resources"
    kind = "pose" if (resources / "pose" / name).is_file() else "specs"
    with atomic_write(path) as file:
        file.write((resources / kind / name).read_bytes())
    return path
