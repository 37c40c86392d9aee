"""Muon: momentum whose singular values are made equal, for kernels that mix channels.

Keller Jordan, "Muon: An optimizer for hidden layers in neural networks" (2024); the size of a step
is that of "Muon is Scalable for LLM Training" (Liu et al. 2025), so that AdamW's learning rates
hold. `torch.optim.Muon` does the same for matrices, but takes no convolutions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

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
