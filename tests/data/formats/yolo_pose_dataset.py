"""Label files and `data.yaml` of Ultralytics."""

from .people import JOINTS

DATA = {
    "path": "../datasets/people",
    "train": "images/train",
    "val": "images/val",
    "kpt_shape": [4, 3],
    "flip_idx": [0, 2, 1, 3],
    "names": {0: "person"},
    "kpt_names": {0: list(JOINTS)},
}


def row(image, person, dimensions=3):
    """A row of a label file, with the six decimals that Ultralytics writes."""
    left, top, width, height = person.box
    values = [
        (left + width / 2) / image.width,
        (top + height / 2) / image.height,
        width / image.width,
        height / image.height,
    ]
    for name in JOINTS if person.keypoints else ():
        x, y, flag = person.keypoints.get(name, (0, 0, 0))
        values += [x / image.width, y / image.height]
        values += [flag] if dimensions == 3 else []
    return " ".join(["0", *(f"{value:.6f}" for value in values)]) + "\n"
