"""Tests of the loss against its formula (TAO reference, section 8)."""

import numpy as np
import pytest
import torch
from torch import nn

from bodyposenet.model.loss import Targets, regularization, stage_losses
from bodyposenet.specs.network import FocalLossParams, ModelConfig


def test_half_sum_of_masked_squares_per_stage():
    random = torch.Generator().manual_seed(0)
    heat = [torch.randn(2, 4, 3, 5, generator=random) for _ in range(3)]
    paf = [torch.randn(2, 6, 3, 5, generator=random) for _ in range(3)]
    targets = Targets(
        torch.randn(2, 4, 3, 5, generator=random),
        torch.randn(2, 6, 3, 5, generator=random),
        torch.rand(2, 4, 3, 5, generator=random),
        torch.rand(2, 1, 3, 5, generator=random),
    )
    heat_losses, paf_losses = stage_losses(heat, paf, targets)
    for found, prediction in zip(heat_losses, heat, strict=True):
        masked = (prediction - targets.heatmaps) * targets.heatmap_mask
        assert found.item() == pytest.approx(0.5 * (masked**2).sum().item(), rel=1e-6)
    for found, prediction in zip(paf_losses, paf, strict=True):
        masked = (prediction - targets.pafs) * targets.paf_mask
        assert found.item() == pytest.approx(0.5 * (masked**2).sum().item(), rel=1e-6)


def focal_loss(prediction, target, mask, focal, signed):
    """Compute the focal loss of one output in NumPy (TAO reference, section 8).

    For PAFs, a field and its negative have the same loss, unlike in TAO.
    """
    residual, sign = (prediction - target) * mask, 1
    if signed:
        sign = np.where(np.abs(target) > focal.bkg_thresh, np.sign(target), np.sign(prediction))
    a = np.where(
        np.abs(target) > focal.bkg_thresh,
        sign * prediction - focal.alpha,
        1 - sign * prediction - focal.beta,
    )
    return 0.5 * ((residual * np.abs(1 - a) ** focal.gamma) ** 2).sum()


def numeric_gradient(function, point, step=1e-5):
    gradient = np.zeros_like(point)
    for index in np.ndindex(*point.shape):
        for sign in (1, -1):
            moved = point.copy()
            moved[index] += sign * step
            gradient[index] += sign * function(moved) / (2 * step)
    return gradient


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_weighting_and_its_gradient(gamma):
    focal = FocalLossParams(use_focal_loss=True, alpha=0.2, beta=0.05, bkg_thresh=0.1, gamma=gamma)
    random = np.random.default_rng(1)
    heat, paf = random.normal(size=(1, 2, 3, 4)), random.normal(size=(1, 4, 3, 4))
    heat_target = random.choice([0, 0.05, 0.3, 1], size=heat.shape)
    paf_target = random.choice([-1, -0.3, -0.05, 0, 0.05, 0.3, 1], size=paf.shape)
    mask = random.random((1, 1, 3, 4))
    targets = Targets(*(torch.tensor(x).float() for x in (heat_target, paf_target, mask, mask)))
    for prediction, target, signed in ((heat, heat_target, False), (paf, paf_target, True)):
        given = torch.tensor(prediction, dtype=torch.float32, requires_grad=True)
        maps = ([], [given]) if signed else ([given], [])
        heat_losses, paf_losses = stage_losses(*maps, targets, focal)
        (loss,) = heat_losses + paf_losses
        loss.backward()

        def formula(x, target=target, signed=signed):
            return focal_loss(x, target, mask, focal, signed)

        assert loss.item() == pytest.approx(formula(prediction), rel=1e-5)
        expected = numeric_gradient(formula, prediction)
        np.testing.assert_allclose(given.grad, expected, rtol=1e-3, atol=1e-4)


def test_focal_loss_of_a_field_and_its_negative_are_equal():
    focal = FocalLossParams(use_focal_loss=True)
    random = torch.Generator().manual_seed(2)
    field = torch.randn(2, 6, 3, 5, generator=random)
    target = torch.randn(2, 6, 3, 5, generator=random).clamp(-1, 1)
    target[0] = 0
    one = torch.ones(())
    losses = [
        stage_losses([], [sign * field], Targets(target, sign * target, one, one), focal)[1][0]
        for sign in (1, -1)
    ]
    assert losses[0] == losses[1] > 0


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0])
def test_focal_weight_of_0_has_a_finite_gradient(gamma):
    focal = FocalLossParams(use_focal_loss=True, beta=0.0, gamma=gamma)
    target = torch.tensor([[[[0.0, 1.0, 1.0]]]])
    prediction = torch.tensor([[[[0.0, 1.1, 1.0]]]], requires_grad=True)
    one = torch.ones(())
    heat, paf = stage_losses([prediction], [prediction], Targets(target, target, one, one), focal)
    (heat[0] + paf[0]).backward()
    assert prediction.grad.isfinite().all()


def test_focal_parameters_have_no_effect_if_off():
    off = FocalLossParams(alpha=0.5)
    maps = [torch.ones(1, 2, 2, 2)]
    targets = Targets(
        torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), torch.ones(()), torch.ones(())
    )
    assert stage_losses(maps, maps, targets, off) == stage_losses(maps, maps, targets)
    assert off.ignored_keys()["alpha"] == "use_focal_loss is off"
    assert not FocalLossParams(use_focal_loss=True, alpha=0.5).ignored_keys()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("l1", 0.1 * 6 + 0.01 * 3), ("l2", 0.1 * 14 + 0.01 * 9), ("l1_l2", 2.0 + 0.12)],
)
def test_regularization_of_kernels_and_biases_without_batch_normalization(kind, expected):
    conv, norm = nn.Conv2d(1, 1, (1, 3)), nn.BatchNorm2d(1)
    conv.weight.data = torch.tensor([[[[1.0, -2.0, 3.0]]]])
    conv.bias.data = torch.tensor([-3.0])
    spec = ModelConfig(
        regularization_type=kind, kernel_regularization_factor=0.1, bias_regularization_factor=0.01
    )
    assert regularization([conv, norm], spec).item() == pytest.approx(expected)


def test_no_regularization_if_the_factors_are_0():
    spec = ModelConfig(kernel_regularization_factor=0.0)
    assert regularization([nn.Conv2d(1, 1, 1)], spec) is None
