"""The `optimizer` block of the train spec (TAO reference, section 9)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, model_validator

from bodyposenet.specs.loading import Block, ignored_key
from bodyposenet.specs.number_types import DecayRate, NonNegativeFloat, PositiveFloat, Probability


class SoftStartAnnealing(Block):
    """Exponential rise, plateau and exponential fall of the learning rate.

    See the TAO reference, section 9.
    """

    class_name: Literal["SoftstartAnnealingLearningRateSchedule"] = Field(alias="__class_name__")
    """Chooses the class."""
    soft_start: Probability = 0.05
    """Share of the training after which the rate has risen to base_learning_rate."""
    annealing: Probability = 0.5
    """Share of the training after which it falls, also where soft_start is not over."""
    base_learning_rate: PositiveFloat = 2e-5
    """The highest rate."""
    min_learning_rate: PositiveFloat = Field(
        default=8e-8, validation_alias=AliasChoices("min_learning_rate", "minimum_learning_rate")
    )
    """The rate at the start and at the end; not 0, as it rises and falls exponentially."""
    last_step: Any = ignored_key("it is computed from the data, as in the original")

    @model_validator(mode="after")
    def _order(self) -> SoftStartAnnealing:
        if self.min_learning_rate > self.base_learning_rate:
            raise ValueError("min_learning_rate is more than base_learning_rate")
        return self


class ExponentialDecay(Block):
    """lr = max(learning_rate x decay_rate ^ (epoch / decay_epochs), min_learning_rate)."""

    class_name: Literal["BpNetExponentialDecayLRSchedule"] = Field(alias="__class_name__")
    """Chooses the class."""
    learning_rate: PositiveFloat = 2e-5
    """The rate at the start."""
    decay_epochs: PositiveFloat = 17
    """Epochs in which the rate falls by decay_rate."""
    decay_rate: PositiveFloat = 0.333
    """Factor per decay_epochs."""
    min_learning_rate: NonNegativeFloat = 8.18938e-08
    """The rate never falls below."""
    staircase: bool = False
    """Fall in steps, once per decay_epochs."""


Schedule = Annotated[SoftStartAnnealing | ExponentialDecay, Field(discriminator="class_name")]


class WeightedMomentum(Block):
    """Momentum SGD with a learning rate multiplier per layer (TAO reference, section 9)."""

    class_name: Literal["WeightedMomentumOptimizer"] = Field(alias="__class_name__")
    """Chooses the class."""
    learning_rate_schedule: Schedule
    """The learning rate over the training."""
    grad_weights_dict: dict[str, NonNegativeFloat] | None = None
    """Layer name, or a regular expression on it -> multiplier; goes before the stage-wise table.
    0 freezes a layer: its gradient is not calculated."""
    weight_default_value: NonNegativeFloat = 1.0
    """Multiplier of all other layers."""
    freeze_batch_norm: bool = True
    """Frozen batch normalization keeps its statistics and normalizes with them; false: it goes on
    gathering them (ours)."""
    momentum: Probability = 0.9
    """Share of the last step that is kept; 0: plain gradient descent."""
    use_nesterov: bool = False
    """Nesterov's momentum; needs a momentum over 0."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> WeightedMomentum:
        if self.use_nesterov and self.momentum == 0:
            raise ValueError("use_nesterov needs a momentum over 0")
        return self


class AdamW(Block):
    """AdamW, with the same schedules and multipliers (ours)."""

    class_name: Literal["AdamW"] = Field(alias="__class_name__")
    """Chooses the class."""
    learning_rate_schedule: Schedule
    """The learning rate over the training."""
    grad_weights_dict: dict[str, NonNegativeFloat] | None = None
    """Layer name, or a regular expression on it -> multiplier. 0 freezes a layer: its gradient is
    not calculated."""
    weight_default_value: NonNegativeFloat = 1.0
    """Multiplier of all other layers."""
    freeze_batch_norm: bool = True
    """Frozen batch normalization keeps its statistics and normalizes with them; false: it goes on
    gathering them."""
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.999)
    """Decay rates of the mean and of the square of the gradients."""
    weight_decay: NonNegativeFloat = 0.01
    """Share of a weight that is taken off per step, times the learning rate."""


class Muon(AdamW):
    """Muon for kernels that mix channels, AdamW for all else, at one learning rate (ours).

    The outputs' kernels and those of depthwise convolutions are AdamW's.
    """

    class_name: Literal["Muon"] = Field(alias="__class_name__")  # type: ignore[assignment]
    """Chooses the class."""
    momentum: DecayRate = 0.95
    """Share of the last direction that Muon keeps."""


Optimizer = Annotated[WeightedMomentum | AdamW | Muon, Field(discriminator="class_name")]
