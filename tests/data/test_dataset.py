"""Training samples: geometry, masks, colors, replaced samples, errors."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bodyposenet.data.dataset import DatasetSource, Sample, SampleSet, collate
from bodyposenet.data.image_cache import ImageCache
from bodyposenet.data.masks import encode_valid_mask
from bodyposenet.data.records import RecordSet, write_records
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.images import read_image
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.dataloader import AugmentationConfig, ColorAugParams, SpatialAugParams
from bodyposenet.types import Record

from ..media.jpegs import encode, exif_segment, segment

ARMS = Skeleton("arms", ("neck", "left_hand", "right_hand"), ((0, 1), (0, 2)))
OWN_JOINTS = ("left_hand", "right_hand", "neck")
HEIGHT, WIDTH = 90, 140


def source(root, joints=OWN_JOINTS):
    return DatasetSource(root, ARMS.joints_from(joints), labeled_flags=(1, 2))


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


def samples(
    folder, records, *, mode="person_centric", sources=None, seed=1, colors=None, cache=None,
    size=(128, 160), **params,
):  # fmt: skip
    path = folder / "records"
    write_records(path, records)
    augmentation = AugmentationConfig(
        spatial_augmentation_mode=mode,
        spatial_aug_params=SpatialAugParams(**params),
        color_aug_params=colors or ColorAugParams(),
    )
    found = sources or {"own": source(folder)}
    return SampleSet(RecordSet([path]), found, augmentation, *size, seed, cache)


def centroid(channel):
    rows, columns = np.nonzero(channel > 140)  # not the gray that pads the image
    weights = channel[rows, columns].astype(float)
    return np.average(columns, weights=weights), np.average(rows, weights=weights)


@pytest.mark.parametrize("mode", ["person_centric", "standard", "standard_with_fixed_aspect_ratio"])
@pytest.mark.parametrize("params", [{}, {"rotate_deg_max": 15.0, "translate_max_x": 9.0}])
def test_joints_stay_on_their_pixels(folder, mode, params):
    sample = samples(folder, [record(POINTS)], mode=mode, **params)[3, 0]
    assert sample.image.shape == (128, 160, 3)
    assert sample.labeled.all()
    for joint, name in enumerate(ARMS.joints):
        seen = centroid(sample.image[:, :, OWN_JOINTS.index(name)])
        np.testing.assert_allclose(sample.keypoints[0, joint], seen, atol=0.3)


@pytest.mark.parametrize(
    ("flips", "shown"),
    [
        ({"flip_lr_prob": 1.0}, "right_hand"),
        ({"flip_tb_prob": 1.0}, "right_hand"),
        ({"flip_lr_prob": 1.0, "flip_tb_prob": 1.0}, "left_hand"),  # a half turn
        ({"flip_tb_prob": 1.0, "rotate_deg_max": 180.0, "rotate_deg_min": 180.0}, "right_hand"),
    ],
)
def test_left_and_right_are_swapped_in_mirror_images_only(folder, flips, shown):
    sample = samples(folder, [record(POINTS)], **flips)[0, 0]
    left = sample.keypoints[0, ARMS.joints.index("left_hand")]
    pixels = sample.image[:, :, OWN_JOINTS.index(shown)]
    np.testing.assert_allclose(left, centroid(pixels), atol=0.3)


def test_the_mask_is_warped_with_the_image_and_valid_outside(folder):
    plain = samples(folder, [record(POINTS)], mode="standard_with_fixed_aspect_ratio")[0, 0]
    edge = int(30 * 160 / 140)
    assert plain.mask[2:-2, 2 : edge - 1].max() == 0
    assert plain.mask[:, edge + 1 :].min() == 255
    assert plain.without_mask == 0
    fitted = samples(folder, [record(POINTS)], mode="standard")[0, 0]
    assert fitted.mask[0].min() == 255  # above the image
    assert (fitted.image[0] == 128).all()  # as inference pads


def test_a_jpeg_mask_is_thresholded_at_128(folder):
    blurred = np.full((HEIGHT, WIDTH), 120, np.uint8)
    blurred[:, 70:] = 140
    cv2.imwrite(str(folder / "mask.jpg"), blurred, [cv2.IMWRITE_JPEG_QUALITY, 100])
    found = samples(
        folder, [record(POINTS, mask="mask.jpg")], mode="standard_with_fixed_aspect_ratio"
    )
    assert set(np.unique(found[0, 0].mask[2:-2, [3, 40, 120, 155]])) == {0, 255}


def test_without_a_mask_file_the_whole_image_counts(folder):
    sample = samples(folder, [record(POINTS, mask="nowhere.png")])[0, 0]
    assert sample.mask.min() == 255
    assert sample.without_mask == 1


def test_unlabeled_joints_differ_from_joints_that_the_dataset_does_not_have(folder):
    points = [[[100, 30, 0], [40, 60, 2]]]
    sources = {"own": source(folder, ("left_hand", "right_hand"))}
    sample = samples(folder, [record(points)], sources=sources)[0, 0]
    assert sample.known.tolist() == [False, True, True]
    assert sample.labeled.tolist() == [[False, False, True]]


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


def test_a_batch_is_padded_with_unlabeled_people(folder):
    found = samples(folder, [record(POINTS), record(POINTS * 3)])
    batch = collate([found[0, 0], found[0, 1]])
    assert isinstance(batch, Sample)
    assert batch.keypoints.shape == (2, 3, 3, 2)
    assert batch.labeled.any(axis=2).tolist() == [[True, False, False], [True] * 3]


def large_photo(folder, name):
    """A photo of 1201 x 903 pixels with a soft dot on each joint; a record centered on them."""
    points = [[[700, 300, 2], [400, 610, 1], [520, 200, 2]]]
    rows, columns = np.mgrid[:903, :1201]
    image = np.zeros((903, 1201, 3), np.uint8)
    for channel, (x, y, _) in enumerate(points[0]):
        dot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 20**2))
        image[..., 2 - channel] = dot
    cv2.imwrite(str(folder / name), image)
    joints, center = np.array(points, float), np.array([[560.0, 450.0]])
    return Record(7, name, "none.png", 903, 1201, "own", joints, np.array([500.0]), center)


@pytest.mark.parametrize("name", ["large.jpg", "large.png"])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
@pytest.mark.parametrize("mode", ["person_centric", "standard_with_fixed_aspect_ratio"])
def test_keypoints_match_pixels_of_reduced_photos(folder, name, reduction, mode):
    size = (700 // reduction + 1, 800 // reduction + 1)
    wide = {"target_person_scale": 0.55, "rotate_deg_max": 20.0}
    sample = samples(folder, [large_photo(folder, name)], mode=mode, size=size, **wide)[2, 0]
    for joint, joint_name in enumerate(ARMS.joints):
        channel = sample.image[:, :, OWN_JOINTS.index(joint_name)].astype(float)
        dot = np.maximum(channel - 140, 0)  # the padding around the photo is darker
        rows, columns = np.mgrid[: size[0], : size[1]]
        seen = (columns * dot).sum() / dot.sum(), (rows * dot).sum() / dot.sum()
        np.testing.assert_allclose(sample.keypoints[0, joint], seen, atol=0.1)


def test_samples_are_the_same_with_and_without_a_cache(folder, tmp_path_factory):
    cache = ImageCache(tmp_path_factory.mktemp("cache"))
    records = [large_photo(folder, "large.jpg"), record(POINTS)]
    varied = {"rotate_deg_max": 40.0, "zoom_prob": 0.7, "zoom_ratio_max": 4.0}
    plain = samples(folder, records, **varied)
    for _ in range(2):  # decoded and cached, then read from the cache
        cached = samples(folder, records, cache=cache, **varied)
        for place in [(0, 0), (1, 0), (2, 0), (0, 1)]:
            np.testing.assert_array_equal(plain[place].image, cached[place].image)


def test_a_valid_mask_is_not_counted_as_missing(folder):
    (folder / "mask.png").write_bytes(encode_valid_mask(HEIGHT, WIDTH))
    sample = samples(folder, [record(POINTS)])[0, 0]
    assert sample.mask.shape == (128, 160)
    assert sample.mask.min() == 255
    assert sample.without_mask == 0


COLORS = ColorAugParams(brightness_max=0.2, hue_deg_max=30.0, blur_prob=0.5, blur_sigma_max=2.0)


def test_colors_are_sampled_but_not_applied(folder):
    varied = {"rotate_deg_max": 40.0, "flip_lr_prob": 0.5}
    plain = samples(folder, [record(POINTS)] * 2, **varied)
    colored = samples(folder, [record(POINTS)] * 2, colors=COLORS, **varied)
    assert plain[3, 1].color is None
    assert plain[3, 1].blur is None
    np.testing.assert_array_equal(plain[3, 1].image, colored[3, 1].image)
    np.testing.assert_array_equal(plain[3, 1].keypoints, colored[3, 1].keypoints)
    np.testing.assert_array_equal(colored[3, 1].color, colored[3, 1].color)
    assert not np.array_equal(colored[3, 1].color, colored[3, 0].color)
    batch = collate([colored[0, 0], colored[0, 1]])
    assert isinstance(batch, Sample)
    assert batch.color.shape == (2, 3, 4)
    assert batch.color.dtype == batch.blur.dtype == np.float32
    assert batch.blur.shape == (2,)
    assert collate([plain[0, 0], plain[0, 1]]).color is None


def test_unreadable_samples_are_replaced_by_the_next_one(folder):
    (folder / "broken.jpg").write_bytes(b"not an image")
    (folder / "small.png").write_bytes(encode_valid_mask(10, 20))
    records = [
        record(POINTS), record(POINTS * 2), record(POINTS, image="broken.jpg"),
        record(POINTS, mask="small.png"),
    ]  # fmt: skip
    found = samples(folder, records, rotate_deg_max=20.0)
    replaced = found[1, 2]
    np.testing.assert_array_equal(replaced.image, found[1, 0].image)
    assert ["broken.jpg" in error.what for error in replaced.unreadable] == [True, False]
    assert "small.png" in replaced.unreadable[1].what
    assert found[1, 1].unreadable == ()
    assert collate([found[1, 1], found[1, 2], found[1, 3]]).unreadable[-1].what.endswith("pixels")


def test_a_damaged_record_is_replaced(folder):
    found = samples(folder, [record(POINTS), record(POINTS * 2)])
    content = bytearray((folder / "records").read_bytes())
    content[40] ^= 0xFF
    (folder / "records").write_bytes(content)
    replaced = found[0, 0]
    assert len(replaced.keypoints) == 2
    assert "wrong CRC" in replaced.unreadable[0].what


def test_a_record_without_a_finite_center_is_replaced(folder):
    invalid = record(POINTS)
    invalid.centers[:] = np.nan
    replaced = samples(folder, [invalid, record(POINTS)])[0, 0]
    assert "not finite" in replaced.unreadable[0].what


@pytest.mark.parametrize("x", [1e223, np.inf, np.nan])
def test_labeled_joints_must_be_finite(folder, x):
    labeled, unlabeled = (record([[[x, 30, flag], *POINTS[0][1:]]]) for flag in (2, 0))
    found = samples(folder, [labeled, unlabeled])
    assert "labeled joint" in found[0, 0].unreadable[0].what
    sample = found[0, 1]
    assert not sample.unreadable
    assert np.isfinite(sample.keypoints).all()
    assert sample.labeled.sum() == 2


def test_many_unreadable_samples_in_a_row_are_an_error(folder):
    error = samples(folder, [record(POINTS, image="nowhere.jpg")] * 30 + [record(POINTS)])[0, 3]
    assert isinstance(error, BodyPoseNetError)
    assert "nowhere.jpg" in error.what


@pytest.mark.parametrize("dataset", ["other", "own"])
def test_records_that_do_not_match_the_spec_are_not_replaced(folder, dataset):
    wrong = record([[[1, 1, 2], [2, 2, 2]]] if dataset == "own" else POINTS, dataset=dataset)
    assert isinstance(samples(folder, [wrong, record(POINTS)])[0, 0], BodyPoseNetError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "empty"),
        (b"\xff\xd8\xff\xe0 not an image", "truncated"),
    ],
)
def test_unreadable_images_are_errors_with_the_file_name(folder, content, message):
    if content is not None:
        (folder / "broken.jpg").write_bytes(content)
    error = samples(folder, [record(POINTS, image="broken.jpg")])[0, 0]
    assert isinstance(error, BodyPoseNetError)
    assert "broken.jpg" in error.what
    with pytest.raises(BodyPoseNetError, match=message):
        raise error
    assert collate([error]) is error


def test_a_truncated_jpeg_is_an_error(folder):
    picture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    content = cv2.imencode(".jpg", picture)[1].tobytes()
    (folder / "half.jpg").write_bytes(content[: len(content) // 2])
    error = samples(folder, [record(POINTS, image="half.jpg")])[0, 0]
    assert isinstance(error, BodyPoseNetError)
    assert "half.jpg" in error.what


@pytest.mark.parametrize("profile", [0, 5000])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6])
def test_the_exif_orientation_is_applied_as_in_inference(folder, orientation, profile):
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:20, :20] = 255
    color_profile = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(profile)) if profile else b""
    content = encode(picture, color_profile + exif_segment(orientation))
    (folder / "rotated.jpg").write_bytes(content)
    found = samples(
        folder, [record(POINTS, image="rotated.jpg")], mode="standard_with_fixed_aspect_ratio"
    )[0, 0]
    expected = read_image(folder / "rotated.jpg", (HEIGHT, WIDTH))
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


@pytest.mark.parametrize("kind", ["image", "mask"])
@pytest.mark.parametrize("absolute", [False, True])
def test_files_outside_of_the_dataset_folders_are_errors(folder, kind, absolute):
    inner = folder / "inner"
    inner.mkdir()
    name = str(folder / "image.png") if absolute else "deeper/../../image.png"
    (inner / "image.png").write_bytes((folder / "image.png").read_bytes())
    confined = source(inner)
    (inner / "deeper").mkdir()

    def only_sample(source, **paths):
        return samples(folder, [record(POINTS, **paths)], sources={"own": source})[0, 0]

    refused = only_sample(confined, **{"image": "image.png", kind: name})
    assert isinstance(refused, BodyPoseNetError)
    assert "mask_root_dir_path" in refused.remedy
    assert only_sample(replace(confined, folders=(folder,)), image=name).image.any()
    assert only_sample(confined, image="deeper/../image.png").image.any()
