"""The people that the tests write in every format, and what all readers must make of them."""

from dataclasses import dataclass, field

import cv2
import numpy as np

JOINTS = ("head", "left_hand", "right_hand", "foot")

LABELED = "labeled"


@dataclass(frozen=True)
class PersonLabels:
    """A person: box as left, top, width and height; keypoints as x, y and flag by name."""

    box: tuple[float, float, float, float]
    keypoints: dict[str, tuple[float, float, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageLabels:
    """An image of the folder that `write_images` writes, and its people."""

    name: str
    height: int
    width: int
    people: tuple[PersonLabels, ...] = ()


ANNE = PersonLabels(
    (10.5, 20.25, 60.0, 90.5),
    {
        "head": (40.125, 25.75, 2),
        "left_hand": (60.3, 70.6, 1),
        "right_hand": (12.7, 66.1, 2),
        "foot": (35.9, 108.4, 2),
    },
)
BERT = PersonLabels(
    (100.0, 15.5, 50.5, 80.0), {"head": (120.25, 18.0, 2), "foot": (130.5, 90.125, 2)}
)
CARL = PersonLabels(
    (5.0, 5.0, 50.0, 100.0), {"head": (20.0, 10.0, 2), "right_hand": (9.5, 50.5, 2)}
)
UNLABELED = PersonLabels((70.0, 10.0, 20.0, 60.0))

IMAGES = (
    ImageLabels("first.jpg", 120, 160, (ANNE, BERT)),
    ImageLabels("second photo.jpg", 110, 90, (CARL, UNLABELED)),
)


def write_images(folder, images=IMAGES):
    for image in images:
        path = folder / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((image.height, image.width, 3), 99, np.uint8)
        path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return folder


def assert_equal(dataset, images=IMAGES, *, flags=True, boxes=True):
    """Compare a dataset with the labels, to less than 0.01 pixels.

    Args:
        flags: Whether the format has visibility flags; otherwise all keypoints are visible.
        boxes: Whether it has boxes.
    """
    found = {image.file_name: image for image in dataset.images}
    assert sorted(found) == sorted(image.name for image in images)
    for image in images:
        read = found[image.name]
        assert (read.height, read.width) == (image.height, image.width)
        assert len(read.persons) == len(image.people)
        for person, labels in zip(read.persons, image.people, strict=True):
            expected = np.zeros((len(JOINTS), 3))
            for name, (x, y, flag) in labels.keypoints.items():
                expected[JOINTS.index(name)] = (x, y, flag if flags else 2)
            np.testing.assert_allclose(person.keypoints, expected, atol=0.01)
            if boxes:
                np.testing.assert_allclose(person.box, labels.box, atol=0.01)
