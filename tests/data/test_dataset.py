"""Records to samples: pixels and people move together; masks; several datasets; clear errors."""

import cv2
import numpy as np
import pytest

from bodyposenet.data.dataset import DatasetSource, Sample, SampleSet, stack
from bodyposenet.data.records import RecordSet, write_records
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.source import read_image
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.dataloader import AugmentationConfig, SpatialAugParams
from bodyposenet.types import Record

from ..media.jpegs import encode, exif_segment, segment

ARMS = Skeleton("arms", ("neck", "left_hand", "right_hand"), ((0, 1), (0, 2)))
OWN_JOINTS = ("left_hand", "right_hand", "neck")
HEIGHT, WIDTH = 90, 140


def source(root, joints=OWN_JOINTS):
    return DatasetSource(root, ARMS.joints_from(joints), labelled_flags=(1, 2))


def record(points, image="image.png", mask="mask.png", dataset="own"):
    joints = np.array(points, float)
    people = len(joints)
    scales, centers = np.full(people, 40.0), np.tile([70.0, 45.0], (people, 1))
    return Record(7, image, mask, HEIGHT, WIDTH, dataset, joints, scales, centers)


POINTS = [[[100, 30, 2], [40, 60, 1], [72, 20, 2]]]


@pytest.fixture
def folder(tmp_path):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for channel, (x, y, _) in enumerate(POINTS[0]):
        image[y - 2 : y + 3, x - 2 : x + 3, 2 - channel] = 255  # RGB on disk as BGR
    cv2.imwrite(str(tmp_path / "image.png"), image)
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:, :30] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    return tmp_path


def samples(folder, records, *, mode="person_centric", sources=None, seed=1, **params):
    path = folder / "records"
    write_records(path, records)
    augmentation = AugmentationConfig(
        spatial_augmentation_mode=mode, spatial_aug_params=SpatialAugParams(**params)
    )
    found = sources or {"own": source(folder)}
    return SampleSet(RecordSet([path]), found, augmentation, 128, 160, seed)


def centroid(channel):
    rows, columns = np.nonzero(channel > 128)
    return columns.mean(), rows.mean()


@pytest.mark.parametrize("mode", ["person_centric", "standard", "standard_with_fixed_aspect_ratio"])
@pytest.mark.parametrize("params", [{}, {"rotate_deg_max": 15.0, "translate_max_x": 9.0}])
def test_joints_stay_on_their_pixels(folder, mode, params):
    sample = samples(folder, [record(POINTS)], mode=mode, **params)[3, 0]
    assert sample.image.shape == (128, 160, 3)
    assert sample.labelled.all()
    for joint, name in enumerate(ARMS.joints):
        seen = centroid(sample.image[:, :, OWN_JOINTS.index(name)])
        np.testing.assert_allclose(sample.keypoints[0, joint], seen, atol=0.3)


def test_a_mirrored_sample_exchanges_left_and_right(folder):
    sample = samples(folder, [record(POINTS)], flip_lr_prob=1.0)[0, 0]
    left = sample.keypoints[0, ARMS.joints.index("left_hand")]
    right_hand_pixels = sample.image[:, :, OWN_JOINTS.index("right_hand")]
    np.testing.assert_allclose(left, centroid(right_hand_pixels), atol=0.3)


def test_the_mask_moves_with_the_image_and_is_valid_outside(folder):
    plain = samples(folder, [record(POINTS)], mode="standard_with_fixed_aspect_ratio")[0, 0]
    edge = int(30 * 160 / 140)
    assert plain.mask[2:-2, 2 : edge - 1].max() == 0
    assert plain.mask[:, edge + 1 :].min() == 255
    assert plain.without_mask == 0
    fitted = samples(folder, [record(POINTS)], mode="standard")[0, 0]
    assert fitted.mask[0].min() == 255  # above the image
    assert (fitted.image[0] == 127).all()


def test_a_jpeg_mask_is_cut_at_128(folder):
    blurred = np.full((HEIGHT, WIDTH), 120, np.uint8)
    blurred[:, 70:] = 140
    cv2.imwrite(str(folder / "mask.jpg"), blurred, [cv2.IMWRITE_JPEG_QUALITY, 100])
    found = samples(
        folder, [record(POINTS, mask="mask.jpg")], mode="standard_with_fixed_aspect_ratio"
    )
    assert set(np.unique(found[0, 0].mask[2:-2, [3, 40, 120, 155]])) == {0, 255}


