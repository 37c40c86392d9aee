"""Exponential moving average (EMA) of the weights, which is validated, saved and exported."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bodyposenet.model.checkpoint import named_tensors
from bodyposenet.model.network import BodyPoseNetwork


class ExponentialMovingAverage:
    """Exponential moving average of a network's weights and batch normalization statistics.

    After step n, average = d * average + (1 - d) * weights with d = min(decay, (1 + n) / (10 + n)).
    The warm-up of d keeps the random initial weights from dominating, as in TensorFlow's
    ExponentialMovingAverage with `num_updates`.

    Args:
        network: The network that is trained. The average is initialized with its weights.
        decay: Largest decay d, between 0 and 1.

    Attributes:
        network: Copy of the network that holds the average, in evaluation mode.
    """

    def __init__(self, network: BodyPoseNetwork, decay: float) -> None:
        self.network = deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        average, weights = named_tensors(self.network), named_tensors(network)
        names = [name for name, tensor in average.items() if tensor.is_floating_point()]
        self._average = [average[name] for name in names]
        self._weights = [weights[name] for name in names]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the current weights.

        Args:
            step: Number of optimizer steps before this one (n in the formula).
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._average, self._weights, None)
