"""Learning rate curves (TAO reference, section 9)."""

import math

import pytest

from bodyposenet.specs.optimizer import ExponentialDecay, SoftStartAnnealing
from bodyposenet.training.schedule import learning_rate

SOFT = SoftStartAnnealing.model_validate(
    {
        "__class_name__": "SoftstartAnnealingLearningRateSchedule",
        "soft_start": 0.05, "annealing": 0.5, "base_learning_rate": 2e-5, "min_learning_rate": 8e-8,
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 8e-8),
        (25, math.sqrt(8e-8 * 2e-5)),  # half way up on a logarithmic scale
        (50, 2e-5),
        (500, 2e-5),
        (750, math.sqrt(8e-8 * 2e-5)),
        (1000, 8e-8),
    ],
)
def test_soft_start_annealing(step, expected):
    assert learning_rate(SOFT, step, 1000, 100) == pytest.approx(expected)


def test_without_soft_start_and_annealing_it_is_constant():
    flat = SOFT.model_copy(update={"soft_start": 0.0, "annealing": 1.0})
    assert {learning_rate(flat, step, 10, 5) for step in range(11)} == {2e-5}


def test_annealing_overrides_a_soft_start_that_has_not_ended():
    """As in TAO, which accepts any order of the two."""
    crossed = SOFT.model_copy(update={"soft_start": 0.8, "annealing": 0.5})
    assert learning_rate(crossed, 400, 1000, 100) == pytest.approx(math.sqrt(8e-8 * 2e-5))
    assert learning_rate(crossed, 750, 1000, 100) == pytest.approx(math.sqrt(8e-8 * 2e-5))


def test_exponential_decay_without_a_minimum_approaches_zero():
    schedule = {"__class_name__": "BpNetExponentialDecayLRSchedule", "min_learning_rate": 0.0}
    decay = ExponentialDecay.model_validate(schedule)
    assert learning_rate(decay, 10_000, 10_000, 1) < 1e-200


def test_exponential_decay_stops_at_its_minimum():
    decay = ExponentialDecay.model_validate(
        {
            "__class_name__": "BpNetExponentialDecayLRSchedule",
            "learning_rate": 1e-3, "decay_epochs": 2, "decay_rate": 0.1, "min_learning_rate": 1e-5,
        }
    )  # fmt: skip
    assert learning_rate(decay, 10, 1000, 10) == pytest.approx(1e-3 * 0.1**0.5)
    assert learning_rate(decay, 1000, 1000, 10) == 1e-5
    staircase = decay.model_copy(update={"staircase": True})
    assert learning_rate(staircase, 19, 1000, 10) == 1e-3
    assert learning_rate(staircase, 20, 1000, 10) == pytest.approx(1e-4)
