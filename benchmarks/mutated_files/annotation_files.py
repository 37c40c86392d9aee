"""Valid annotation files of all formats but COCO's, and their readers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import yaml

from bodyposenet.data.coco import read_coco
from bodyposenet.data.formats import describe_annotations
from bodyposenet.data.formats.coco_wholebody import JOINTS as WHOLEBODY_JOINTS
from bodyposenet.data.formats.mpii import JOINTS as MPII_JOINTS
from bodyposenet.skeleton import COCO_JOINTS

_SKELETON = "<label><name>person</name><type>skeleton</type></label>"


def write_annotation_files(folder: Path) -> None:
    """Write the annotations of the drawn test images in all formats.

    Args:
        folder: Folder of the drawn dataset.
    """
    content = json.loads((folder / "annotations" / "test.json").read_text())
    target = folder / "formats"
    target.mkdir()
    people = {
        image["id"]: [
            {"box": entry["bbox"], "points": _points(entry)}
            for entry in content["annotations"]
            if entry["image_id"] == image["id"]
        ]
        for image in content["images"]
    }
    images = [(image, people[image["id"]]) for image in content["images"]]
    tasks = [_label_studio_task(image, found) for image, found in images]
    (target / "label_studio.json").write_text(json.dumps(tasks))
    entries = [_minimal_entry(task) for task in tasks]
    (target / "label_studio_min.json").write_text(json.dumps(entries))
    (target / "sloth.json").write_text(json.dumps([_sloth_image(*pair) for pair in images]))
    mpii = [_mpii_entry(image, person) for image, found in images for person in found]
    (target / "mpii.json").write_text(json.dumps(mpii))
    for entry in content["annotations"]:
        entry |= {"foot_kpts": [0] * 18, "face_kpts": [1, 1, 2] * 68}
    (target / "wholebody.json").write_text(json.dumps(content))
    (target / "cvat.xml").write_text(_cvat_file(images))
    _write_yolo_dataset(target / "yolo", folder / "test", images)


def read_annotations(folder: Path, joints: tuple[str, ...], path: Path) -> None:
    """Read an annotation file of any format like all commands.

    Args:
        folder: Folder of the drawn dataset.
        joints: Names of the joints.
        path: The annotation file.
    """
    describe_annotations(path, folder / "test")
    read_coco(path, joints, images_folder=folder / "test", mode="test")


def read_yolo_description(folder: Path, path: Path) -> None:
    """Read a mutated `data.yaml` with the valid images and labels."""
    images = folder / "formats" / "yolo" / "images"
    describe_annotations(path, images)
    read_coco(path, COCO_JOINTS, images_folder=images, mode="test")


def read_yolo_labels(folder: Path, path: Path) -> None:
    """Read a mutated label file with the valid `data.yaml` and images."""
    copy = path.parent / "yolo"
    shutil.copytree(folder / "formats" / "yolo", copy, dirs_exist_ok=True)
    shutil.copy(path, copy / "labels")
    read_coco(copy / "data.yaml", COCO_JOINTS, images_folder=copy / "images")


ANNOTATION_FILES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Label Studio": ("label_studio.json", COCO_JOINTS),
    "Label Studio, JSON-MIN": ("label_studio_min.json", COCO_JOINTS),
    "Sloth": ("sloth.json", COCO_JOINTS),
    "MPII": ("mpii.json", MPII_JOINTS),
    "COCO-WholeBody": ("wholebody.json", WHOLEBODY_JOINTS),
    "CVAT": ("cvat.xml", COCO_JOINTS),
}
"""File in the folder `formats`, and names of the joints, by format; without YOLO-pose."""


def _points(entry: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the labeled keypoints of a COCO annotation by name."""
    values = entry["keypoints"]
    return {
        name: (values[3 * index], values[3 * index + 1])
        for index, name in enumerate(COCO_JOINTS)
        if values[3 * index + 2]
    }


