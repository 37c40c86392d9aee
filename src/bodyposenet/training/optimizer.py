"""Network and spec in, a torch optimizer out whose groups carry a learning rate multiplier."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bodyposenet.errors import BodyPoseNetError, closest
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs import optimizer as specs

# Layer name -> multiplier of the kernel and of the bias, the first match counts (TAO reference,
# section 9). The guide's "backbone 2x" holds for biases only.
_STAGEWISE = (
    (r"stage1.*", (1.0, 2.0)),
    (r"stage.*", (4.0, 8.0)),
    (r".*out", (4.0, 8.0)),
    (r".*", (1.0, 2.0)),
)


def build_optimizer(
    network: BodyPoseNetwork, spec: specs.Optimizer, *, stagewise: bool
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
        multiplier is 0 are not in it and get no gradient; their layers are `network.frozen`, unless
        `spec.freeze_batch_norm` is false.

    Raises:
        BodyPoseNetError: A key of grad_weights_dict names no layer, or all layers are frozen.
    """
    _check_names(spec.grad_weights_dict or {}, list(network.layers()))
    groups = _groups(network, spec, stagewise)
    trained = {kind: group for kind, group in groups.items() if kind.multiplier}
    if not trained and spec.freeze_batch_norm:
        raise BodyPoseNetError(
            "grad_weights_dict, weight_default_value: all are frozen, nothing is left to train",
            "Give a layer a multiplier above 0. With freeze_batch_norm: false, a training gathers "
            "the statistics of batch normalization alone.",
        )
    # An optimizer needs parameters: where only statistics are gathered, all of them at rates of 0.
    trained = trained or groups
    for kind, group in groups.items():
        for parameter in group:
            parameter.requires_grad_(kind in trained)
    network.frozen = _frozen_layers(network) if spec.freeze_batch_norm else frozenset()
    parameters = [kind.options() | {"params": group} for kind, group in trained.items()]
    device = next(network.parameters()).device.type
    fused = device in ("cpu", "cuda")  # one kernel for all weights, and no wait for the device
    if isinstance(spec, specs.Muon):
        return Muon(parameters, spec.betas)
    if isinstance(spec, specs.AdamW):
        return torch.optim.AdamW(parameters, lr=0.0, betas=spec.betas, fused=fused)
    return torch.optim.SGD(
        parameters, lr=0.0, momentum=spec.momentum, nesterov=spec.use_nesterov, fused=fused
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its multiple of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiplier"]


def state_entries(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> set[str]:
    """Names of what an optimizer remembers of a parameter of a group."""
    if isinstance(optimizer, torch.optim.SGD):
        return {"momentum_buffer"}
    if isinstance(optimizer, Muon) and "momentum" in group:
        return {"step", "exp_avg"}
    return {"step", "exp_avg", "exp_avg_sq"}


class _Kind(NamedTuple):
    """What the parameters of a group have in common."""

    multiplier: float
    weight_decay: float
    momentum: float | None
    """Muon's; None: another optimizer steps on them."""

    def options(self) -> dict[str, float]:
        """What torch's optimizers keep with a group."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def _groups(
    network: BodyPoseNetwork, spec: specs.Optimizer, stagewise: bool
) -> dict[_Kind, list[nn.Parameter]]:
    """Parameters by kind. Muon steps on kernels that mix channels, but for those of the outputs."""
    outputs = set(network.outputs())
    momentum = spec.momentum if isinstance(spec, specs.Muon) else None
    groups: dict[_Kind, list[nn.Parameter]] = {}
    for layer, module in network.layers().items():
        mixes_channels = isinstance(module, nn.Conv2d) and module.groups == 1
        is_for_muon = mixes_channels and layer not in outputs
        for name, parameter in module.named_parameters(recurse=False):
            is_kernel = parameter.ndim > 1
            kind = _Kind(
                _multiplier(layer, module, name, spec, stagewise),
                spec.weight_decay if isinstance(spec, specs.AdamW) and is_kernel else 0.0,
                momentum if is_for_muon and is_kernel else None,
            )
            groups.setdefault(kind, []).append(parameter)
    return groups


def _frozen_layers(network: BodyPoseNetwork) -> frozenset[str]:
    """The layers none of whose parameters gets a gradient."""
    return frozenset(
        name
        for name, layer in network.layers().items()
        if not any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
    )


def _multiplier(
    layer: str, module: nn.Module, kind: str, spec: specs.Optimizer, stagewise: bool
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


_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_ADAMW_RMS = 0.2
"""Root mean square of a step of AdamW, in learning rates."""


class Muon(torch.optim.AdamW):
    """Groups with a `momentum` are stepped on by Muon, all others by AdamW.

    Args:
        groups: As torch's optimizers take them; `momentum`, where a group has it, is the share of
            the last direction that is kept. Its parameters are kernels, (outputs, inputs, ...).
        betas: AdamW's memory.
    """

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(groups, lr=0.0, betas=betas)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step. The gradients of the kernels are gone afterwards."""
        for group in self.param_groups:
            if "momentum" not in group:
                continue
            for kernel in group["params"]:
                if kernel.grad is not None:
                    self._step_on(kernel, kernel.grad, group)
                    kernel.grad = None  # AdamW passes by
        super().step(closure)

    def _step_on(self, kernel: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Change a kernel by its direction with Nesterov's momentum, made orthogonal."""
        state = self.state[kernel]
        if not state:  # under the names that AdamW looks for when it is loaded
            state |= {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(kernel)}
        state["step"] += 1
        average = state["exp_avg"].lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(average, group["momentum"]).flatten(1)
        length = _ADAMW_RMS * max(direction.shape) ** 0.5
        kernel.mul_(1 - group["lr"] * group["weight_decay"])
        kernel.add_(orthogonalize(direction).view_as(kernel), alpha=-group["lr"] * length)


def orthogonalize(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, roughly: singular values of .7 to 1.2.

    Newton and Schulz's iteration with Jordan's coefficients, in bfloat16.

    Args:
        matrix: (rows, columns).

    Returns:
        The same shape and dtype; zeros for a matrix of zeros.
    """
    first, third, fifth = _COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    estimate = (matrix if wide else matrix.T).bfloat16()
    estimate = estimate / estimate.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        squares = estimate @ estimate.T
        estimate = first * estimate + (third * squares + fifth * squares @ squares) @ estimate
    return (estimate if wide else estimate.T).to(matrix.dtype)
