"""Statistics of annotated people."""

import numpy as np
import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.label_statistics import LabeledPeople, label_statistics
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from tests.data.standing_people import HEIGHT, WIDTH, standing_people, write_document

SKELETON = Skeleton("test", COCO_JOINTS, ((5, 6), (0, 1)))


@pytest.fixture
def images(tmp_path):
    """Four people, of whom the second has two joints, the third none; the last one is a crowd."""
    document = standing_people(count=4)
    people = document["annotations"]
    people[1]["keypoints"] = [10, 10, 2, 13, 14, 1, *[0] * 45]
    people[2]["keypoints"] = [0] * 51
    people[3]["iscrowd"] = 1
    document["images"].append(document["images"][0] | {"id": 3, "file_name": "3.jpg"})
    return read_coco(write_document(tmp_path, document), COCO_JOINTS).images


def test_counts_and_sizes(images):
    statistics = label_statistics(images, SKELETON, {1, 2})
    assert statistics.images == 3
    assert statistics.people_per_image.tolist() == [2, 1, 0]
    assert (statistics.people, statistics.labeled_people) == (3, 2)
    assert (statistics.unlabeled_people, statistics.crowds) == (1, 1)
    assert statistics.image_sizes.tolist() == [[WIDTH, HEIGHT]] * 3
    assert statistics.joints_per_person.tolist() == [17, 2]
    assert statistics.joint_counts.tolist() == [2, 2, *[1] * 15]
    heights = [person.box[3] for person in images[0].persons]
    assert statistics.person_sizes == pytest.approx(heights)
    assert statistics.relative_sizes == pytest.approx(np.array(heights) / WIDTH)


def test_limb_lengths_are_relative_to_the_size(images):
    statistics = label_statistics(images, SKELETON, {1, 2})
    lengths = statistics.limb_lengths
    assert lengths.shape == (2, 2)
    assert lengths[0, 0] == pytest.approx(0.22, abs=0.03)  # between the shoulders
    assert np.isnan(lengths[1, 0])
    assert lengths[1, 1] == pytest.approx(5 / statistics.person_sizes[1])
    assert statistics.median_limb_lengths[0] == lengths[0, 0]


def test_flags_decide_what_is_labeled(images):
    people = LabeledPeople.collect(images, len(COCO_JOINTS), {2})
    assert people.labeled[1].sum() == 1
    assert np.isnan(people.points[1, 1]).all()


def test_a_dataset_without_people_has_statistics():
    statistics = label_statistics([], SKELETON, {1, 2})
    assert (statistics.images, statistics.people, statistics.labeled_people) == (0, 0, 0)
    assert np.isnan(statistics.median_limb_lengths).all()
