"""Predicted and target maps in, the loss and its parts out (TAO reference, section 8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bodyposenet.specs.network import FocalLossParams, ModelConfig

_SMALLEST_GAP = 1e-6


@dataclass(frozen=True, eq=False)
class Targets:
    """What a batch should look like, and where that is known.

    Args:
        heatmaps: (B, K + 1, h, w) float32.
        pafs: (B, 2 L, h, w) float32.
        heatmap_mask: Broadcasts to the heatmaps; 1 where they count, 0 where they do not. A
            single 1 where they count everywhere.
        paf_mask: Broadcasts to the PAFs, alike.
    """

    heatmaps: Tensor
    pafs: Tensor
    heatmap_mask: Tensor
    paf_mask: Tensor


@dataclass(frozen=True, eq=False)
class Losses:
    """The parts of a step's loss.

    Args:
        total: What is minimized: all stages over the batch size, and the penalty.
        heatmaps: One sum per stage, over the batch.
        pafs: One sum per stage, over the batch.
    """

    total: Tensor
    heatmaps: list[Tensor]
    pafs: list[Tensor]


def stage_losses(
    heatmaps: Sequence[Tensor],
    pafs: Sequence[Tensor],
    targets: Targets,
    focal: FocalLossParams | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """One half of the summed squares of (prediction - target) x mask, for each stage's outputs.

    With the focal weighting the residual is also multiplied by |1 - a|^gamma (TAO reference,
    section 8): a = prediction - alpha where the target is over bkg_thresh, else a = 1 - prediction
    - beta.

    Args:
        heatmaps: One (B, K + 1, h, w) per stage.
        pafs: One (B, 2 L, h, w) per stage.
        targets: The targets.
        focal: The focal weighting; None, or with use_focal_loss off: none.

    Returns:
        Heatmap losses and PAF losses, one scalar per stage, summed over the batch.
    """
    heat = [
        _half_square(p.float(), targets.heatmaps, targets.heatmap_mask, focal) for p in heatmaps
    ]
    paf = [
        _half_square(p.float(), targets.pafs, targets.paf_mask, focal, signed=True) for p in pafs
    ]
    return heat, paf


def _half_square(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor,
    focal: FocalLossParams | None,
    signed: bool = False,
) -> Tensor:
    residual = (prediction - target) * mask
    if focal is not None and focal.use_focal_loss:
        if signed:
            prediction, target = _mirror(prediction, target, focal), target.abs()
        residual = residual * _focal_weight(prediction, target, focal)
    return 0.5 * residual.square().sum()


def _mirror(field: Tensor, target: Tensor, focal: FocalLossParams) -> Tensor:
    """Turn a PAF's components so that a field and its negative weigh alike.

    On a limb the target's sign decides; beside it what counts is how far the field is from 0.
    """
    return torch.where(target.abs() > focal.bkg_thresh, field * target.sign(), field.abs())


def _focal_weight(prediction: Tensor, target: Tensor, focal: FocalLossParams) -> Tensor:
    """|1 - a|^gamma; a gap of 0 counts as a tiny one: for gamma < 1 it has no finite gradient."""
    gap = torch.where(
        target > focal.bkg_thresh, 1 + focal.alpha - prediction, prediction + focal.beta
    )
    return gap.abs().clamp(min=_SMALLEST_GAP) ** focal.gamma


def regularization(layers: Iterable[nn.Module], spec: ModelConfig) -> Tensor | None:
    """The penalty on the weights of all convolutions (never of batch normalization).

    l1 is factor x sum |w|, l2 is factor x sum w^2 (no half), l1_l2 is both with the same factor.

    Args:
        layers: The layers of the network.
        spec: Kind and factors.

    Returns:
        A scalar, or None where both factors are 0.
    """
    kernel, bias = spec.kernel_regularization_factor, spec.bias_regularization_factor
    if not kernel and not bias:
        return None
    terms = []
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            terms.append(kernel * _penalty(layer.weight, spec.regularization_type))
            if layer.bias is not None and bias:
                terms.append(bias * _penalty(layer.bias, spec.regularization_type))
    return torch.stack(terms).sum()


def _penalty(weight: Tensor, kind: str) -> Tensor:
    if kind == "l1":
        return weight.abs().sum()
    if kind == "l2":
        return weight.square().sum()
    return weight.abs().sum() + weight.square().sum()
