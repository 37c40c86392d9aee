"""What `prune` goes by, and the words for it."""

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


def filter_norms(kernel: NDArray[np.floating], normalizer: Normalizer) -> NDArray[np.float64]:
    """The L2 norms of a convolution's filters, made comparable between layers.

    Args:
        kernel: (F, C, rows, columns); C is 1 where each channel is convolved by itself.
        normalizer: See `PruningOptions`.

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
    norms: NDArray[np.float64], threshold: float, rule: PruningOptions
) -> NDArray[np.int64]:
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


@dataclass(frozen=True, eq=False)
class RankedGroup:
    """Convolutions that keep the same filters.

    Args:
        convolutions: Their TAO names, in the order of the data.
        norms: (F,) how much each filter matters.
    """

    convolutions: tuple[str, ...]
    norms: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """The filters of a network, in order of their norms.

    Args:
        rule: What the norms were made with.
        groups: Those whose filters may go.
        whole: Convolution that keeps all its filters -> why.
    """

    rule: PruningOptions
    groups: tuple[RankedGroup, ...]
    whole: dict[str, str]

    def kept(self, threshold: float) -> dict[str, NDArray[np.int64]]:
        """Convolution's TAO name -> ascending indices of the filters that it keeps."""
        found = {}
        for group in self.groups:
            filters = kept_filters(group.norms, threshold, self.rule)
            found |= dict.fromkeys(group.convolutions, filters)
        return found

    def out_channels(self, threshold: float) -> dict[str, int]:
        """Convolution's TAO name -> how many filters it keeps."""
        return {name: len(filters) for name, filters in self.kept(threshold).items()}

    def norms(self) -> NDArray[np.float64]:
        """All different norms, ascending: only there does a threshold change anything."""
        return np.unique(np.concatenate([group.norms for group in self.groups]))


def rank_filters(
    network: BodyPoseNetwork, rule: PruningOptions, excluded: Collection[str] = ()
) -> Ranking:
    """Rank the filters of all layers but the outputs.

    Args:
        network: The network.
        rule: How to.
        excluded: TAO names of layers that keep all their filters, and with them those that must
            keep the same.

    Raises:
        BodyPoseNetError: A name is no layer's, a weight is no finite number, or the rule leaves no
            filter that could go.
    """
    layers = network.layers()
    _check_names(excluded, layers)
    outputs = set(network.outputs())
    groups, whole = [], {}
    for tied in dependency_groups(network):
        convolutions = tuple(name for name in tied if isinstance(layers[name], nn.Conv2d))
        named = [name for name in tied if name in excluded]
        if outputs & set(tied):
            whole |= dict.fromkeys(convolutions, "output")
        elif named:
            reasons = {name: "excluded" if name in named else f"as {named[0]}" for name in tied}
            whole |= {name: reasons[name] for name in convolutions}
        else:
            norms = [_norms(name, layers[name], rule) for name in convolutions]
            groups.append(RankedGroup(convolutions, equalize(norms, rule.equalization)))
    ranking = Ranking(rule, tuple(groups), whole)
    _check_possible(ranking)
    return ranking


def check_threshold(ranking: Ranking, threshold: float) -> None:
    """Make sure that a threshold tells filters apart.

    Raises:
        BodyPoseNetError: No filter is above it.
    """
    norms = ranking.norms()
    if threshold < norms[-1]:
        return
    remedy = f"This model's norms are {norms[0]:.2g} to {norms[-1]:.2g}: choose one in between."
    if ranking.rule.normalizer == "max":
        remedy += " Thresholds of 1 and more are for --normalizer L2."
    raise BodyPoseNetError(
        f"--pruning_threshold {threshold:g}: no filter has a larger norm, so that every layer "
        "would be left with --min_num_filters",
        remedy,
    )


def _check_names(excluded: Collection[str], layers: Collection[str]) -> None:
    for name in excluded:
        if name not in layers:
            close = closest(name, layers) or list(layers)[:3]
            raise BodyPoseNetError(
                f"--excluded_layers: no layer is named {name}", f"There are {', '.join(close)} ..."
            )


def _check_possible(ranking: Ranking) -> None:
    """Refuse a rule that keeps all filters whatever the threshold is."""
    least = ranking.out_channels(np.inf)
    if any(len(group.norms) > least[group.convolutions[0]] for group in ranking.groups):
        return
    widest = max((len(group.norms) for group in ranking.groups), default=0)
    rule = ranking.rule
    raise BodyPoseNetError(
        f"nothing can be pruned: the layers that may be have {widest} filters at most; "
        f"--pruning_granularity is {rule.granularity}, --min_num_filters {rule.min_num_filters}",
        "Lower these two, or exclude fewer layers.",
    )


def _norms(name: str, layer: nn.Module, rule: PruningOptions) -> NDArray[np.float64]:
    assert isinstance(layer, nn.Conv2d)
    norms = filter_norms(layer.weight.detach().cpu().numpy(), rule.normalizer)
    if not np.isfinite(norms).all():
        raise BodyPoseNetError(
            f"the weights of {name} are not all finite numbers",
            "Prune an earlier checkpoint, from before the training diverged.",
        )
    return norms
