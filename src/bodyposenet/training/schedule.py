"""Progress in, learning rate out (TAO reference, section 9)."""

from __future__ import annotations

import math

from bodyposenet.specs.optimizer import ExponentialDecay, Schedule, SoftStartAnnealing


def learning_rate(schedule: Schedule, step: int, last_step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step.

    Args:
        schedule: Which curve.
        step: Steps done, from 0.
        last_step: Steps of the whole run.
        steps_per_epoch: Steps of one epoch.
    """
    if isinstance(schedule, SoftStartAnnealing):
        return _soft_start_annealing(schedule, min(step / max(last_step, 1), 1.0))
    return _exponential_decay(schedule, step / steps_per_epoch)


def _soft_start_annealing(schedule: SoftStartAnnealing, progress: float) -> float:
    """Rate = min (base / min)^t; t rises to 1 over soft_start and falls to 0 after annealing."""
    if progress > schedule.annealing:
        t = (1 - progress) / (1 - schedule.annealing)
    elif progress < schedule.soft_start:
        t = progress / schedule.soft_start
    else:
        t = 1.0
    low = schedule.min_learning_rate
    return low * math.pow(schedule.base_learning_rate / low, t)


def _exponential_decay(schedule: ExponentialDecay, epochs: float) -> float:
    exponent = epochs / schedule.decay_epochs
    if schedule.staircase:
        exponent = math.floor(exponent)
    return max(schedule.learning_rate * schedule.decay_rate**exponent, schedule.min_learning_rate)
