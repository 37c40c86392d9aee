"""Network and spec in, a torch optimizer out whose groups carry a learning rate multiplier."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from bodyposenet.errors import BodyPoseNetError, closest
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.optimizer import AdamW, Optimizer

# Layer name -> multiplier of the kernel and of the bias, the first match counts (reference 9).
# The guide's "backbone 2x" holds for biases only.
_STAGEWISE = (
    (r"stage1.*", (1.0, 2.0)),
    (r"stage.*", (4.0, 8.0)),
    (r".*out", (4.0, 8.0)),
    (r".*", (1.0, 2.0)),
)


def build_optimizer(
    network: BodyPoseNetwork, spec: Optimizer, *, stagewise: bool
) -> torch.optim.Optimizer:
    """The optimizer of a spec.

    Multiplying a parameter's gradient by a constant before momentum, as the original does, is the
    same as multiplying its learning rate.

    Args:
        network: Whose parameters to train.
        spec: Which optimizer.
        stagewise: Use the stage-wise multipliers.

    Returns:
        An optimizer; `multiplier` of each group goes into `set_learning_rate`. Parameters whose
        multiplier is 0 are not in it, and get no gradient.

    Raises:
        BodyPoseNetError: A key of grad_weights_dict names no layer.
    """
    _check_names(spec.grad_weights_dict or {}, list(network.layers()))
    groups = _groups(network, spec, stagewise)
    # Where all are frozen, for the statistics of batch normalization alone, the rates are 0.
    trained = {key: group for key, group in groups.items() if key[0]} or groups
    for key, group in groups.items():
        for parameter in group:
            parameter.requires_grad_(key in trained)
    parameters = [
        {"params": group, "multiplier": multiplier, "weight_decay": decay}
        for (multiplier, decay), group in trained.items()
    ]
    device = next(network.parameters()).device.type
    fused = device in ("cpu", "cuda")  # one kernel for all weights, and no wait for the device
    if isinstance(spec, AdamW):
        return torch.optim.AdamW(parameters, lr=0.0, betas=spec.betas, fused=fused)
    return torch.optim.SGD(
        parameters, lr=0.0, momentum=spec.momentum, nesterov=spec.use_nesterov, fused=fused
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its multiple of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiplier"]


def _groups(
    network: BodyPoseNetwork, spec: Optimizer, stagewise: bool
) -> dict[tuple[float, float], list[nn.Parameter]]:
    """Parameters by multiplier and weight decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for layer, module in network.layers().items():
        for kind, parameter in module.named_parameters(recurse=False):
            multiplier = _multiplier(layer, module, kind, spec, stagewise)
            decay = spec.weight_decay if isinstance(spec, AdamW) and parameter.ndim > 1 else 0.0
            groups.setdefault((multiplier, decay), []).append(parameter)
    return groups


def _multiplier(
    layer: str, module: nn.Module, kind: str, spec: Optimizer, stagewise: bool
) -> float:
    """Of a parameter: grad_weights_dict first, then the stage-wise table, then the default."""
    for pattern, multiplier in (spec.grad_weights_dict or {}).items():
        if re.fullmatch(pattern, layer):
            return multiplier
    if stagewise and isinstance(module, nn.Conv2d):
        kernel, bias = next(pair for pattern, pair in _STAGEWISE if re.fullmatch(pattern, layer))
        return bias if kind == "bias" else kernel
    return spec.weight_default_value


def _check_names(own: Mapping[str, float], layers: Sequence[str]) -> None:
    for pattern in own:
        try:
            matches = any(re.fullmatch(pattern, layer) for layer in layers)
        except re.error as error:
            raise BodyPoseNetError(f"grad_weights_dict: {pattern}: {error}") from error
        if not matches:
            close = closest(pattern, layers) or layers[:3]
            raise BodyPoseNetError(
                f"grad_weights_dict: no layer is named {pattern}",
                f"There are {', '.join(close)} ...",
            )