def test_a_record_without_its_mask_trains_all_of_the_image(folder):
    sample = samples(folder, [record(POINTS, mask="nowhere.png")])[0, 0]
    assert sample.mask.min() == 255
    assert sample.without_mask == 1


def test_unlabelled_joints_and_joints_that_a_dataset_lacks_are_told_apart(folder):
    points = [[[100, 30, 0], [40, 60, 2]]]
    sources = {"own": source(folder, ("left_hand", "right_hand"))}
    sample = samples(folder, [record(points)], sources=sources)[0, 0]
    assert sample.known.tolist() == [False, True, True]
    assert sample.labelled.tolist() == [[False, False, True]]


def test_samples_depend_on_seed_epoch_and_index_only(folder):
    varied = {"rotate_deg_max": 40.0, "flip_lr_prob": 0.5}
    one = samples(folder, [record(POINTS)] * 3, **varied)
    first = one[1, 2]
    _ = one[0, 0], one[5, 1]
    again = samples(folder, [record(POINTS)] * 3, **varied)[1, 2]
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.keypoints, again.keypoints)
    assert not np.array_equal(first.keypoints, one[2, 2].keypoints)
    assert not np.array_equal(first.keypoints, one[1, 1].keypoints)


def test_a_batch_fills_up_people_with_unlabelled_ones(folder):
    found = samples(folder, [record(POINTS), record(POINTS * 3)])
    batch = stack([found[0, 0], found[0, 1]])
    assert isinstance(batch, Sample)
    assert batch.keypoints.shape == (2, 3, 3, 2)
    assert batch.labelled.any(axis=2).tolist() == [[True, False, False], [True] * 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "empty"),
        (b"\xff\xd8\xff\xe0 no picture", "cut off|no image"),
    ],
)
def test_broken_images_are_errors_that_name_the_file(folder, content, message):
    if content is not None:
        (folder / "broken.jpg").write_bytes(content)
    error = samples(folder, [record(POINTS, image="broken.jpg")])[0, 0]
    assert isinstance(error, BodyPoseNetError)
    assert "broken.jpg" in error.what
    with pytest.raises(BodyPoseNetError, match=message):
        raise error
    assert stack([error]) is error


def test_a_truncated_jpeg_is_an_error(folder):
    picture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    content = cv2.imencode(".jpg", picture)[1].tobytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    error = samples(folder, [record(POINTS, image="cut.jpg")])[0, 0]
    assert isinstance(error, BodyPoseNetError)
    assert "cut.jpg" in error.what


@pytest.mark.parametrize("profile", [0, 5000])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6])
def test_photos_with_exif_are_turned_as_in_inference(folder, orientation, profile):
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:20, :20] = 255
    color_profile = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(profile)) if profile else b""
    content = encode(picture, color_profile + exif_segment(orientation))
    (folder / "turned.jpg").write_bytes(content)
    found = samples(
        folder, [record(POINTS, image="turned.jpg")], mode="standard_with_fixed_aspect_ratio"
    )[0, 0]
    expected = read_image(folder / "turned.jpg", (HEIGHT, WIDTH))
    assert abs(found.image[10, 10].mean() - expected[7, 9].mean()) < 5
    assert abs(found.image[-10, -10].mean() - expected[-7, -9].mean()) < 5


def test_an_image_of_another_size_than_its_record_is_an_error(folder):
    cv2.imwrite(str(folder / "small.png"), np.zeros((10, 20, 3), np.uint8))
    error = samples(folder, [record(POINTS, image="small.png")])[0, 0]
    assert isinstance(error, BodyPoseNetError)
    assert "20 x 10" in error.what
    assert "140 x 90" in error.what


def test_a_record_of_an_unknown_dataset_is_an_error(folder):
    error = samples(folder, [record(POINTS, dataset="other")])[0, 0]
    assert isinstance(error, BodyPoseNetError)
    assert "other" in error.what
