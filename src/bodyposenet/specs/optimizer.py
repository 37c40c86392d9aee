"""The `optimizer` block of the train spec (TAO reference, section 9)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, model_validator

from bodyposenet.specs.loading import Block, ignored_key
from bodyposenet.specs.number_types import DecayRate, NonNegativeFloat, PositiveFloat, Probability


class SoftStartAnnealing(Block):
    """Learning rate with exponential warmup, plateau and exponential decay.

    See the TAO reference, section 9.
    """

    class_name: Literal["SoftstartAnnealingLearningRateSchedule"] = Field(alias="__class_name__")
    """Class name."""
    soft_start: Probability = 0.05
    """Fraction of the training at which the learning rate has reached base_learning_rate."""
    annealing: Probability = 0.5
    """Fraction of the training at which the decay starts, even during the warmup."""
    base_learning_rate: PositiveFloat = 2e-5
    """Largest learning rate."""
    min_learning_rate: PositiveFloat = Field(
        default=8e-8, validation_alias=AliasChoices("min_learning_rate", "minimum_learning_rate")
    )
    """Learning rate at the start and at the end; not 0, as warmup and decay are exponential."""
    last_step: Any = ignored_key("it is computed from the data, as in TAO")

    @model_validator(mode="after")
    def _minimum_is_not_above_base(self) -> SoftStartAnnealing:
        """Check the order of both learning rates."""
        if self.min_learning_rate > self.base_learning_rate:
            raise ValueError("min_learning_rate is larger than base_learning_rate")
        return self


class ExponentialDecay(Block):
    """lr = max(learning_rate x decay_rate ^ (epoch / decay_epochs), min_learning_rate)."""

    class_name: Literal["BpNetExponentialDecayLRSchedule"] = Field(alias="__class_name__")
    """Class name."""
    learning_rate: PositiveFloat = 2e-5
    """Learning rate at the start."""
    decay_epochs: PositiveFloat = 17
    """Number of epochs over which the learning rate is multiplied by decay_rate."""
    decay_rate: PositiveFloat = 0.333
    """Factor per decay_epochs epochs."""
    min_learning_rate: NonNegativeFloat = 8.18938e-08
    """Lower limit of the learning rate."""
    staircase: bool = False
    """Decay in steps, every decay_epochs epochs."""


Schedule = Annotated[SoftStartAnnealing | ExponentialDecay, Field(discriminator="class_name")]

_TAO_SCHEDULE = SoftStartAnnealing.model_validate(
    {"__class_name__": "SoftstartAnnealingLearningRateSchedule"}
)
_FINE_TUNING_SCHEDULE = _TAO_SCHEDULE.model_copy(
    update={"base_learning_rate": 1e-4, "min_learning_rate": 1e-6}
)


class WeightedMomentum(Block):
    """SGD with momentum and a learning rate multiplier per layer (TAO reference, section 9)."""

    class_name: Literal["WeightedMomentumOptimizer"] = Field(alias="__class_name__")
    """Class name."""
    learning_rate_schedule: Schedule = _TAO_SCHEDULE
    """Learning rate schedule. Default: SoftstartAnnealingLearningRateSchedule."""
    grad_weights_dict: dict[str, NonNegativeFloat] | None = None
    """Learning rate multipliers by layer name or regular expression; they override
    use_stagewise_lr_multipliers. 0 freezes a layer: its gradient is not computed."""
    weight_default_value: NonNegativeFloat = 1.0
    """Learning rate multiplier of all other layers."""
    freeze_batch_norm: bool = True
    """Use the running statistics of frozen batch normalization layers and do not update them (not
    in TAO); false: update them."""
    momentum: Probability = 0.9
    """Momentum; 0: plain SGD."""
    use_nesterov: bool = False
    """Nesterov momentum; requires momentum > 0."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> WeightedMomentum:
        """Check that Nesterov momentum is not combined with a momentum of 0."""
        if self.use_nesterov and self.momentum == 0:
            raise ValueError("use_nesterov requires momentum > 0")
        return self


class AdamW(Block):
    """AdamW with the same schedules and multipliers (not in TAO)."""

    class_name: Literal["AdamW"] = Field(alias="__class_name__")
    """Class name."""
    learning_rate_schedule: Schedule = _FINE_TUNING_SCHEDULE
    """Learning rate schedule. Default: SoftstartAnnealingLearningRateSchedule with a
    base_learning_rate of 1e-4 and a min_learning_rate of 1e-6, for fine-tuning a trained model."""
    grad_weights_dict: dict[str, NonNegativeFloat] | None = None
    """Learning rate multipliers by layer name or regular expression. 0 freezes a layer: its
    gradient is not computed."""
    weight_default_value: NonNegativeFloat = 1.0
    """Learning rate multiplier of all other layers."""
    freeze_batch_norm: bool = True
    """Use the running statistics of frozen batch normalization layers and do not update them;
    false: update them."""
    betas: tuple[DecayRate, DecayRate] = (0.9, 0.999)
    """Decay rates of the running averages of the gradient and of its square."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay."""


class Muon(AdamW):
    """Muon for convolution kernels, AdamW for all other weights, at one learning rate (not in TAO).

    AdamW also optimizes the kernels of the output layers and of depthwise convolutions.
    """

    class_name: Literal["Muon"] = Field(alias="__class_name__")  # type: ignore[assignment]
    """Class name."""
    momentum: DecayRate = 0.95
    """Momentum of Muon."""


Optimizer = Annotated[WeightedMomentum | AdamW | Muon, Field(discriminator="class_name")]

DEFAULT_OPTIMIZER = AdamW.model_validate({"__class_name__": "AdamW"})
