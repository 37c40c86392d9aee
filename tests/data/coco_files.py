"""Small annotation files and dataset specs for the tests of the conversion."""

import json

import numpy as np

JOINTS = ("head", "hand", "foot")

BOX = [10.0, 20.0, 40.0, 80.0]


def image(image_id=1, file_name=None, height=120, width=160):
    name = file_name or f"{image_id:04d}.jpg"
    return {"id": image_id, "file_name": name, "height": height, "width": width}


def person(annotation_id: int | None = 1, image_id=1, bbox=BOX, flags=(2, 2, 2), **changes):
    x, y, width, height = bbox
    points = [(x + width / 2, y), (x, y + height / 2), (x + width, y + height)]
    keypoints = [
        number
        for (px, py), flag in zip(points, flags, strict=True)
        for number in ((px, py, flag) if flag else (0, 0, 0))
    ]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "bbox": list(bbox),
        "area": width * height,
        "iscrowd": 0,
        "keypoints": keypoints,
        "num_keypoints": sum(flag > 0 for flag in flags),
        "segmentation": [[x, y, x + width, y, x + width, y + height, x, y + height]],
    } | changes


def points(bbox=BOX, missing=()):
    """Return the keypoints of `person`, (3, 2), as a model detects them."""
    keypoints = np.array(person(bbox=bbox)["keypoints"]).reshape(3, 3)[:, :2]
    keypoints[list(missing)] = 0
    return keypoints


def unlabeled(annotation_id, image_id=1, bbox=BOX, **changes):
    return person(annotation_id, image_id, bbox, (0, 0, 0), **changes)


def content(images, annotations):
    category = {"id": 1, "name": "person", "keypoints": list(JOINTS)}
    return {"images": images, "annotations": annotations, "categories": [category]}


def write_annotations(path, images, annotations):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content(images, annotations)))
    return path


def write_spec(folder, images, annotations, **changes):
    """Write a dataset with the same train and test data to `folder`; return its spec file."""
    write_annotations(folder / "annotations.json", images, annotations)
    split = {
        "images_root_dir_path": "images",
        "mask_root_dir_path": "masks",
        "annotation_root_dir_path": "annotations.json",
    }
    filters = {
        "min_acceptable_height": 10,
        "min_acceptable_width": 10,
        "min_acceptable_kpts": 2,
        "min_acceptable_interperson_dist_ratio": 0.3,
    }
    spec = {
        "dataset": "toy",
        "root_directory_path": str(folder),
        "train_data": split,
        "test_data": split,
        "categories": [{"name": "person", "num_joints": 3, "keypoints": list(JOINTS)}],
        "data_filtering_params": filters,
    }
    path = folder / "spec.json"
    path.write_text(json.dumps(spec | changes))
    return path
