"""What `prune` goes by, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Normalizer = Literal["max", "L2"]
Equalization = Literal["union", "intersection", "arithmetic_mean", "geometric_mean"]


@dataclass(frozen=True)
class Rule:
    """What is the same for all layers, but for the threshold.

    Args:
        normalizer: What a norm is divided by. max: the layer's largest; L2: the root of the sum of
            the squares of the layer's norms, over their count.
        equalization: How layers that keep the same filters come to one norm for each. union: the
            largest; intersection: the smallest; or a mean.
        granularity: Filters are kept in multiples of this.
        min_num_filters: No layer keeps less, unless it has less.
    """

    normalizer: Normalizer = "max"
    equalization: Equalization = "union"
    granularity: int = 8
    min_num_filters: int = 16
