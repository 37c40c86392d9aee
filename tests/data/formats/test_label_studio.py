"""Label Studio: exports in the formats JSON and JSON-MIN."""

import json
from xml.etree import ElementTree

import pytest

from bodyposenet.data.coco import read_coco
from bodyposenet.data.formats import describe_annotations
from bodyposenet.data.formats.label_studio import labeling_configuration
from bodyposenet.errors import BodyPoseNetError

from .label_studio_export import annotation, points, result, shapes, task
from .people import (
    ANNE,
    BERT,
    IMAGES,
    JOINTS,
    ImageLabels,
    PersonLabels,
    assert_equal,
    write_images,
)


@pytest.fixture
def read(tmp_path):
    """Write a file beside the images and read it."""
    write_images(tmp_path / "images")

    def run(content, **options):
        path = tmp_path / "export.json"
        path.write_text(json.dumps(content))
        return read_coco(path, JOINTS, images_folder=tmp_path / "images", **options)

    return run


@pytest.mark.parametrize("link", ["parentID", "relation", "position"])
def test_people_are_boxes_with_keypoints(read, link):
    tasks = [task(n, image, annotation(shapes(image, link))) for n, image in enumerate(IMAGES, 1)]
    assert_equal(read(tasks))
    assert_equal(read(tasks, annotation_format="label_studio"))


@pytest.mark.parametrize("box", ["inside", "none"])
def test_parents_can_be_nested(read, box):
    """Each keypoint is the child of the previous one, the first one is a child of the box."""
    size = (120, 160)
    joints = [shape for shape in points("joint", ANNE, size) if shape["type"] == "keypointlabels"]
    parents = ["box0", *(joint["id"] for joint in joints)]
    if box == "none":
        parents[0] = joints[-1]["id"]  # a cycle
    chain = [joint | {"parentID": parent} for joint, parent in zip(joints, parents, strict=False)]
    boxes = [shape for shape in shapes(IMAGES[0]) if shape["id"] == "box0"]
    results = chain[::-1] + (boxes if box == "inside" else [])
    dataset = read([task(1, IMAGES[0], annotation(results))])
    assert [person.num_keypoints for person in dataset.images[0].persons] == [4]


def test_labels_of_more_joints_than_people_have_are_an_error(read):
    size = (120, 160)
    value = {"x": 10, "y": 10, "width": 1}
    results = [
        result("keypointlabels", str(n), size, value | {"keypointlabels": [str(n)]})
        for n in range(600)
    ]
    with pytest.raises(BodyPoseNetError, match="600"):
        read([task(1, IMAGES[0], annotation(results))])


@pytest.mark.parametrize(
    "address",
    ["/data/local-files/?d=photos/{}", "s3://bucket/photos/{}", "https://a.org:1/b/{}?key=1", "{}"],
)
def test_images_are_found_by_the_end_of_their_address(read, address):
    entries = [annotation(shapes(image)) for image in IMAGES]
    tasks = [
        task(number, image, entry, address=address)
        for number, (image, entry) in enumerate(zip(IMAGES, entries, strict=True))
    ]
    assert_equal(read(tasks))
    quoted = json.loads(json.dumps(tasks).replace("second photo", "second%20photo"))
    if address != "{}":
        assert_equal(read(quoted))


@pytest.mark.parametrize(
    "address", ["/data/upload/3/1a2b3c4d-{}", "/data/local-files/?d={}", "C:\\photos\\{}"]
)
def test_names_of_images_can_be_unusual_and_repeated(read, tmp_path, address):
    labels = ImageLabels("a#1 (2)+b.jpg", 120, 160, (ANNE,))
    copy = ImageLabels("sub/a#1 (2)+b.jpg", 120, 160)
    write_images(tmp_path / "images", [labels, copy])
    assert_equal(read([task(1, labels, annotation(shapes(labels)), address=address)]), [labels])


