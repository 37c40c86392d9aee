"""CVAT: exports in the format "CVAT for images 1.1"."""

import json

import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.formats import describe_annotations
from bodyposenet.errors import BodyPoseNetError

from .cvat_export import FILE, box, image, label, points, skeleton, skeleton_labels
from .people import ANNE, BERT, IMAGES, JOINTS, ImageLabels, assert_equal, write_images


@pytest.fixture
def read(tmp_path):
    write_images(tmp_path / "images")

    def run(images, labels=None, joints=JOINTS, **options):
        path = tmp_path / "annotations.xml"
        labels = skeleton_labels() if labels is None else labels
        path.write_text(FILE.format(labels=labels, images="\n".join(images)))
        return read_coco(path, joints, images_folder=tmp_path / "images", **options)

    return run


def test_people_are_skeletons_with_the_box_of_their_group(read, tmp_path):
    first, second = IMAGES
    second = ImageLabels(second.name, second.height, second.width, second.people[:1])
    images = [
        image(one, [skeleton(person, group) for group, person in enumerate(one.people, 1)])
        for one in (first, second)
    ]
    assert_equal(read(images), [first, second])
    assert_equal(read(images, annotation_format="cvat"), [first, second])
    found = describe_annotations(tmp_path / "annotations.xml", tmp_path / "images")
    person = found.categories[0]
    assert (found.format, person.people, person.name) == ("cvat", 3, "person")
    assert (person.keypoints, person.limbs) == (JOINTS, ((0, 1), (0, 2), (0, 3)))


def test_a_skeleton_needs_no_box(read):
    dataset = read([image(IMAGES[0], map(skeleton, (ANNE, BERT)))])
    assert_equal(dataset, IMAGES[:1], boxes=False)
    assert dataset.images[0].persons[0].box == pytest.approx((12.7, 25.75, 47.6, 82.65))


def test_other_shapes_are_skipped_and_counted(read):
    other = '<polygon label="dog" points="1,1;2,2;3,1" occluded="0" z_order="0"></polygon>'
    hidden = '<skeleton label="person"><points label="head" outside="1" points="1,2"/></skeleton>'
    shapes = [skeleton(ANNE), other, hidden, box(BERT), points("head", 1, 2, 2)]
    dataset = read([image(IMAGES[0], shapes)])
    assert_equal(dataset, [ImageLabels("first.jpg", 120, 160, (ANNE,))], boxes=False)
    assert sorted(dataset.skipped.values()) == [1, 1, 1, 1]


@pytest.mark.parametrize("group", [' group_id="{}"', ""])
def test_points_and_boxes_without_skeletons_are_grouped(read, group):
    shapes = []
    for number, person in enumerate(IMAGES[0].people, 1):
        attributes = group.format(number)
        shapes.append(box(person, "person", attributes))
        shapes += [points(name, *xy, attributes) for name, xy in person.keypoints.items()]
    labels = "\n".join([label("person", "rectangle"), *(label(n, "points") for n in JOINTS)])
    assert_equal(read([image(IMAGES[0], shapes)], labels), IMAGES[:1])


def test_single_points_in_tasks_with_skeletons_are_skipped(read):
    ball = points("ball", 5, 6, 2)
    images = [image(IMAGES[0], [ball]), image(IMAGES[1], [skeleton(ANNE), ball])]
    dataset = read(images, skeleton_labels() + label("ball", "points"))
    assert [len(each.persons) for each in dataset.images] == [0, 1]
    assert sum(dataset.skipped.values()) == 2


def test_a_rotated_box_is_replaced_by_the_box_around_it(read):
    rotated = box(BERT, "person", ' rotation="90.00"')
    dataset = read([image(IMAGES[0], [rotated])])
    assert dataset.images[0].persons[0].box == pytest.approx((85.25, 30.25, 80, 50.5))


def test_the_skeleton_can_have_another_name(read):
    shapes = [skeleton(ANNE).replace('"person"', '"athlete"')]
    dataset = read([image(IMAGES[0], shapes)], skeleton_labels("athlete"), category="athlete")
    assert dataset.images[0].persons[0].num_keypoints == 4


