"""The weights of every step in, their moving average out: what is saved, evaluated and deployed."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bodyposenet.model.checkpoint import named_tensors
from bodyposenet.model.network import BodyPoseNetwork


class ExponentialMovingAverage:
    """An exponential moving average of a network's weights and of its batch statistics.

    average = d x average + (1 - d) x weights after each step, with d = min(decay, (1 + n) / (10 +
    n)) in step n, so that the first, random weights are soon forgotten (as in TensorFlow's
    ExponentialMovingAverage with num_updates).

    Args:
        network: What is trained; the average begins with its weights.
        decay: Share of the average that a step keeps, 0 to 1.
    """

    def __init__(self, network: BodyPoseNetwork, decay: float) -> None:
        self.network = deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        own, live = named_tensors(self.network), named_tensors(network)
        floats = [name for name, tensor in own.items() if tensor.is_floating_point()]
        self._own = [own[name] for name in floats]
        self._live = [live[name] for name in floats]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights as they are now.

        Args:
            step: Steps of the optimizer before this one.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._own, self._live, None)