def minimal_entry(number, image, **changes):
    regions = [
        found["value"] | {key: found[key] for key in ("original_width", "original_height")}
        for found in shapes(image)
        if found["type"] != "choices"
    ]
    return {
        "image": f"/data/upload/3/1a2b3c4d-{image.name}",
        "id": number,
        "box": [region for region in regions if "rectanglelabels" in region],
        "keypoint": [region for region in regions if "keypointlabels" in region],
        "annotator": 1,
        "annotation_id": number,
        "created_at": "2026-01-10T12:00:00.000000Z",
        "updated_at": "2026-01-10T12:00:00.000000Z",
        "lead_time": 3.5,
    } | changes


def test_minimal_json_is_grouped_by_position(read):
    entries = [minimal_entry(number, image) for number, image in enumerate(IMAGES, 1)]
    assert_equal(read(entries), flags=False)
    older = minimal_entry(1, IMAGES[0], updated_at="2026-01-09", box=[], keypoint=[])
    dataset = read([older, *entries, older])
    assert_equal(dataset, flags=False)
    assert dataset.skipped.total() == 2


def test_labels_can_be_results_of_their_own(read):
    """As with the tags KeyPoint, Rectangle and Labels."""
    results = []
    for found in shapes(IMAGES[0]):
        kind = found["type"]
        if kind in ("keypointlabels", "rectanglelabels"):
            labels = found["value"].pop(kind)
            found["type"] = kind.removesuffix("labels")
            results.append(found | {"type": "labels", "value": {"labels": labels}})
        results.append(found)
    assert_equal(read([task(1, IMAGES[0], annotation(results))]), IMAGES[:1])


def test_the_annotation_is_the_ground_truth_or_the_latest(read):
    image = IMAGES[0]
    good = annotation(shapes(image))
    empty = annotation([], updated_at="2026-01-11T00:00:00.000000Z")
    assert not read([task(1, image, good, empty)]).images[0].persons
    checked = good | {"ground_truth": True}
    dataset = read([task(1, image, checked, empty)])
    assert_equal(dataset, [image])
    assert dataset.skipped.total() == 1
    cancelled = empty | {"was_cancelled": True}
    assert_equal(read([task(1, image, good, cancelled)]), [image])


def test_tasks_without_annotations_are_skipped_and_counted(read):
    first, second = IMAGES
    dataset = read([task(1, first, annotation(shapes(first))), task(2, second)])
    assert_equal(dataset, [first])
    assert dataset.skipped.total() == 1
    with pytest.raises(BodyPoseNetError, match="tasks without annotations"):
        read([task(2, second)])


def test_one_person_needs_no_box(read):
    image = ImageLabels("first.jpg", 120, 160, (ANNE,))
    dataset = read([task(1, image, annotation(points("a", ANNE, (120, 160))))])
    assert_equal(dataset, [image], boxes=False)
    both = [*points("a", ANNE, (120, 160)), *points("b", BERT, (120, 160))]
    with pytest.raises(BodyPoseNetError, match="draw a box"):
        read([task(1, image, annotation(both))])


def test_keypoints_in_several_boxes_are_skipped_unless_they_are_grouped(read):
    image = ImageLabels("first.jpg", 120, 160, (ANNE, ANNE))
    dataset = read([task(1, image, annotation(shapes(image, "position")))])
    assert [person.num_keypoints for person in dataset.images[0].persons] == [0, 0]
    assert any("group" in reason and n == 8 for reason, n in dataset.skipped.items())
    assert_equal(read([task(1, image, annotation(shapes(image)))]), [image])


def test_a_keypoint_in_two_boxes_belongs_to_the_one_that_lacks_it(read):
    keypoints = {"head": (55.5, 20.5, 2), "left_hand": (100.0, 60.0, 2), "foot": (90.0, 95.0, 2)}
    near = PersonLabels((50.0, 15.0, 60.0, 90.0), keypoints)
    image = ImageLabels("first.jpg", 120, 160, (ANNE, near))  # one head and one hand in both boxes
    assert_equal(read([task(1, image, annotation(shapes(image, "position")))]), [image])
    twice = [*shapes(image, "position"), *points("x", near, (120, 160))]
    dataset = read([task(1, image, annotation(twice))])
    assert [person.num_keypoints for person in dataset.images[0].persons] == [3, 0]
    assert any("group" in reason and n == 7 for reason, n in dataset.skipped.items())


