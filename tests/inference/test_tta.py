"""Tests of the flip test and the rotation test."""

import numpy as np
import pytest

from bodyposenet.inference.pipeline import Pipeline
from bodyposenet.inference.predictor import Predictor
from bodyposenet.inference.tta import FlipTest, merge_rotations
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Maps, Poses

from .stick_figures import (
    LEANING,
    LYING,
    LYING_THE_OTHER_WAY,
    STICK,
    UPRIGHT,
    UPSIDE_DOWN,
    UprightEngine,
    draw_people,
)

JOINTS = ("nose", "left_hand", "right_hand", "left_hip", "right_hip", "left_tail")
ODD = Skeleton(
    "odd", JOINTS,
    ((0, 1), (2, 0), (3, 4), (1, 3), (0, 3), (0, 5)),
)  # fmt: skip
"""Arms that point in opposite directions, a limb between the hips, limbs and a joint without a
mirrored one."""


def render(skeleton: Skeleton, points: np.ndarray, size: tuple[int, int]) -> Maps:
    """Return perfect maps of one person: points on the cells, constant fields."""
    heatmaps = np.zeros((skeleton.heatmap_channels, *size), np.float32)
    for joint, (x, y) in enumerate(points):
        heatmaps[joint, y, x] = 1
    heatmaps[-1] = 1 - heatmaps[:-1].max(axis=0)
    units = [points[end] - points[start] for start, end in skeleton.limbs]
    fields = [unit / max(np.hypot(*unit), 1) for unit in units]
    pafs = np.ones((len(fields), 2, *size)) * np.array(fields)[:, :, None, None]
    return Maps(heatmaps, pafs.reshape(-1, *size).astype(np.float32))


@pytest.mark.parametrize("name", ["bpnet_18joints.json", "coco_17joints.json"])
def test_perfect_maps_equal_those_of_the_mirror_image(name):
    skeleton = load_skeleton(name)
    height, width = 12, 17
    points = np.random.default_rng(1).integers(0, 12, (len(skeleton.joints), 2))
    mirrored = np.stack([width - 1 - points[:, 0], points[:, 1]], axis=1)
    plain = render(skeleton, points, (height, width))
    mirrored_maps = render(skeleton, mirrored[list(skeleton.mirrored)], (height, width))
    mean = FlipTest(skeleton).average(plain, mirrored_maps)
    np.testing.assert_array_equal(mean.heatmaps, plain.heatmaps)
    np.testing.assert_allclose(mean.pafs, plain.pafs, atol=1e-6)


def test_reversed_limbs_change_signs_and_one_sided_ones_stay():
    height, width = 9, 11
    points = np.array([[5, 1], [2, 4], [9, 3], [3, 7], [8, 6], [1, 8]])
    mirrored = np.stack([width - 1 - points[:, 0], points[:, 1]], axis=1)
    plain = render(ODD, points, (height, width))
    mirrored_maps = render(ODD, mirrored[list(ODD.mirrored)], (height, width))
    for unused in (mirrored_maps.heatmaps[5], mirrored_maps.pafs[6:]):  # without a mirrored one
        unused[:] = 99
    mean = FlipTest(ODD).average(plain, mirrored_maps)
    np.testing.assert_array_equal(mean.heatmaps, plain.heatmaps)
    np.testing.assert_allclose(mean.pafs, plain.pafs, atol=1e-6)


def test_both_images_have_equal_weight():
    shape = (4, 6)
    plain = Maps(np.zeros((7, *shape), np.float32), np.zeros((12, *shape), np.float32))
    mirrored_maps = Maps(np.ones((7, *shape), np.float32), np.ones((12, *shape), np.float32))
    mean = FlipTest(ODD).average(plain, mirrored_maps)
    assert mean.heatmaps.mean(axis=(1, 2)).tolist() == [0.5] * 5 + [0, 0.5]
    # Arms and hips are mirrored and reversed: x keeps its sign, y changes it. The others stay 0.
    assert mean.pafs.mean(axis=(1, 2)).tolist() == [0.5, -0.5] * 3 + [0] * 6
    assert not plain.heatmaps.any() and not plain.pafs.any()


