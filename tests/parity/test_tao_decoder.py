"""`mode: tao` gives the keypoints of a direct implementation of TAO with NumPy and OpenCV."""

import numpy as np
import pytest

from benchmarks.decode import count_differing_keypoints
from benchmarks.original.assembly import connect_parts
from benchmarks.original.decoder import decode_like_original
from benchmarks.original.limbs import Connection
from benchmarks.original.peaks import Peaks
from benchmarks.original.peaks import find_peaks as find_peaks_originally
from benchmarks.synthetic_maps import make_synthetic_maps
from bodyposenet.decoding import DecodingOptions, decode
from bodyposenet.decoding.tao.assembly import assemble
from bodyposenet.decoding.tao.peaks import find_peaks
from bodyposenet.decoding.tao.upsampling import upsampled_axis
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Maps

from ..decoding.people import perfect_maps, random_people, random_skeleton

TAO = load_skeleton("bpnet_18joints.json")
CELLS = [(23, 31), (28, 40), (36, 48), (46, 46)]
FACTORS = [(1, 1), (2, 2), (4, 4), (8, 8), (8, 4)]
NOISE = [0.0, 0.02, 0.05, 0.1]


# OpenCV adds float32 numbers, in an order that depends on the machine. If two pixels differ by less
# than the rounding error, as in one of about 200,000 keypoints, either can be the peak.
MAX_TIES = 1


def assert_equal(maps: Maps, skeleton, factors=(8, 8), thresholds=(0.1, 0.05)):
    poses = decode(maps, skeleton, DecodingOptions("tao", *thresholds, factors))
    expected = decode_like_original(maps, skeleton, *thresholds, factors)
    ties = count_differing_keypoints(poses, expected)
    assert ties <= MAX_TIES
    if ties:
        return poses
    np.testing.assert_allclose(poses.keypoint_scores, expected.keypoint_scores, atol=1e-5)
    np.testing.assert_allclose(poses.scores, expected.scores, atol=1e-5)
    return poses


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("noise", NOISE)
def test_people_in_noise(factors, noise):
    rng = np.random.default_rng(round(noise * 100))
    for people, cells in zip((0, 2, 9, 30), CELLS, strict=True):
        poses = assert_equal(make_synthetic_maps(rng, TAO, people, cells, noise), TAO, factors)
        assert people == 0 or len(poses) > 0


@pytest.mark.parametrize("joints", [3, 4, 7, 12, 19, 30])
def test_any_skeleton(joints):
    rng = np.random.default_rng(joints)
    skeleton = random_skeleton(rng, joints)
    perfect = perfect_maps(random_people(rng, joints, 2), skeleton)
    noisy = [
        (values + rng.normal(0, 0.05, values.shape)).astype(np.float32)
        for values in (perfect.heatmaps, perfect.pafs)
    ]
    assert len(assert_equal(Maps(*noisy), skeleton, (4, 4))) >= 2


@pytest.mark.parametrize("thresholds", [(0.0, 0.0), (0.3, 0.4), (0.02, 0.1)])
def test_other_thresholds(thresholds):
    maps = make_synthetic_maps(np.random.default_rng(3), TAO, 4, (28, 40), 0.02)
    assert_equal(maps, TAO, thresholds=thresholds)


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("cells", [(2, 3), (5, 4), (40, 37)])
def test_peaks_at_the_border_and_above_the_maximum_number(factors, cells):
    heatmaps = np.random.default_rng(0).random((3, *cells), np.float32)
    axes = map(upsampled_axis, cells, factors)
    points, scores, first = find_peaks(heatmaps, 0.1, *axes)
    expected = find_peaks_originally(heatmaps, 0.1, factors)
    np.testing.assert_array_equal(points, expected.points)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(np.repeat(np.arange(3), np.diff(first)), expected.joints)


@pytest.mark.parametrize("cells", [(1, 1), (3, 1), (1, 4)])
def test_maps_of_a_single_row_or_column_are_decoded(cells):
    rng = np.random.default_rng(0)
    maps = Maps(rng.random((19, *cells), np.float32), rng.random((38, *cells), np.float32))
    assert np.isfinite(decode(maps, TAO, DecodingOptions("tao")).scores).all()


def test_a_plateau_without_upsampling_keeps_the_first_of_equal_peaks():
    heatmaps = np.zeros((1, 30, 30), np.float32)
    heatmaps[0, 3:27, 3:27] = 0.5
    points, _, _ = find_peaks(heatmaps, 0.1, upsampled_axis(30, 1), upsampled_axis(30, 1))
    expected = find_peaks_originally(heatmaps, 0.1, (1, 1))
    assert len(points) == 128
    np.testing.assert_array_equal(points, expected.points)


@pytest.mark.parametrize("seed", range(20))
def test_assembly_of_random_connections(seed):
    """With peaks shared by several people, merged people and replaced joints."""
    rng = np.random.default_rng(seed)
    skeleton = TAO if seed % 2 else random_skeleton(rng, 12)
    people, joints = 5, len(skeleton.joints)
    scores = rng.uniform(0.1, 1, joints * people).astype(np.float32)
    connections, rows, connection_scores = [], [], []
    for limb, (start, end) in enumerate(skeleton.limbs):
        ends = rng.permutation(people) if rng.random() < 0.5 else np.arange(people)
        connections.append([])
        for a in np.flatnonzero(rng.random(people) < 0.7):
            connection_scores.append(float(rng.random()))
            rows.append((limb, start * people + a, end * people + ends[a]))
            connections[-1].append(Connection(*map(int, rows[-1][1:]), connection_scores[-1]))
        connections[-1].sort(key=lambda connection: -connection.score)
    peaks = Peaks(np.repeat(np.arange(joints), people), np.zeros((len(scores), 2), int), scores)
    people_parts = connect_parts(connections, peaks, skeleton)
    parts, totals = assemble(np.array(rows), np.array(connection_scores), scores, skeleton)
    assert parts.tolist() == [person.parts for person in people_parts]
    np.testing.assert_allclose(totals, [person.total for person in people_parts])
