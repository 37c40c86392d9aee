"""Optimizers: parameter groups with learning rate multipliers for SGD, AdamW and Muon."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bodyposenet.errors import BodyPoseNetError, closest
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs import optimizer as specs

_STAGEWISE_MULTIPLIERS = (
    (r"stage1.*", (1.0, 2.0)),
    (r"stage.*", (4.0, 8.0)),
    (r".*out", (4.0, 8.0)),
    (r".*", (1.0, 2.0)),
)
"""Pattern of layer names, and the multipliers of kernel and bias. The first match applies (TAO
reference, section 9). The "backbone 2x" of TAO's guide applies to biases only."""

_MUON_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration."""

_MUON_ITERATIONS = 5
_ADAMW_RMS = 0.2
"""Root mean square of AdamW updates, in units of the learning rate, which Muon's updates match."""


def build_optimizer(
    network: BodyPoseNetwork, spec: specs.Optimizer, *, stagewise: bool
) -> torch.optim.Optimizer:
    """Build the optimizer of a spec.

    TAO multiplies gradients by a constant before momentum, which is equivalent to multiplying the
    learning rate, as is done here.

    Args:
        network: The network to train. Sets `requires_grad` of its parameters, and `network.frozen`.
        spec: The optimizer spec.
        stagewise: Whether to use the stage-wise multipliers.

    Returns:
        An optimizer whose groups have a `multiplier` for `set_learning_rate`. Parameters with a
        multiplier of 0 are not in it and get no gradient. Their layers become `network.frozen`,
        unless `spec.freeze_batch_norm` is false.

    Raises:
        BodyPoseNetError: A key of grad_weights_dict matches no layer, or all layers are frozen.
    """
    _check_layer_patterns(spec.grad_weights_dict or {}, list(network.layers()))
    groups = _parameter_groups(network, spec, stagewise)
    trained = {options: group for options, group in groups.items() if options.multiplier}
    if not trained and spec.freeze_batch_norm:
        raise BodyPoseNetError(
            "grad_weights_dict, weight_default_value: all layers are frozen, nothing is left to "
            "train",
            "Give a layer a multiplier above 0. To update only the statistics of batch "
            "normalization, set freeze_batch_norm: false.",
        )
    # torch's optimizers need parameters, even if only batch normalization statistics change.
    trained = trained or groups
    for options, group in groups.items():
        for parameter in group:
            parameter.requires_grad_(options in trained)
    network.frozen = _frozen_layers(network) if spec.freeze_batch_norm else frozenset()
    parameters = [options.to_dict() | {"params": group} for options, group in trained.items()]
    device = next(network.parameters()).device.type
    fused = device in ("cpu", "cuda")  # One kernel for all weights, without synchronization.
    if isinstance(spec, specs.Muon):
        return Muon(parameters, spec.betas)
    if isinstance(spec, specs.AdamW):
        return torch.optim.AdamW(parameters, lr=0.0, betas=spec.betas, fused=fused)
    return torch.optim.SGD(
        parameters, lr=0.0, momentum=spec.momentum, nesterov=spec.use_nesterov, fused=fused
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group to `rate` times the group's multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiplier"]


def state_entries(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> set[str]:
    """Return the names of an optimizer's state entries for each parameter of a group."""
    if isinstance(optimizer, torch.optim.SGD):
        return {"momentum_buffer"}
    if isinstance(optimizer, Muon) and "momentum" in group:
        return {"step", "exp_avg"}
    return {"step", "exp_avg", "exp_avg_sq"}


class Muon(torch.optim.AdamW):
    """Muon for parameter groups that have a `momentum`, AdamW for all others.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). A convolution
    kernel is treated as a matrix of output channels times everything else.

    Args:
        groups: Parameter groups. The parameters of groups with a `momentum` are kernels of shape
            (out_channels, in_channels, ...).
        betas: Betas of AdamW.
    """

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(groups, lr=0.0, betas=betas)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Perform one step. Sets the gradients of Muon's kernels to None."""
        for group in self.param_groups:
            if "momentum" not in group:
                continue
            for kernel in group["params"]:
                if kernel.grad is not None:
                    self._update_kernel(kernel, kernel.grad, group)
                    kernel.grad = None  # So that AdamW skips it.
        super().step(closure)

    def _update_kernel(self, kernel: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Apply the orthogonalized update with Nesterov momentum to a kernel, in place."""
        state = self.state[kernel]
        if not state:  # Names as in AdamW, whose load_state_dict expects them.
            state |= {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(kernel)}
        state["step"] += 1
        average = state["exp_avg"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(average, group["momentum"]).flatten(1)
        scale = _ADAMW_RMS * max(update.shape) ** 0.5
        kernel.mul_(1 - group["lr"] * group["weight_decay"])
        kernel.add_(orthogonalize(update).view_as(kernel), alpha=-group["lr"] * scale)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Approximate the nearest semi-orthogonal matrix; singular values become about 0.7 to 1.2.

    Newton-Schulz iteration with Jordan's coefficients, in bfloat16.

    Args:
        matrix: (rows, columns).

    Returns:
        A matrix of the same shape and dtype; zeros for a matrix of zeros.
    """
    first, third, fifth = _MUON_COEFFICIENTS
    is_wide = matrix.shape[0] <= matrix.shape[1]
    estimate = (matrix if is_wide else matrix.T).bfloat16()
    estimate = estimate / estimate.norm().clamp(min=1e-7)
    for _ in range(_MUON_ITERATIONS):
        gram = estimate @ estimate.T
        estimate = first * estimate + (third * gram + fifth * gram @ gram) @ estimate
    return (estimate if is_wide else estimate.T).to(matrix.dtype)


class _GroupOptions(NamedTuple):
    """Options that the parameters of a group have in common.

    Args:
        multiplier: Learning rate multiplier.
        weight_decay: Weight decay of AdamW and Muon.
        momentum: Momentum of Muon, or None for parameters that other optimizers update.
    """

    multiplier: float
    weight_decay: float
    momentum: float | None

    def to_dict(self) -> dict[str, float]:
        """Return the options of a torch parameter group."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def _parameter_groups(
    network: BodyPoseNetwork, spec: specs.Optimizer, stagewise: bool
) -> dict[_GroupOptions, list[nn.Parameter]]:
    """Group the parameters by their options.

    Muon updates the kernels of hidden layers that mix channels: not those of depthwise convolutions
    and of the output layers.
    """
    outputs = set(network.outputs())
    momentum = spec.momentum if isinstance(spec, specs.Muon) else None
    groups: dict[_GroupOptions, list[nn.Parameter]] = {}
    for layer, module in network.layers().items():
        mixes_channels = isinstance(module, nn.Conv2d) and module.groups == 1
        uses_muon = mixes_channels and layer not in outputs
        for name, parameter in module.named_parameters(recurse=False):
            is_kernel = parameter.ndim > 1
            options = _GroupOptions(
                _multiplier(layer, module, name, spec, stagewise),
                spec.weight_decay if isinstance(spec, specs.AdamW) and is_kernel else 0.0,
                momentum if uses_muon and is_kernel else None,
            )
            groups.setdefault(options, []).append(parameter)
    return groups


def _frozen_layers(network: BodyPoseNetwork) -> frozenset[str]:
    """Return the layers without any parameter that requires a gradient."""
    return frozenset(
        name
        for name, layer in network.layers().items()
        if not any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
    )


def _multiplier(
    layer: str, module: nn.Module, parameter: str, spec: specs.Optimizer, stagewise: bool
) -> float:
    """Look up a multiplier: in grad_weights_dict, then the stage-wise table, then the default."""
    for pattern, multiplier in (spec.grad_weights_dict or {}).items():
        if re.fullmatch(pattern, layer):
            return multiplier
    if stagewise and isinstance(module, nn.Conv2d):
        kernel, bias = next(
            multipliers
            for pattern, multipliers in _STAGEWISE_MULTIPLIERS
            if re.fullmatch(pattern, layer)
        )
        return bias if parameter == "bias" else kernel
    return spec.weight_default_value


def _check_layer_patterns(multipliers: Mapping[str, float], layers: Sequence[str]) -> None:
    """Check that every key of grad_weights_dict is valid and matches a layer."""
    for pattern in multipliers:
        try:
            matches = any(re.fullmatch(pattern, layer) for layer in layers)
        except re.error as error:
            raise BodyPoseNetError(
                f"grad_weights_dict: {pattern}: invalid regular expression: {error}",
                "Write the name of a layer, or a regular expression that matches layer names.",
            ) from error
        if not matches:
            similar = closest(pattern, layers) or layers[:3]
            raise BodyPoseNetError(
                f"grad_weights_dict: no layer matches {pattern}",
                f"Layer names are, for example: {', '.join(similar)}.",
            )
