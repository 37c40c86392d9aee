"""Tests of the targets against a calculation of the formulas by loops.

The formulas are in the TAO reference, section 6, with the corrections of section 16.
"""

import numpy as np
import pytest
import torch

from bodyposenet.model.targets import TargetOptions, cell_mask, channel_weights, render_targets
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton

ARM = Skeleton("arm", ("shoulder", "elbow", "wrist"), ((0, 1), (1, 2)))


def looped_heatmap(points, labeled, joint, height, width, sigma=7.0, stride=8):
    heat = np.zeros((height // stride, width // stride))
    for row, column in np.ndindex(*heat.shape):
        y, x = stride * row + 3.5, stride * column + 3.5
        for person in range(len(points)):
            if labeled[person, joint]:
                px, py = points[person, joint]
                heat[row, column] = max(
                    heat[row, column], np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
                )
    heat[heat < 0.001] = 0
    return heat


def looped_paf(points, labeled, limb, height, width, half_width=8.0, stride=8):
    start, end = limb
    field = np.zeros((2, height // stride, width // stride))
    for row, column in np.ndindex(*field.shape[1:]):
        y, x = stride * row + 3.5, stride * column + 3.5
        vectors = []
        for person in range(len(points)):
            a, b = points[person, start], points[person, end]
            length = np.hypot(*(b - a))
            if not (labeled[person, start] and labeled[person, end]) or length == 0:
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
    labeled = random.random((2, 4, 18)) < 0.7
    points[0, 1] = points[0, 0] + 5  # overlapping people
    points[1, 2, 3] = points[1, 2, 2]  # a limb without length
    return points, labeled


def test_maps_equal_the_looped_calculation(crowd):
    points, labeled = crowd
    skeleton = load_skeleton("bpnet_18joints.json")
    heat, paf = render_targets(
        torch.from_numpy(points), torch.from_numpy(labeled), skeleton, 96, 136
    )
    assert heat.shape == (2, 19, 12, 17)
    assert paf.shape == (2, 38, 12, 17)
    for image in range(2):
        for joint in range(18):
            expected = looped_heatmap(points[image], labeled[image], joint, 96, 136)
            np.testing.assert_allclose(heat[image, joint], expected, atol=1e-5)
        background = 1 - heat[image, :18].amax(0)
        torch.testing.assert_close(heat[image, 18], background)
        for k, limb in enumerate(skeleton.limbs):
            expected = looped_paf(points[image], labeled[image], limb, 96, 136)
            np.testing.assert_allclose(paf[image, 2 * k : 2 * k + 2], expected, atol=1e-5)


def test_images_of_a_batch_are_independent():
    random = np.random.default_rng(4)
    skeleton = load_skeleton("bpnet_18joints.json")
    points = torch.tensor(random.uniform(0, 160, (7, 9, 18, 2)), dtype=torch.float32)
    labeled = torch.tensor(random.random((7, 9, 18)) < 0.6)
    for image, people in enumerate((3, 0, 9, 1, 1, 5, 2)):
        labeled[image, people:] = False
    labeled[5, 1:3] = False  # people without any label, before labeled ones
    heat, paf = render_targets(points, labeled, skeleton, 160, 160)
    for image in range(7):
        is_labeled = labeled[image].any(dim=1)
        alone = points[image, is_labeled][None], labeled[image, is_labeled][None]
        expected = render_targets(*alone, skeleton, 160, 160)
        torch.testing.assert_close(heat[image], expected[0][0])
        torch.testing.assert_close(paf[image], expected[1][0])


def test_position_of_an_unlabeled_joint_has_no_effect(crowd):
    points, labeled = (torch.from_numpy(array) for array in crowd)
    skeleton = load_skeleton("bpnet_18joints.json")
    expected = render_targets(points, labeled, skeleton, 96, 136)
    points[~labeled] = torch.nan
    for found, maps in zip(
        render_targets(points, labeled, skeleton, 96, 136), expected, strict=True
    ):
        torch.testing.assert_close(found, maps)


def test_rendering_does_not_synchronize_with_the_device():
    # Tensors on `meta` have no values, so operations that read values fail.
    skeleton = load_skeleton("bpnet_18joints.json")
    points = torch.empty(64, 20, 18, 2, device="meta")
    labeled = torch.empty(64, 20, 18, dtype=torch.bool, device="meta")
    heat, paf = render_targets(points, labeled, skeleton, 256, 256)
    assert heat.shape == (64, 19, 32, 32)
    assert paf.shape == (64, 38, 32, 32)
    channel_weights(labeled[:, 0], skeleton)


@pytest.mark.gpu
def test_gpu_renders_the_same_maps_without_synchronization(crowd):
    skeleton = load_skeleton("bpnet_18joints.json")
    people = [torch.from_numpy(array) for array in crowd]
    on_gpu = [tensor.cuda() for tensor in people]
    render_targets(*on_gpu, skeleton, 96, 136)  # copies the skeleton to the GPU, once
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = render_targets(*on_gpu, skeleton, 96, 136)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for maps, expected in zip(found, render_targets(*people, skeleton, 96, 136), strict=True):
        torch.testing.assert_close(maps.cpu(), expected, atol=1e-5, rtol=0)


def test_gaussian_paf_falls_off_across_the_limb():
    points = torch.tensor([[[[11.5, 27.5], [83.5, 27.5], [0.0, 0.0]]]])
    labeled = torch.tensor([[[True, True, False]]])
    _, hard = render_targets(points, labeled, ARM, 64, 96)
    _, soft = render_targets(points, labeled, ARM, 64, 96, TargetOptions(paf_sigma=6.0))
    assert hard[0, 0, 2:5, 5].tolist() == [1.0, 1.0, 1.0]
    assert soft[0, 0, 3, 5] == 1.0
    assert soft[0, 0, 2, 5] == pytest.approx(np.exp(-(8**2) / (2 * 36)), rel=1e-4)


def test_sizes_are_rounded_up_to_the_stride():
    heat, paf = render_targets(torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3).bool(), ARM, 100, 61)
    assert heat.shape[2:] == paf.shape[2:] == (13, 8)
    assert (heat[:, -1] == 1).all()
    assert (paf == 0).all()


def test_batch_without_people_is_background():
    heat, paf = render_targets(torch.zeros(2, 0, 3, 2), torch.zeros(2, 0, 3).bool(), ARM, 64, 64)
    assert (heat[:, -1] == 1).all()
    assert not heat[:, :-1].any()
    assert not paf.any()


def test_joints_that_are_not_annotated_exclude_their_channels_limbs_and_the_background():
    annotated = torch.tensor([[True, True, True], [True, True, False]])
    heat, paf = channel_weights(annotated, ARM)
    assert heat[:, :, 0, 0].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert paf[:, :, 0, 0].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_a_mask_is_averaged_over_each_cell():
    mask = torch.full((1, 16, 20), 255, dtype=torch.uint8)
    mask[0, :4, :8] = 0
    cells = cell_mask(mask)
    assert cells.shape == (1, 1, 2, 3)
    assert cells[0, 0].tolist() == [[127.5, 255, 255], [255, 255, 255]]
