"""TAO's pruning rule: filters whose norm does not exceed a threshold are removed.

The norms of a layer's filters are normalized, combined over the layers of a dependency group (TAO's
equalization criterion) and compared with one threshold for the whole network. `rank_filters` does
everything except for the comparison, so that several thresholds can be tried on one `Ranking`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bodyposenet.errors import BodyPoseNetError, closest
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.pruning.dependency_graph import dependency_groups

Normalizer = Literal["max", "L2"]
Equalization = Literal["union", "intersection", "arithmetic_mean", "geometric_mean"]


@dataclass(frozen=True)
class PruningOptions:
    """Options of the pruning rule, except for the threshold (TAO reference, section 13).

    Args:
        normalizer: Divisor of a layer's norms. `max`: the largest of them. `L2`: the root of the
            sum of their squares, divided by their number.
        equalization: How the norms of the layers in a dependency group are combined. `union`: the
            largest; `intersection`: the smallest; or one of the two means.
        granularity: The number of filters that a layer keeps is rounded up to a multiple of this.
        min_num_filters: Minimum number of filters that a layer keeps (fewer if it has fewer).
    """

    normalizer: Normalizer = "max"
    equalization: Equalization = "union"
    granularity: int = 8
    min_num_filters: int = 16


@dataclass(frozen=True, eq=False)
class RankedGroup:
    """Convolutions that must keep the same filters, and the norms of these filters.

    Args:
        convolutions: Names of the convolutions, in forward order.
        norms: (F,) combined norm of each filter.
    """

    convolutions: tuple[str, ...]
    norms: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Norms of a network's filters, which a threshold is compared with.

    Args:
        options: Options that the norms were computed with.
        groups: Groups whose filters may be removed.
        unpruned: Reason by the name of each convolution that keeps all its filters.
    """

    options: PruningOptions
    groups: tuple[RankedGroup, ...]
    unpruned: dict[str, str]

    def kept(self, threshold: float) -> dict[str, NDArray[np.int64]]:
        """Return the ascending indices of the filters to keep, by the name of the convolution."""
        kept = {}
        for group in self.groups:
            filters = kept_filters(group.norms, threshold, self.options)
            kept |= dict.fromkeys(group.convolutions, filters)
        return kept

    def out_channels(self, threshold: float) -> dict[str, int]:
        """Return the number of filters to keep, by the name of the convolution."""
        return {name: len(filters) for name, filters in self.kept(threshold).items()}

    def norms(self) -> NDArray[np.float64]:
        """Return the distinct norms, ascending, at which the filters to keep change."""
        return np.unique(np.concatenate([group.norms for group in self.groups]))


def rank_filters(
    network: BodyPoseNetwork, options: PruningOptions, excluded: Collection[str] = ()
) -> Ranking:
    """Compute the norms of all filters, except for those of output layers and excluded layers.

    Args:
        network: The network.
        options: Normalization and combination of the norms.
        excluded: Names of layers that keep all their filters, as do the other layers of their
            dependency groups.

    Raises:
        BodyPoseNetError: An excluded layer does not exist, a weight is not finite, or the options
            leave no filter that could be removed.
    """
    layers = network.layers()
    _check_names(excluded, layers)
    outputs = set(network.outputs())
    groups, unpruned = [], {}
    for group in dependency_groups(network):
        convolutions = tuple(name for name in group if isinstance(layers[name], nn.Conv2d))
        named = [name for name in group if name in excluded]
        if outputs & set(group):
            unpruned |= dict.fromkeys(convolutions, "output")
        elif named:
            unpruned |= {
                name: "excluded" if name in named else f"excluded with {named[0]}"
                for name in convolutions
            }
        else:
            norms = [_layer_norms(name, layers[name], options) for name in convolutions]
            groups.append(RankedGroup(convolutions, combine_norms(norms, options.equalization)))
    ranking = Ranking(options, tuple(groups), unpruned)
    _check_possible(ranking)
    return ranking