def test_a_skeleton_without_limbs():
    lone = Skeleton("lone", ("head",), ())
    maps = Maps(np.ones((2, 3, 4), np.float32), np.zeros((0, 3, 4), np.float32))
    mean = FlipTest(lone).average(maps, maps)
    assert mean.heatmaps.shape == (2, 3, 4) and mean.pafs.shape == (0, 3, 4)


MODES = ("pad_image_input", "adjust_network_input", None)
SIZES = [(240, 240), (201, 303), (303, 201), (417, 255)]


def spec(**keys):
    return InferenceSpec(**({"input_shape": (240, 240), "rotation_test": True} | keys))


def place_person(shape, size, middle=(0.5, 0.5)):
    """Place a person in an image, at about half the size of its shorter side."""
    height, width = size
    return shape * min(size) / 2.2 + np.array(middle) * (width, height)


def assert_found(poses, people, tolerance):
    """Check that the poses are exactly these people, in any order."""
    assert len(poses) == len(people)
    for points in people:
        distances = np.linalg.norm(poses.keypoints - points, axis=-1).max(axis=1)
        assert distances.min() < tolerance


def make_poses(*people, scores=None, **fields):
    points = np.array(people, np.float32).reshape(-1, 4, 2)
    found = ~np.isnan(points[..., 0])
    scores = np.ones(len(points)) if scores is None else np.array(scores)
    return Poses(points, found.astype(np.float32), scores.astype(np.float32), STICK, **fields)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [LYING, LYING_THE_OTHER_WAY])
def test_lying_people_are_found_only_with_the_rotation_test(size, mode, shape):
    points = place_person(shape, size, (0.4, 0.45))
    image = draw_people(*size, [points])
    keys = {"keep_aspect_ratio_mode": mode}
    assert len(Predictor(UprightEngine(), spec(rotation_test=False, **keys))(image)) == 0
    assert_found(Predictor(UprightEngine(), spec(**keys))(image), [points], 1.5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "keys", [{"flip_test": True}, {"multi_scale_inference": True, "scales": (1.0, 1.5)}]
)
def test_the_rotation_test_with_other_options(size, mode, keys):
    people = [place_person(UPRIGHT, size, (0.25, 0.5)), place_person(LYING, size, (0.7, 0.4))]
    image = draw_people(*size, people)
    poses = Predictor(UprightEngine(), spec(keep_aspect_ratio_mode=mode, **keys))(image)
    assert_found(poses, people, 2.0)


def test_the_network_runs_three_times_at_the_shapes_of_the_turned_images():
    engine = UprightEngine()
    Predictor(engine, spec())(np.zeros((240, 480, 3), np.uint8))
    assert engine.shapes == [(1, 240, 480, 3), (1, 480, 240, 3), (1, 480, 240, 3)]


def test_the_rotation_test_with_a_fixed_shape():
    people = [
        place_person(UPRIGHT, (201, 303), (0.25, 0.5)),
        place_person(LYING, (201, 303), (0.7, 0.4)),
    ]
    predictor = Predictor(
        UprightEngine(fixed_shape=(160, 240)),
        spec(input_shape=(160, 240), keep_aspect_ratio_mode="pad_image_input"),
    )
    assert_found(predictor(draw_people(201, 303, people)), people, 3.0)


def test_batches_through_the_pipeline():
    sizes = [(201, 303)] * 3 + [(303, 201)] * 2
    shapes = [LYING, UPRIGHT, LYING_THE_OTHER_WAY, LYING, UPRIGHT]
    people = [place_person(shape, size) for shape, size in zip(shapes, sizes, strict=True)]
    engine = UprightEngine()
    pipeline = Pipeline(
        Predictor(engine, spec()),
        lambda item: draw_people(*sizes[item], [people[item]]),
        lambda item, pixels, poses: (item, poses),
        lambda item, error: pytest.fail(str(error)),
        batch=4,
    )
    for item, poses in pipeline.run(range(5)):
        assert_found(poses, [people[item]], 1.5)
    assert [shape[0] for shape in engine.shapes] == [3, 3, 3, 2, 2, 2]


def test_nobody_is_found_in_an_empty_image():
    poses = Predictor(UprightEngine(), spec())(np.zeros((99, 77, 3), np.uint8))
    assert len(poses) == 0
    assert poses.keypoints.shape == (0, 4, 2)


