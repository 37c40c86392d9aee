"""Learning rate schedules: soft start with annealing, and exponential decay.

See the TAO reference, section 9.
"""

from __future__ import annotations

import math

from bodyposenet.specs.optimizer import ExponentialDecay, Schedule, SoftStartAnnealing


def learning_rate(schedule: Schedule, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """Compute the learning rate of a step.

    Args:
        schedule: The schedule of the optimizer spec.
        step: Number of steps done, from 0.
        total_steps: Steps of the whole training.
        steps_per_epoch: Steps of one epoch.

    Returns:
        The learning rate, before the multipliers of single layers.
    """
    if isinstance(schedule, SoftStartAnnealing):
        return _soft_start_annealing(schedule, min(step / max(total_steps, 1), 1.0))
    return _exponential_decay(schedule, step / steps_per_epoch)


def _soft_start_annealing(schedule: SoftStartAnnealing, progress: float) -> float:
    """Compute min * (base / min)^t, where t rises to 1 over soft_start and falls after annealing.

    Args:
        schedule: The schedule.
        progress: Share of the training that is done, 0 to 1.
    """
    if progress > schedule.annealing:
        t = (1 - progress) / (1 - schedule.annealing)
    elif progress < schedule.soft_start:
        t = progress / schedule.soft_start
    else:
        t = 1.0
    low = schedule.min_learning_rate
    return low * math.pow(schedule.base_learning_rate / low, t)


def _exponential_decay(schedule: ExponentialDecay, epochs: float) -> float:
    """Compute rate * decay_rate^(epochs / decay_epochs), at least min_learning_rate."""
    exponent = epochs / schedule.decay_epochs
    if schedule.staircase:
        exponent = math.floor(exponent)
    return max(schedule.learning_rate * schedule.decay_rate**exponent, schedule.min_learning_rate)
