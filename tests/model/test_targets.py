"""Targets against a looped calculation of the reference's formulas (section 6, with the fixes)."""

import numpy as np
import pytest
import torch

from bodyposenet.model.targets import TargetOptions, cell_mask, channel_weights, render_targets
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton

ARM = Skeleton("arm", ("shoulder", "elbow", "wrist"), ((0, 1), (1, 2)))


def looped_heatmap(points, labelled, joint, height, width, sigma=7.0, stride=8):
    heat = np.zeros((height // stride, width // stride))
    for row, column in np.ndindex(*heat.shape):
        y, x = stride * row + 3.5, stride * column + 3.5
        for person in range(len(points)):
            if labelled[person, joint]:
                px, py = points[person, joint]
                heat[row, column] = max(
                    heat[row, column], np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
                )
    heat[heat < 0.001] = 0
    return heat


def looped_paf(points, labelled, limb, height, width, half_width=8.0, stride=8):
    start, end = limb
    field = np.zeros((2, height // stride, width // stride))
    for row, column in np.ndindex(*field.shape[1:]):
        y, x = stride * row + 3.5, stride * column + 3.5
        vectors = []
        for person in range(len(points)):
            a, b = points[person, start], points[person, end]
            length = np.hypot(*(b - a))
            if not (labelled[person, start] and labelled[person, end]) or length == 0:
                continue
            low, high = np.minimum(a, b) - half_width, np.maximum(a, b) + half_width
            u = (b - a) / length
            across = abs((y - a[1]) * u[0] - (x - a[0]) * u[1])
            if low[0] <= x <= high[0] and low[1] <= y <= high[1] and across <= half_width:
                vectors.append(u)
        if vectors:
            field[:, row, column] = np.mean(vectors, axis=0)
    return field


@pytest.fixture
def crowd():
    random = np.random.default_rng(3)
    points = random.uniform(-20, 150, (2, 4, 18, 2)).astype(np.float32)
    labelled = random.random((2, 4, 18)) < 0.7
    points[0, 1] = points[0, 0] + 5  # overlapping people
    points[1, 2, 3] = points[1, 2, 2]  # a limb without length
    return points, labelled


def test_maps_equal_the_looped_calculation(crowd):
    points, labelled = crowd
    skeleton = load_skeleton("bpnet_18joints.json")
    heat, paf = render_targets(
        torch.from_numpy(points), torch.from_numpy(labelled), skeleton, 96, 136
    )
    assert heat.shape == (2, 19, 12, 17)
    assert paf.shape == (2, 38, 12, 17)
    for image in range(2):
        for joint in range(18):
            expected = looped_heatmap(points[image], labelled[image], joint, 96, 136)
            np.testing.assert_allclose(heat[image, joint], expected, atol=1e-5)
        background = 1 - heat[image, :18].amax(0)
        torch.testing.assert_close(heat[image, 18], background)
        for k, limb in enumerate(skeleton.limbs):
            expected = looped_paf(points[image], labelled[image], limb, 96, 136)
            np.testing.assert_allclose(paf[image, 2 * k : 2 * k + 2], expected, atol=1e-5)


def test_a_gaussian_paf_falls_off_across_the_limb_and_the_default_does_not():
    points = torch.tensor([[[[11.5, 27.5], [83.5, 27.5], [0.0, 0.0]]]])
    labelled = torch.tensor([[[True, True, False]]])
    _, hard = render_targets(points, labelled, ARM, 64, 96)
    _, soft = render_targets(points, labelled, ARM, 64, 96, TargetOptions(paf_sigma=6.0))
    assert hard[0, 0, 2:5, 5].tolist() == [1.0, 1.0, 1.0]
    assert soft[0, 0, 3, 5] == 1.0
    assert soft[0, 0, 2, 5] == pytest.approx(np.exp(-(8**2) / (2 * 36)), rel=1e-4)


def test_sizes_that_are_no_multiple_of_the_stride_round_up():
    heat, paf = render_targets(torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3).bool(), ARM, 100, 61)
    assert heat.shape[2:] == paf.shape[2:] == (13, 8)
    assert (heat[:, -1] == 1).all()
    assert (paf == 0).all()


def test_unknown_joints_turn_off_their_channels_their_limbs_and_the_background():
    known = torch.tensor([[True, True, True], [True, True, False]])
    heat, paf = channel_weights(known, ARM)
    assert heat[:, :, 0, 0].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert paf[:, :, 0, 0].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_a_mask_is_averaged_over_each_cell():
    mask = torch.full((1, 16, 20), 255, dtype=torch.uint8)
    mask[0, :4, :8] = 0
    cells = cell_mask(mask)
    assert cells.shape == (1, 1, 2, 3)
    assert cells[0, 0].tolist() == [[127.5, 255, 255], [255, 255, 255]]
