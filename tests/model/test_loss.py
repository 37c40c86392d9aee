"""The loss against its formula (reference 8)."""

import pytest
import torch
from torch import nn

from bodyposenet.model.loss import Targets, regularization, stage_losses
from bodyposenet.specs.network import ModelConfig


def test_half_the_masked_squares_are_summed_per_stage():
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


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("l1", 0.1 * 6 + 0.01 * 3), ("l2", 0.1 * 14 + 0.01 * 9), ("l1_l2", 2.0 + 0.12)],
)
def test_the_penalty_counts_kernels_and_biases_but_no_batch_normalization(kind, expected):
    conv, norm = nn.Conv2d(1, 1, (1, 3)), nn.BatchNorm2d(1)
    conv.weight.data = torch.tensor([[[[1.0, -2.0, 3.0]]]])
    conv.bias.data = torch.tensor([-3.0])
    spec = ModelConfig(
        regularization_type=kind, kernel_regularization_factor=0.1, bias_regularization_factor=0.01
    )
    assert regularization([conv, norm], spec).item() == pytest.approx(expected)


def test_no_factor_no_penalty():
    spec = ModelConfig(kernel_regularization_factor=0.0)
    assert regularization([nn.Conv2d(1, 1, 1)], spec) is None