def test_people_upside_down_are_not_found():
    image = draw_people(240, 240, [place_person(UPSIDE_DOWN, (240, 240))])
    assert len(Predictor(UprightEngine(), spec())(image)) == 0


@pytest.mark.parametrize("shape", [UPRIGHT, LYING])
def test_neighbors_are_both_kept(shape):
    aside = (0.2, 0) if shape is UPRIGHT else (0, 0.2)
    first = place_person(shape, (300, 300), (0.4, 0.4))
    people = [first, first + 300 * np.array(aside)]
    assert_found(Predictor(UprightEngine(), spec())(draw_people(300, 300, people)), people, 1.5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keys", [{}, {"flip_test": True}, {"mode": "tao"}])
def test_a_person_found_in_two_orientations_appears_once(size, keys):
    leaning = place_person(LEANING, size)
    image = draw_people(*size, [leaning])
    settings = spec(input_shape=(320, 320), **keys)
    engine = UprightEngine(min_slope=0.1)
    predictor = Predictor(engine, settings)
    inputs = predictor.prepare(image)
    (maps,) = predictor.infer([inputs])
    assert sum(each.heatmaps[0].max() > 0.5 for each in maps) == 2
    assert_found(predictor.find_poses(inputs, maps), [leaning], 2.5)


def test_maps_are_not_rotated():
    image = draw_people(201, 303, [place_person(UPRIGHT, (201, 303))])
    (plain, to_plain), (maps, to_network) = (
        Predictor(UprightEngine(), spec(rotation_test=on)).maps(image) for on in (False, True)
    )
    np.testing.assert_array_equal(maps.heatmaps, plain.heatmaps)
    np.testing.assert_array_equal(to_network.matrix, to_plain.matrix)


def test_of_duplicates_the_higher_score_is_kept():
    points = place_person(UPRIGHT, (300, 300))
    merged = merge_rotations(
        [
            make_poses(points, scores=[0.6]),
            make_poses(points + 1, scores=[0.9]),
            make_poses(points - 1, scores=[0.3]),
        ]
    )
    np.testing.assert_allclose(merged.keypoints, [points + 1], rtol=1e-6)
    assert merged.scores.tolist() == [pytest.approx(0.9)]


def test_a_part_of_a_person_is_a_duplicate_of_the_whole():
    points = place_person(UPRIGHT, (300, 300))
    part = points.copy()
    part[3] = np.nan
    merged = merge_rotations([make_poses(points, scores=[0.9]), make_poses(part, scores=[0.5])])
    np.testing.assert_allclose(merged.keypoints, [points], rtol=1e-6)


def test_people_of_one_orientation_do_not_suppress_each_other():
    points = place_person(UPRIGHT, (300, 300))
    close = make_poses(points, points + 2, scores=[0.5, 0.9])
    merged = merge_rotations([close, make_poses(points + 1, scores=[0.4])])
    assert merged.scores.tolist() == [pytest.approx(0.9), pytest.approx(0.5)]


def test_people_at_the_same_place_with_different_joints_are_kept():
    points = place_person(UPRIGHT, (300, 300))
    across = place_person(LYING, (300, 300))
    assert len(merge_rotations([make_poses(points), make_poses(across)])) == 2


def test_inferred_joints_stay_with_their_people():
    points = place_person(UPRIGHT, (300, 300))
    marks = np.array([[False, False, False, True]])
    merged = merge_rotations(
        [
            make_poses(points, scores=[0.5], inferred=marks),
            make_poses(points + 200, scores=[0.8], inferred=~marks),
            make_poses(inferred=np.zeros((0, 4), bool)),
        ]
    )
    np.testing.assert_array_equal(merged.inferred, [~marks[0], marks[0]])


def test_inferred_joints_do_not_hide_a_duplicate():
    points = place_person(UPRIGHT, (300, 300))
    elsewhere = points + np.array([8, 0])  # OKS of .76 for two joints: .5 of three, .38 of four
    elsewhere[2:] += (0, -70)
    is_last_two = np.array([[False, False, True, True]])
    merged = merge_rotations(
        [
            make_poses(points, scores=[0.9], inferred=np.zeros((1, 4), bool)),
            make_poses(elsewhere, scores=[0.5], inferred=is_last_two),
        ]
    )
    np.testing.assert_allclose(merged.keypoints, [points], rtol=1e-6)
