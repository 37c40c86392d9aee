"""Training loss: squared errors of all stages, focal weighting, and weight regularization.

The formulas are those of the TAO reference, section 8; the sum over stages is that of OpenPose
(Cao et al. 2017), which supervises every stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bodyposenet.specs.network import FocalLossParams, ModelConfig

_MIN_GAP = 1e-6


@dataclass(frozen=True, eq=False)
class Targets:
    """Target maps of a batch, and the weights of their cells in the loss.

    Args:
        heatmaps: (B, K + 1, h, w) float32.
        pafs: (B, 2 L, h, w) float32.
        heatmap_mask: Weights of the heatmaps, 0 for unlabeled regions and channels and 1 for all
            others; of any shape that broadcasts to theirs.
        paf_mask: Weights of the PAFs, likewise.
    """

    heatmaps: Tensor
    pafs: Tensor
    heatmap_mask: Tensor
    paf_mask: Tensor


@dataclass(frozen=True, eq=False)
class Losses:
    """The loss of a training step and its parts.

    Args:
        total: The value to minimize: the sum over all stages divided by the batch size, plus the
            regularization.
        heatmaps: Heatmap loss per stage, summed over the batch.
        pafs: PAF loss per stage, summed over the batch.
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
    """Compute half the sum of squares of (prediction - target) x mask for each stage.

    With focal weighting, the residual is also multiplied by |1 - a|^gamma, where a = prediction -
    alpha if the target exceeds bkg_thresh, and a = 1 - prediction - beta otherwise (TAO reference,
    section 8).

    Args:
        heatmaps: (B, K + 1, h, w) of each stage.
        pafs: (B, 2 L, h, w) of each stage.
        targets: Target maps and masks.
        focal: Parameters of the focal weighting; it is off if they are None or if use_focal_loss
            is false.

    Returns:
        Heatmap losses and PAF losses, one scalar per stage, summed over the batch.
    """
    heatmap_losses = [
        _half_sum_of_squares(maps.float(), targets.heatmaps, targets.heatmap_mask, focal)
        for maps in heatmaps
    ]
    paf_losses = [
        _half_sum_of_squares(maps.float(), targets.pafs, targets.paf_mask, focal, signed=True)
        for maps in pafs
    ]
    return heatmap_losses, paf_losses


def _half_sum_of_squares(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor,
    focal: FocalLossParams | None,
    signed: bool = False,
) -> Tensor:
    """Compute the loss of one stage; `signed` is True for PAFs, whose values may be negative."""
    residual = (prediction - target) * mask
    if focal is not None and focal.use_focal_loss:
        if signed:
            prediction, target = _unsigned(prediction, target, focal), target.abs()
        residual = residual * _focal_weight(prediction, target, focal)
    return 0.5 * residual.square().sum()


def _unsigned(field: Tensor, target: Tensor, focal: FocalLossParams) -> Tensor:
    """Flip the signs of PAFs so that a field and its negative get the same focal weight.

    On a limb, the field is multiplied by the sign of the target; elsewhere its absolute value is
    taken.
    """
    return torch.where(target.abs() > focal.bkg_thresh, field * target.sign(), field.abs())


def _focal_weight(prediction: Tensor, target: Tensor, focal: FocalLossParams) -> Tensor:
    """Compute |1 - a|^gamma, clamped because its gradient at 0 is infinite for gamma < 1."""
    gap = torch.where(
        target > focal.bkg_thresh, 1 + focal.alpha - prediction, prediction + focal.beta
    )
    return gap.abs().clamp(min=_MIN_GAP) ** focal.gamma


def regularization(layers: Iterable[nn.Module], spec: ModelConfig) -> Tensor | None:
    """Compute the regularization of the convolutions' weights (not of batch normalization).

    `l1` is factor x sum |w|, `l2` is factor x sum w^2 (without 1/2, as in Keras), and `l1_l2` is
    their sum with the same factor.

    Args:
        layers: Layers of the network.
        spec: Type and factors.

    Returns:
        A scalar, or None if both factors are 0.
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
    """Compute the L1 norm, the sum of squares, or the sum of both."""
    if kind == "l1":
        return weight.abs().sum()
    if kind == "l2":
        return weight.square().sum()
    return weight.abs().sum() + weight.square().sum()
