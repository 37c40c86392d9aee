"""Drawing of people: limbs, joints, inferred joints, track ids, image types and sizes."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import bodyposenet
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.draw import draw, draw_track_ids
from bodyposenet.media.video import Frame
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Poses

from .walkers import as_poses, walker

STICK = Skeleton("stick", ("left_hand", "left_elbow", "right_hand"), ((0, 1), (1, 2)))


def poses(points: object, scores: float = 1.0, skeleton: Skeleton = STICK) -> Poses:
    keypoints = np.array(points, np.float32).reshape(-1, len(skeleton.joints), 2)
    found = ~np.isnan(keypoints[..., 0])
    return Poses(
        keypoints,
        (found * scores).astype(np.float32),
        np.ones(len(keypoints), np.float32),
        skeleton,
    )


def canvas(height: int = 100, width: int = 100, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def changed(image: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    return (image != drawn).any(axis=2)


def test_image_without_people_is_copied():
    image = canvas()
    drawn = draw(image, Poses.empty(STICK))
    assert drawn is not image
    np.testing.assert_array_equal(drawn, image)


def test_images_of_all_types(tmp_path):
    image, people = canvas(), poses([[10, 50], [90, 50], [50, 10]])
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    transparent = np.dstack([image, image[..., 0]])
    frame = Frame(0, 0.0, image)
    images = (path, str(path), path.read_bytes(), Image.open(path), transparent, image / 255, frame)
    for each in images:
        np.testing.assert_array_equal(bodyposenet.draw(each, people), draw(image, people))


@pytest.mark.parametrize(
    "image", [np.zeros((2, 9, 9, 3), np.uint8), np.full((9, 9, 3), 300.0), "lost.png", 7]
)
def test_invalid_images_are_errors(image):
    with pytest.raises(BodyPoseNetError):
        bodyposenet.draw(image, poses([[1, 5], [9, 5], [5, 1]]))


@pytest.mark.parametrize("background", [0, 128, 255])
def test_limbs_have_their_color_on_any_background(background):
    image = canvas(value=background)
    drawn = draw(image, poses([[10, 50], [90, 50], [np.nan, np.nan]]))
    middle = drawn[50, 50].astype(int)
    assert np.abs(middle - STICK.colors[0]).max() <= 20
    assert changed(image, drawn)[50, 10:91].all()
    assert not changed(image, drawn)[:40].any()
    assert (image == background).all()


def test_a_missing_joint_draws_no_limb():
    image = canvas()
    drawn = draw(image, poses([[10, 50], [np.nan, np.nan], [90, 50]]))
    assert not changed(image, drawn)[:, 20:80].any()


def test_joints_with_low_scores_are_more_transparent():
    image = canvas(value=0)
    sure, unsure = (draw(image, poses([[10, 50], [90, 50], [50, 10]], s)) for s in (0.9, 0.1))
    assert unsure[50, 50].max() < sure[50, 50].max()


def test_inferred_joints_are_rings_with_thin_limbs():
    image = canvas(600, 600)
    found = poses([[100, 100], [500, 100], [500, 500]])
    drawn = draw(image, replace(found, inferred=np.array([[False, True, False]])))
    assert (drawn[100, 500] == image[100, 500]).all()
    plain, thin = (changed(image, each) for each in (draw(image, found), drawn))
    assert not (thin & ~plain).any()
    for column in (300, 200):  # across the first limb
        assert 0 < thin[:, column].sum() < 0.75 * plain[:, column].sum()
    assert (
        thin[95:106, 95:106] == plain[95:106, 95:106]
    ).mean() > 0.9  # a joint that is not inferred


def test_inferred_joints_with_low_scores_are_omitted():
    image = canvas(200, 200)
    found = poses([[20, 100], [100, 100], [180, 100]], 0.09)
    inferred = np.array([[False, False, True]])
    drawn = changed(image, draw(image, replace(found, inferred=inferred)))
    assert drawn[100, 20:101].all() and not drawn[:, 120:].any()
    found.keypoint_scores[0, 2] = 0.1
    assert changed(image, draw(image, replace(found, inferred=inferred)))[100, 140:160].all()
    assert not np.isnan(found.keypoints).any()


def test_score_threshold():
    image = canvas()
    both = poses([[[10, 10], [40, 10], [40, 40]], [[60, 60], [90, 60], [90, 90]]])
    both = replace(both, scores=np.array([0.6, 0.59], np.float32))
    drawn = changed(image, draw(image, both, score_threshold=float(np.float32(0.6))))
    assert drawn[:50, :50].any() and not drawn[50:, 50:].any()
    assert changed(image, draw(image, both, score_threshold=0))[50:, 50:].any()
    np.testing.assert_array_equal(draw(image, both), draw(image, both, score_threshold=0.6))


def test_list_of_people_is_an_error():
    people = poses([[10, 50], [90, 50], [50, 10]])
    with pytest.raises(BodyPoseNetError, match="Poses, got list") as error:
        draw(canvas(), list(people))
    assert "poses[[0, 2]]" in error.value.remedy


def test_color_order_of_image_and_result():
    people, image = poses([[10, 50], [90, 50], [50, 10]]), canvas()
    image[..., 0] = 7
    drawn = people.draw(image)
    np.testing.assert_array_equal(people.draw(image[..., ::-1], color="bgr"), drawn[..., ::-1])
    assert not np.array_equal(drawn, drawn[..., ::-1])
    with pytest.raises(BodyPoseNetError, match="hsv"):
        draw(image, people, color="hsv")


@pytest.mark.parametrize("threshold", [2, -0.1, "0.5", True])
def test_invalid_thresholds_are_errors(threshold):
    with pytest.raises(BodyPoseNetError, match="score_threshold"):
        poses([[10, 50], [90, 50], [50, 10]]).draw(canvas(), score_threshold=threshold)


def test_lines_grow_with_the_image():
    widths = []
    for size in (200, 800):
        image = canvas(size, size)
        far = 0.9 * size
        drawn = draw(image, poses([[0.1 * size, far], [far, far], [far, 0.1 * size]]))
        widths.append(int(changed(image, drawn)[:, size // 2].sum()))
    assert widths[1] >= 2 * widths[0]


def test_small_people_get_finer_lines():
    image = canvas(400, 400)
    large = changed(image, draw(image, poses([[20, 200], [380, 200], [200, 20]])))
    small = changed(image, draw(image, poses([[190, 200], [230, 200], [190, 220]])))
    assert small[:, 210].sum() < large[:, 300].sum()


@pytest.mark.parametrize(
    "points",
    [
        [[-50, -50], [150, 50], [50, 150]],
        [[-500, -500], [-400, -450], [-450, -400]],
        [[50, 50], [50, 50], [50, 50]],
        [[1e7, 1e7], [-1e7, 0], [3, 4]],
        [[np.nan, np.nan]] * 3,
        [[99.6, 99.6], [np.nan, np.nan], [np.nan, np.nan]],
    ],
)
def test_people_at_and_beyond_the_border(points):
    drawn = draw(canvas(), poses(points))
    assert drawn.shape == (100, 100, 3)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (17, 5)])
def test_tiny_images(size):
    assert draw(canvas(*size), poses([[0, 0], [1, 1], [2, 0]])).shape == (*size, 3)


def test_joints_without_limbs_are_dots():
    lonely = Skeleton("dots", ("a", "b", "c"), ((0, 1),))
    image = canvas()
    drawn = draw(image, poses([[10, 10], [30, 10], [80, 80]], skeleton=lonely))
    assert changed(image, drawn)[80, 80]


def test_every_limb_of_the_default_skeleton_is_drawn():
    skeleton = load_skeleton("bpnet_18joints.json")
    rng = np.random.default_rng(0)
    points = rng.uniform(20, 480, (1, 18, 2))
    image = canvas(500, 500)
    drawn = changed(image, draw(image, poses(points, skeleton=skeleton)))
    for start, end in skeleton.limbs:
        column, row = np.round((points[0, start] + points[0, end]) / 2).astype(int)
        assert drawn[row, column]


def test_track_ids_are_above_heads():
    image = np.full((480, 640, 3), 90, np.uint8)
    people = [walker(150, 100, 240, 0), walker(450, 100, 240, 0), walker(630, -20, 240, 0)]
    poses = as_poses([*people, np.full((17, 2), np.nan)], track_ids=np.array([-1, 12, 3, 4]))
    changed = (draw_track_ids(image, poses) != image).any(axis=2)
    assert changed[80:115, 420:480].any()
    assert not changed[:, 100:200].any()
    assert changed[:40, 600:].any()
    assert (draw_track_ids(image, as_poses(people)) == image).all()
