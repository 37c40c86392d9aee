"""Annotated people and their keypoints' visibility."""

import numpy as np

from bodyposenet.types import Person, Visibility


def test_labeled_classes():
    assert [v.name for v in Visibility if v.is_labeled] == ["VISIBLE", "ANNOTATABLE", "OCCLUDED"]


def test_center_of_a_person():
    person = Person(np.zeros((3, 3)), (10, 20, 4, 6), 24.0, False, None, 0, 1)
    assert person.center == (12, 23)
