"""Tests of `mode: accurate`: sub-pixel peaks, assembly, scores and broken maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodyposenet.decoding import DecodingOptions, decode
from bodyposenet.decoding.accurate.assembly import assemble, person_scores
from bodyposenet.decoding.accurate.peaks import find_peaks
from bodyposenet.decoding.common import MAX_PEAKS
from bodyposenet.model.targets import TargetOptions
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Maps

from .people import left_to_right, perfect_maps, random_people, random_skeleton

TOY = Skeleton("toy", ("head", "hand", "belly", "knee", "foot"), ((2, 0), (2, 1), (2, 3), (3, 4)))
CHAIN = np.array([[0, 1], [1, 2], [2, 3]])
NONE_AUXILIARY = np.zeros(3, bool)


def two_people():
    people = random_people(np.random.default_rng(0), 5, 2)
    return people, perfect_maps(people, TOY)


def gaussian(height, width, x, y, top=1.0):
    rows, columns = np.mgrid[:height, :width]
    squares = (columns - x) ** 2 + (rows - y) ** 2
    return (top * np.exp(-squares * 64 / (2 * 7**2))).astype(np.float32)


@given(seed=st.integers(0, 2**32 - 1), joints=st.integers(3, 30), count=st.integers(1, 3))
@settings(max_examples=40, derandomize=True)
def test_random_people_are_recovered_within_a_tenth_of_a_pixel(seed, joints, count):
    rng = np.random.default_rng(seed)
    skeleton = random_skeleton(rng, joints)
    people = random_people(rng, joints, count)
    poses = left_to_right(decode(perfect_maps(people, skeleton), skeleton))
    assert len(poses) == count
    assert np.abs(poses.keypoints - people).max() < 0.1
    assert poses.keypoint_scores.min() > 0.99


@pytest.mark.parametrize(
    ("sigma", "stride"), [(7, 8), (3.5, 8), (14, 8), (28, 8), (7, 4), (7, 16), (14, 4)]
)
@given(seed=st.integers(0, 2**32 - 1), margin=st.floats(0, 1))
@settings(max_examples=10, derandomize=True)
def test_sigma_and_stride_of_the_maps_are_used(sigma, stride, seed, margin):
    rng = np.random.default_rng(seed)
    skeleton = random_skeleton(rng, 12)
    people = random_people(rng, 12, 2) * stride / 8
    people -= people.min(axis=(0, 1)) - margin * stride  # the outermost joints lie at the borders
    width, height = (int(side) for side in people.max(axis=(0, 1)) + 1 + margin * stride)
    options = TargetOptions(stride=stride, heatmap_sigma=sigma)
    maps = perfect_maps(people, skeleton, size=(height, width), options=options)
    poses = left_to_right(decode(maps, skeleton))
    assert len(poses) == 2
    assert np.abs(poses.keypoints - people).max() < 0.5
    assert poses.keypoint_scores.min() > 0.95


@pytest.mark.parametrize(
    "name", ["bpnet_18joints.json", "bpnet_18joints_22limbs.json", "coco_17joints.json"]
)
def test_people_of_the_packaged_skeletons_are_recovered(name):
    skeleton = load_skeleton(name)
    people = random_people(np.random.default_rng(0), len(skeleton.joints), 2)
    poses = left_to_right(decode(perfect_maps(people, skeleton), skeleton))
    assert np.abs(poses.keypoints - people).max() < 0.1


@given(x=st.floats(0, 11), y=st.floats(0, 8), top=st.floats(0.2, 1))
def test_a_gaussian_is_found_between_the_cells_up_to_the_border(x, y, top):
    points, scores, first = find_peaks(gaussian(9, 12, x, y, top)[None], 0.05, 7 / 8)
    np.testing.assert_allclose(points, [[x, y]], atol=0.01)
    np.testing.assert_allclose(scores, [top], atol=0.01)
    assert first.tolist() == [0, 1]


def test_a_gaussian_half_a_cell_outside_the_map_is_found():
    points, _, _ = find_peaks(gaussian(9, 12, 5, -0.5)[None], 0.05, 7 / 8)
    np.testing.assert_allclose(points, [[5, -0.5]], atol=0.01)


def test_the_first_of_equal_cells_is_the_peak():
    plateau = np.zeros((1, 9, 9), np.float32)
    plateau[0, 3:5, 3:5] = 0.5
    points, _, _ = find_peaks(plateau, 0.1, 7 / 8)
    assert np.floor(points).tolist() == [[3, 3]]


def test_the_highest_128_peaks_are_kept():
    noise = np.random.default_rng(0).random((2, 80, 80), np.float32)
    points, scores, first = find_peaks(noise, 0.0, 7 / 8)
    assert first.tolist() == [0, MAX_PEAKS, 2 * MAX_PEAKS]
    assert scores.min() > 0.8
    assert len(points) == 2 * MAX_PEAKS


def test_the_best_connection_of_all_limbs_comes_first():
    # Peaks 0 to 3 are joints 0 to 3. Peak 4 is another joint 2 with a lower connection score.
    connections = np.array([[0, 0, 1], [1, 1, 4], [1, 1, 2], [2, 2, 3]])
    parts, totals = assemble(
        connections,
        np.array([0.5, 0.3, 0.9, 0.4]),
        CHAIN,
        NONE_AUXILIARY,
        np.zeros((5, 2)),
        np.full(5, 0.5),
        4,
    )
    assert parts.tolist() == [[0, 1, 2, 3]]
    np.testing.assert_allclose(totals, [4 * 0.5 + 0.9 + 0.5 + 0.4])


def test_people_with_a_common_joint_are_not_merged():
    ring = np.array([[0, 1], [1, 2], [2, 3], [3, 0]])
    # Peaks 0-1-2 are joints 0-1-2, peaks 4-5 are joints 3-0. Connection 2-4 would merge two peaks
    # of joint 0.
    connections = np.array([[0, 0, 1], [1, 1, 2], [3, 4, 5], [2, 2, 4]])
    parts, _ = assemble(
        connections,
        np.array([0.9, 0.8, 0.7, 0.6]),
        ring,
        np.zeros(4, bool),
        np.zeros((6, 2)),
        np.full(6, 0.5),
        4,
    )
    assert parts.tolist() == [[0, 1, 2, -1], [5, -1, -1, 4]]


def test_an_auxiliary_limb_comes_last_and_starts_no_person():
    connections = np.array([[0, 0, 1], [1, 1, 2], [2, 3, 4]])
    connection_scores, scores = np.array([0.9, 0.2, 0.5]), np.full(5, 0.5)
    points = np.zeros((5, 2))
    first_is_auxiliary = np.array([True, False, False])
    parts, _ = assemble(
        connections, connection_scores, CHAIN, first_is_auxiliary, points, scores, 4
    )
    assert parts.tolist() == [[-1, -1, 3, 4], [0, 1, 2, -1]]
    parts, _ = assemble(
        connections[:1], connection_scores[:1], CHAIN, first_is_auxiliary, points, scores, 4
    )
    assert len(parts) == 0


def test_a_connection_that_is_much_longer_than_the_person_is_rejected():
    """Joint 5 of another person is free for a shorter connection of that person."""
    limbs = np.array([[k, k + 1] for k in range(5)])
    # Peaks 0 to 4 are joints 0 to 4 of a person, peaks 5 to 9 those of another; 10 is joint 5.
    rows = [[k, k, k + 1] for k in range(4)] + [[k, k + 5, k + 6] for k in range(4)]
    connections = np.array([*rows, [4, 4, 10], [4, 9, 10]])
    connection_scores = np.array([0.9] * 8 + [0.8, 0.7])
    points = np.array([(0, y) for y in range(5)] + [(20, y) for y in range(5)] + [(20, 5)], float)
    none = np.zeros(5, bool)
    parts, _ = assemble(connections, connection_scores, limbs, none, points, np.full(11, 0.5), 6)
    assert parts.tolist() == [[0, 1, 2, 3, 4, -1], [5, 6, 7, 8, 9, 10]]
    points[5:, 0] = 15
    parts, _ = assemble(connections, connection_scores, limbs, none, points, np.full(11, 0.5), 6)
    assert parts.tolist() == [[0, 1, 2, 3, 4, 10], [5, 6, 7, 8, 9, -1]]
    # The size of fewer than five peaks does not count.
    connections, connection_scores = connections[3:], connection_scores[3:]
    parts, _ = assemble(connections, connection_scores, limbs, none, points, np.full(11, 0.5), 6)
    assert parts.tolist()[0] == [-1, -1, -1, 3, 4, 10]


def test_three_parts_make_a_person_and_missing_joints_are_nan():
    people = random_people(np.random.default_rng(0), 5, 1)
    labeled = np.array([[True, False, True, True, False]])
    poses = decode(perfect_maps(people, TOY, labeled), TOY)
    assert np.isnan(poses.keypoints[0, :, 0]).tolist() == [False, True, False, False, True]
    assert poses.keypoint_scores[0, [1, 4]].tolist() == [0, 0]
    assert poses.inferred is None
    labeled[0, 3] = False
    assert len(decode(perfect_maps(people, TOY, labeled), TOY)) == 0


def test_the_best_person_comes_first():
    _, maps = two_people()
    width = maps.heatmaps.shape[2] // 2
    maps.heatmaps[:, :, :width] *= 0.5
    poses = decode(maps, TOY)
    assert poses.keypoints[0, 0, 0] > poses.keypoints[1, 0, 0]
    assert poses.scores[0] > poses.scores[1]


def test_person_scores_keep_the_order_and_lie_in_0_to_1():
    totals = np.linspace(0, 60, 500)
    scores = person_scores(totals)
    assert (np.diff(scores) > 0).all()
    assert scores[0] == 0
    assert scores[-1] < 1
    np.testing.assert_allclose(person_scores(np.array([2.0, 4.0])), [0.5, 0.75])


def test_default_thresholds_depend_on_the_mode():
    assert DecodingOptions("accurate").thresholds == (0.05, 0.02)
    assert DecodingOptions("tao").thresholds == (0.1, 0.05)
    assert DecodingOptions("tao", 0.0, 0.3).thresholds == (0.0, 0.3)
    spec = InferenceSpec(heatmap_threshold=0.2, complete_pose=True)
    assert DecodingOptions.from_spec(spec) == DecodingOptions("accurate", 0.2, complete_pose=True)


def test_the_thresholds_are_honored():
    _, maps = two_people()
    faint = Maps(maps.heatmaps * 0.5, maps.pafs * 0.5)
    assert len(decode(faint, TOY)) == 2
    assert len(decode(faint, TOY, DecodingOptions(heatmap_threshold=0.6))) == 0
    assert len(decode(faint, TOY, DecodingOptions(paf_threshold=0.6))) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_broken_values_are_treated_as_zero(value):
    people, maps = two_people()
    heatmaps, pafs = maps.heatmaps.copy(), maps.pafs.copy()
    heatmaps[:, :, -1] = value
    pafs[:, -1] = value
    poses = left_to_right(decode(Maps(heatmaps, pafs), TOY))
    assert np.abs(poses.keypoints - people).max() <= 1
    broken = Maps(np.full_like(heatmaps, value), np.full_like(pafs, value))
    assert len(decode(broken, TOY)) == 0


@pytest.mark.parametrize("complete_pose", [False, True])
@pytest.mark.parametrize("shape", [(0, 0), (0, 9), (1, 1), (1, 7), (40, 50)])
def test_noise_of_any_size_gives_finite_poses(shape, complete_pose):
    rng = np.random.default_rng(0)
    skeleton = load_skeleton("bpnet_18joints.json")
    heatmaps = rng.random((19, *shape), np.float32)
    pafs = rng.uniform(-1, 1, (38, *shape)).astype(np.float32)
    options = DecodingOptions(complete_pose=complete_pose)
    poses = decode(Maps(heatmaps, pafs), skeleton, options)
    assert np.isfinite(poses.keypoints[poses.keypoint_scores > 0]).all()
    assert ((poses.keypoint_scores >= 0) & (poses.keypoint_scores <= 1)).all()


def test_a_skeleton_without_limbs_gives_no_poses():
    nose = Skeleton("nose", ("nose",), ())
    maps = Maps(np.ones((2, 5, 5), np.float32), np.zeros((0, 5, 5), np.float32))
    assert len(decode(maps, nose)) == 0


def test_maps_of_another_type_layout_and_stride():
    people, maps = two_people()
    heatmaps, pafs = maps.heatmaps.astype(np.float64), np.asfortranarray(maps.pafs)
    heatmaps.flags.writeable = pafs.flags.writeable = False
    poses = left_to_right(decode(Maps(heatmaps, pafs, stride=4), TOY))
    assert np.abs((poses.keypoints + 0.5) * 2 - 0.5 - people).max() < 0.1