def filter_norms(kernel: NDArray[np.floating], normalizer: Normalizer) -> NDArray[np.float64]:
    """Compute the normalized L2 norms of a convolution's filters.

    Args:
        kernel: (F, C, rows, columns); C is 1 for depthwise convolutions.
        normalizer: See `PruningOptions`.

    Returns:
        (F,) in 0 to 1 for `max` and 0 to F for `L2`; all 0 if the kernel is 0.
    """
    norms = np.linalg.norm(kernel.reshape(len(kernel), -1).astype(np.float64), axis=1)
    divisor = norms.max() if normalizer == "max" else np.linalg.norm(norms) / len(norms)
    return norms / (divisor or 1.0)


def combine_norms(
    norms: Sequence[NDArray[np.float64]], equalization: Equalization
) -> NDArray[np.float64]:
    """Combine the norms of layers that must keep the same filters.

    Args:
        norms: (F,) of each layer.
        equalization: See `PruningOptions`.

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


def kept_filters(
    norms: NDArray[np.float64], threshold: float, options: PruningOptions
) -> NDArray[np.int64]:
    """Return the filters of a layer to keep, those whose norms exceed the threshold.

    If these are fewer than the minimum or not a multiple of the granularity, the filters with the
    largest norms among the others are kept as well.

    Args:
        norms: (F,).
        threshold: In the units of the norms.
        options: Minimum number of filters and granularity.

    Returns:
        Ascending indices.
    """
    count = max(np.count_nonzero(norms > threshold), min(options.min_num_filters, len(norms)))
    count = min(-(-count // options.granularity) * options.granularity, len(norms))
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def check_threshold(ranking: Ranking, threshold: float) -> None:
    """Check that at least one filter has a norm above a threshold.

    Raises:
        BodyPoseNetError: No filter has.
    """
    norms = ranking.norms()
    if threshold < norms[-1]:
        return
    remedy = f"This model's norms are {norms[0]:.2g} to {norms[-1]:.2g}: choose one in between."
    if ranking.options.normalizer == "max":
        remedy += " Thresholds of 1 and more are for --normalizer L2."
    raise BodyPoseNetError(
        f"--pruning_threshold {threshold:g}: no filter has a larger norm, so every layer would be "
        "reduced to --min_num_filters",
        remedy,
    )


def _layer_norms(name: str, layer: nn.Module, options: PruningOptions) -> NDArray[np.float64]:
    """Return the normalized norms of a convolution's filters, which must be finite."""
    assert isinstance(layer, nn.Conv2d)
    norms = filter_norms(layer.weight.detach().cpu().numpy(), options.normalizer)
    if not np.isfinite(norms).all():
        raise BodyPoseNetError(
            f"Layer {name} has weights that are not finite",
            "Prune an earlier checkpoint, from before the training diverged.",
        )
    return norms


def _check_names(excluded: Collection[str], layers: Collection[str]) -> None:
    """Check that the excluded layers exist."""
    for name in excluded:
        if name not in layers:
            close = closest(name, layers) or list(layers)[:3]
            raise BodyPoseNetError(
                f"--excluded_layers: the model has no layer named {name}",
                f"Some of its layers: {', '.join(close)}.",
            )


def _check_possible(ranking: Ranking) -> None:
    """Refuse options that keep all filters at any threshold."""
    fewest = ranking.out_channels(np.inf)
    if any(len(group.norms) > fewest[group.convolutions[0]] for group in ranking.groups):
        return
    most = max((len(group.norms) for group in ranking.groups), default=0)
    options = ranking.options
    raise BodyPoseNetError(
        f"No filter can be pruned: the layers that may be pruned have at most {most} filters, with "
        f"--pruning_granularity {options.granularity} and --min_num_filters "
        f"{options.min_num_filters}",
        "Lower these two, or exclude fewer layers.",
    )
