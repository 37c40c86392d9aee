"""TAO's rule (reference 13): norms of filters and a threshold in, the filters to keep out.

After Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference"
(2016), by magnitude: no data is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bodyposenet.pruning.rule import Equalization, Normalizer, Rule


def filter_norms(kernel: NDArray[np.floating], normalizer: Normalizer) -> NDArray[np.float64]:
    """The L2 norms of a convolution's filters, made comparable between layers.

    Args:
        kernel: (F, C, rows, columns); C is 1 where each channel is convolved by itself.
        normalizer: See `Rule`.

    Returns:
        (F,) at least 0; all 0 where the kernel is. max: at most 1; L2: at most F.
    """
    norms = np.linalg.norm(kernel.reshape(len(kernel), -1).astype(np.float64), axis=1)
    divisor = norms.max() if normalizer == "max" else np.linalg.norm(norms) / len(norms)
    return norms / (divisor or 1.0)


def equalize(
    norms: Sequence[NDArray[np.float64]], equalization: Equalization
) -> NDArray[np.float64]:
    """One norm per filter for layers that keep the same filters.

    Args:
        norms: (F,) of each layer.
        equalization: See `Rule`.

    Returns:
        (F,).
    """
    stacked = np.stack(norms)
    if equalization == "union":
        return stacked.max(axis=0)
    if equalization == "intersection":
        return stacked.min(axis=0)
    if equalization == "arithmetic_mean":
        return stacked.mean(axis=0)
    return np.prod(stacked ** (1 / len(stacked)), axis=0)


def kept_filters(norms: NDArray[np.float64], threshold: float, rule: Rule) -> NDArray[np.int64]:
    """The filters to keep: those with a norm above the threshold, and what the rule adds to them.

    Args:
        norms: (F,).
        threshold: In the units of the norms.
        rule: Its least number and its granularity fill up, with the largest of the other norms.

    Returns:
        Ascending indices.
    """
    count = max(np.count_nonzero(norms > threshold), min(rule.min_num_filters, len(norms)))
    count = min(-(-count // rule.granularity) * rule.granularity, len(norms))
    return np.sort(np.argsort(-norms, kind="stable")[:count])