def test_the_size_is_that_of_the_file_if_it_is_not_stated(read):
    results = [
        {k: v for k, v in found.items() if not k.startswith("original")}
        for found in shapes(IMAGES[0])
    ]
    assert_equal(read([task(1, IMAGES[0], annotation(results))]), IMAGES[:1])
    absent = ImageLabels("absent.jpg", 120, 160, (ANNE,))
    with pytest.raises(BodyPoseNetError, match=r"task 1: .*absent.jpg does not exist"):
        read([task(1, absent, annotation(results))])


def test_a_rotated_rectangle_is_replaced_by_the_box_around_it(read):
    value = {"x": 50, "y": 0, "width": 10, "height": 50, "rotation": 90, "labels": ["person"]}
    turned = result("rectangle", "a", (100, 200), value)
    (only,) = read([task(1, IMAGES[0], annotation([turned]))]).images
    assert only.persons[0].box == pytest.approx((50, 0, 50, 20))


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"value": {"x": "1", "y": 2, "keypointlabels": ["head"]}}, ("x", "'1'")),
        ({"value": {"x": 1, "keypointlabels": ["head"]}}, ("y", "None")),
        ({"value": {"x": 1, "y": 1, "keypointlabels": ["head", "foot"]}}, ("one label",)),
        ({"value": [1]}, ("value", "[1]")),
        ({"image_rotation": 90}, ("90",)),
        ({"original_width": 0.5}, ("0.5",)),
    ],
)
def test_invalid_regions_are_errors_with_task_and_value(read, change, facts):
    valid = next(points("a", ANNE, (120, 160)))
    with pytest.raises(BodyPoseNetError) as caught:
        read([task(12, IMAGES[0], annotation([valid | change]))])
    assert all(fact in caught.value.what for fact in ("export.json", "task 12", *facts))


def test_a_repeated_keypoint_is_an_error(read):
    repeated = [*shapes(IMAGES[0]), *points("x", ANNE, (120, 160), parentID="box0")]
    with pytest.raises(BodyPoseNetError, match="'head'"):
        read([task(1, IMAGES[0], annotation(repeated))])


@pytest.mark.parametrize("entry", [1, {"id": 3, "data": {}}, {"id": 3, "data": {"image": ["a"]}}])
def test_tasks_without_an_image_are_errors(read, entry):
    if isinstance(entry, dict):
        entry["annotations"] = [annotation([])]
    with pytest.raises(BodyPoseNetError, match="invalid"):
        read([task(1, IMAGES[0], annotation([])), entry])


def test_names_of_labels_are_kept_and_those_of_the_spec_may_be_missing(read, tmp_path, caplog):
    read([task(1, IMAGES[1], annotation(shapes(IMAGES[1])))])
    assert "left_hand, foot" in caplog.text
    found = describe_annotations(tmp_path / "export.json", tmp_path / "images")
    assert (found.format, found.categories[0].people) == ("label_studio", 2)
    (category,) = found.categories
    assert (category.name, category.keypoints) == ("person", ("head", "right_hand"))
    with pytest.raises(BodyPoseNetError, match="heat"):
        read_coco(tmp_path / "export.json", ("heat", "right_hand"))


def test_the_labeling_configuration_is_xml_for_any_names():
    names = ['a & b "c" <d>', "tab\tkept", "control\x01"]
    root = ElementTree.fromstring(labeling_configuration(names, "person's"))
    labels = root.iterfind(".//KeyPointLabels/Label")
    assert [label.get("value") for label in labels] == [*names[:2], "control\ufffd"]
    assert root.find(".//RectangleLabels/Label").get("value") == "person's"


def test_joints_are_in_the_order_of_coco_whichever_is_labeled_first(tmp_path):
    names = ("helmet", "LShoulder", "tool", "nose")
    person = PersonLabels((0, 0, 50, 50), {name: (10, 20, 2) for name in names})
    image = ImageLabels("a.jpg", 120, 160, (person,))
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task(1, image, annotation(shapes(image)))]))
    (category,) = describe_annotations(path, tmp_path).categories
    assert category.keypoints == ("nose", "LShoulder", "helmet", "tool")