def test_a_joint_that_the_skeleton_does_not_have_is_an_error(read):
    with pytest.raises(BodyPoseNetError, match="tail"):
        read([image(IMAGES[0], [skeleton(ANNE)])], joints=(*JOINTS, "tail"))


@pytest.mark.parametrize(
    ("old", "new", "facts"),
    [
        ('points="40.12,25.75"', 'points="40.12"', ("'40.12'",)),
        ('points="40.12,25.75"', 'points="nan,1"', ("'nan,1'",)),
        ('label="left_hand"', 'label="head"', ("'head'",)),
        ('label="left_hand"', 'name="head"', ("label",)),
        ('label="left_hand"', 'label="tail"', ("'person'", "'tail'")),
        ('label="person"', 'label="dog"', ("'dog'", "'head'")),
        ('width="160"', "", ("width", "None")),
        ('width="160"', 'width="0"', ("width",)),
        ('xtl="10.50"', 'xtl="a"', ("xtl", "'a'")),
        ('<image id="0" name="first.jpg"', "<image", ("name",)),
    ],
)
def test_invalid_values_are_errors_with_line_and_value(read, old, new, facts):
    text = image(IMAGES[0], [skeleton(ANNE, 1)])
    assert old in text
    with pytest.raises(BodyPoseNetError) as caught:
        read([text.replace(old, new)])
    assert all(fact in caught.value.what for fact in ("annotations.xml:", *facts))


def write(tmp_path, text):
    path = tmp_path / "a.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>', "DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', "DOCTYPE"),
        ("<annotations><image></annotations>", "a.xml:1: not valid XML"),
        ("<annotations>" + "<a>" * 100_000, "nested"),
        ('<?xml version="1.0" encoding="none"?><annotations/>', "not valid XML"),
        (b"<annotations>\xff</annotations>", "not valid XML"),
        ("<annotations><track id='0' label='person'/></annotations>", "CVAT for images"),
        ("<annotation><object/></annotation>", "image"),
        ("<annotations/>", "image"),
    ],
)
def test_other_xml_files_are_errors(tmp_path, text, fact):
    with pytest.raises(BodyPoseNetError) as caught:
        read_coco(write(tmp_path, text), JOINTS)
    assert fact in str(caught.value)


def test_utf16_cannot_hide_a_document_type(tmp_path):
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    with pytest.raises(BodyPoseNetError, match="DOCTYPE"):
        read_coco(write(tmp_path, text.encode("utf-16")), JOINTS, annotation_format="cvat")


def test_the_export_as_coco_keypoints_lists_points_as_categories(tmp_path):
    """The structure of CVAT's "COCO Keypoints 1.0", which is written by Datumaro."""
    folder = tmp_path / "annotations"
    folder.mkdir()
    category = {"id": 1, "name": "person", "supercategory": "", "keypoints": JOINTS}
    points_of = [
        {"id": number, "name": joint, "supercategory": "person", "keypoints": [], "skeleton": []}
        for number, joint in enumerate(JOINTS, 2)
    ]
    size = {"height": 120, "width": 160, "license": 0, "date_captured": 0}
    entry = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [], "iscrowd": 0}
    values = [value for joint in JOINTS for value in ANNE.keypoints[joint]]
    attributes = {"occluded": False, "keyframe": False}
    box = {"area": 5430.0, "bbox": ANNE.box, "attributes": attributes}
    content = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "version": ""},
        "categories": [category | {"skeleton": [[1, 2], [1, 3]]}, *points_of],
        "images": [{"id": 1, "file_name": "first.jpg", "flickr_url": "", "coco_url": ""} | size],
        "annotations": [entry | box | {"keypoints": values, "num_keypoints": 4}],
    }
    (folder / "person_keypoints_default.json").write_text(json.dumps(content))
    dataset = read_coco(tmp_path, JOINTS)  # the folder of the unzipped export
    assert_equal(dataset, [ImageLabels("first.jpg", 120, 160, (ANNE,))])
    assert not dataset.repairs
    person, *others = describe_annotations(tmp_path).categories
    assert (person.name, person.limbs, len(others)) == ("person", ((0, 1), (0, 2)), 4)