def _label_studio_task(image: Mapping[str, Any], people: list[dict[str, Any]]) -> dict[str, Any]:
    width, height = image["width"], image["height"]
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    results = []
    for number, person in enumerate(people):
        left, top, box_width, box_height = person["box"]
        box = {
            "x": 100 * left / width,
            "y": 100 * top / height,
            "width": 100 * box_width / width,
            "height": 100 * box_height / height,
            "rotation": 0,
            "rectanglelabels": ["person"],
        }
        results.append({"id": f"b{number}", "type": "rectanglelabels", "value": box} | size)
        for name, (x, y) in person["points"].items():
            point = {"x": 100 * x / width, "y": 100 * y / height, "width": 0.5}
            value = point | {"keypointlabels": [name]}
            region = {"id": f"b{number}{name}", "parentID": f"b{number}"}
            results.append(region | {"type": "keypointlabels", "value": value} | size)
    results.append({"type": "relation", "from_id": "b0nose", "to_id": "b0"})
    annotation = {"id": 1, "result": results, "was_cancelled": False, "updated_at": "2026-01-01"}
    address = f"/data/upload/1/1a2b3c4d-{image['file_name']}"
    return {"id": image["id"], "annotations": [annotation], "data": {"image": address}}


def _minimal_entry(task: Mapping[str, Any]) -> dict[str, Any]:
    regions = [
        result["value"] | {key: result[key] for key in ("original_width", "original_height")}
        for result in task["annotations"][0]["result"]
        if "value" in result
    ]
    return {"image": task["data"]["image"], "id": task["id"], "box": regions, "annotation_id": 1}


def _sloth_image(image: Mapping[str, Any], people: list[dict[str, Any]]) -> dict[str, Any]:
    labels: list[dict[str, Any]] = []
    for number, person in enumerate(people):
        box = dict(zip(("x", "y", "width", "height"), person["box"], strict=True))
        labels.append({"class": "person", "id": number} | box)
        labels += [
            {"class": name, "id": number, "x": x, "y": y}
            for name, (x, y) in person["points"].items()
        ]
    return {"class": "image", "filename": image["file_name"], "annotations": labels}


def _mpii_entry(image: Mapping[str, Any], person: Mapping[str, Any]) -> dict[str, Any]:
    left, top, width, height = person["box"]
    points = [person["points"].get(name) for name in MPII_JOINTS]
    return {
        "image": image["file_name"],
        "center": [left + width / 2, top + height / 2],
        "scale": height / 200,
        "joints": [point or (-1, -1) for point in points],
        "joints_vis": [int(point is not None) for point in points],
    }


def _cvat_file(images: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> str:
    joints = "".join(
        f"<label><name>{name}</name><type>points</type><parent>person</parent></label>"
        for name in COCO_JOINTS
    )
    meta = f"<meta><task><labels>{_SKELETON}{joints}</labels></task></meta>"
    elements = []
    for image, people in images:
        size = f'width="{image["width"]}" height="{image["height"]}"'
        elements.append(f"<image name={quoteattr(image['file_name'])} {size}>")
        for number, person in enumerate(people, 1):
            left, top, width, height = person["box"]
            edges = f'xtl="{left}" ytl="{top}" xbr="{left + width}" ybr="{top + height}"'
            elements.append(f'<box label="box" {edges} group_id="{number}" rotation="0.0"/>')
            elements.append(f'<skeleton label="person" group_id="{number}">')
            elements += [
                f'<points label="{name}" outside="0" occluded="0" points="{x},{y}"/>'
                for name, (x, y) in person["points"].items()
            ]
            elements.append("</skeleton>")
        elements.append("</image>")
    return f"<annotations>{meta}{''.join(elements)}</annotations>"


def _write_yolo_dataset(
    target: Path, photos: Path, images: list[tuple[dict[str, Any], list[dict[str, Any]]]]
) -> None:
    shutil.copytree(photos, target / "images")
    (target / "labels").mkdir()
    for image, people in images:
        width, height = image["width"], image["height"]
        rows = []
        for person in people:
            left, top, box_width, box_height = person["box"]
            row = [0, (left + box_width / 2) / width, (top + box_height / 2) / height]
            row += [box_width / width, box_height / height]
            for name in COCO_JOINTS:
                x, y = person["points"].get(name, (0, 0))
                row += [x / width, y / height, 2 * (name in person["points"])]
            rows.append(" ".join(map(str, row)))
        path = (target / "labels" / image["file_name"]).with_suffix(".txt")
        path.write_text("\n".join(rows) + "\n")
    description = {
        "path": ".",
        "train": "images",
        "val": ["images"],
        "kpt_shape": [len(COCO_JOINTS), 3],
        "names": {0: "person"},
        "kpt_names": {0: list(COCO_JOINTS)},
        "flip_idx": list(range(len(COCO_JOINTS))),
    }
    (target / "data.yaml").write_text(yaml.safe_dump(description))
