"""The people of `people.py` as files of every annotation format."""

import json

import yaml

from bodyposenet.data.formats.coco_wholebody import JOINTS as WHOLEBODY_JOINTS
from bodyposenet.data.formats.mpii import JOINTS as MPII_JOINTS
from bodyposenet.skeleton import COCO_JOINTS

from . import cvat_export, label_studio_export, sloth_file, yolo_pose_dataset
from .people import IMAGES, JOINTS

NAMES_IN_COCO = {
    "head": "nose",
    "left_hand": "left_wrist",
    "right_hand": "right_wrist",
    "foot": "left_ankle",
}
"""Names of the joints in formats with fixed names."""

NAMES_IN_MPII = NAMES_IN_COCO | {"head": "head_top"}


def coco(folder, names=JOINTS, renamed=None, **more):
    """Write a file in COCO's format with other names of the joints."""
    images, annotations = [], []
    for image_id, image in enumerate(IMAGES, 1):
        size = {"height": image.height, "width": image.width}
        images.append({"id": image_id, "file_name": image.name} | size)
        for person in image.people:
            points = _points(person, names, renamed)
            values = [value for point in points for value in point]
            ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1}
            annotations.append(ids | {"bbox": person.box, "keypoints": values} | more)
    categories = [{"id": 1, "name": "person", "keypoints": names}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return _write(folder / "coco.json", content)


def _points(person, names, renamed):
    """Return x, y and flag of each joint, given the names of the format's joints."""
    found = {(renamed or {}).get(name, name): xy for name, xy in person.keypoints.items()}
    return [found.get(name, (0, 0, 0)) for name in names]


def _write(path, content):
    path.write_text(json.dumps(content))
    return path


def coco_wholebody(folder):
    return coco(folder, COCO_JOINTS, NAMES_IN_COCO, foot_kpts=[0] * 18)


def label_studio(folder):
    tasks = [
        label_studio_export.task(
            number, image, label_studio_export.annotation(label_studio_export.shapes(image))
        )
        for number, image in enumerate(IMAGES, 1)
    ]
    return _write(folder / "export.json", tasks)


def cvat(folder):
    """Write skeletons with boxes; a box without a skeleton cannot be a person."""
    elements = [
        cvat_export.image(
            image,
            [cvat_export.skeleton(person, number) for number, person in enumerate(image.people, 1)],
        )
        for image in IMAGES
    ]
    labels = cvat_export.skeleton_labels()
    path = folder / "annotations.xml"
    path.write_text(cvat_export.FILE.format(labels=labels, images="\n".join(elements)))
    return path


def yolo_pose(folder):
    (folder / "labels").mkdir()
    for image in IMAGES:
        rows = "".join(yolo_pose_dataset.row(image, person) for person in image.people)
        (folder / "labels" / image.name).with_suffix(".txt").write_text(rows)
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(yolo_pose_dataset.DATA))
    return path


def sloth(folder):
    return _write(folder / "labels.json", [sloth_file.entry(image) for image in IMAGES])


def mpii(folder):
    entries = []
    for image in IMAGES:
        for person in image.people:
            left, top, width, height = person.box
            points = _points(person, MPII_JOINTS, NAMES_IN_MPII)
            entries.append(
                {
                    "joints_vis": [int(flag > 0) for _, _, flag in points],
                    "joints": [[x + 1, y + 1] if flag else [-1, -1] for x, y, flag in points],
                    "image": image.name,
                    "scale": height / 200,
                    "center": [left + width / 2 + 1, top + height / 2 + 1],
                }
            )
    return _write(folder / "mpii.json", entries)


EXPORTS = {
    "coco": (coco, JOINTS),
    "coco_wholebody": (coco_wholebody, tuple(map(NAMES_IN_COCO.get, JOINTS))),
    "label_studio": (label_studio, JOINTS),
    "cvat": (cvat, JOINTS),
    "yolo_pose": (yolo_pose, JOINTS),
    "sloth": (sloth, JOINTS),
    "mpii": (mpii, tuple(map(NAMES_IN_MPII.get, JOINTS))),
}
"""By format: function that writes a file to a folder, and the names of `JOINTS` in it."""

assert set(NAMES_IN_COCO.values()) <= set(WHOLEBODY_JOINTS)
