"""Search for the threshold that leaves a given share of a network's MACs (`--target_macs`)."""

from __future__ import annotations

import math
from bisect import bisect_left

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.pruning.cost import compute_cost
from bodyposenet.pruning.threshold_rule import Ranking


def find_threshold(network: BodyPoseNetwork, ranking: Ranking, share: float) -> float:
    """The threshold of the largest network with at most this share of the multiply-accumulates.

    The larger the threshold, the fewer filters any layer keeps: a bisection over the norms finds
    the network. All thresholds from its norm up to the next give it; of these it is the shortest.

    Args:
        network: The network before pruning.
        ranking: Its filters.
        share: Of its multiply-accumulates, between 0 and 1.

    Raises:
        BodyPoseNetError: Every threshold leaves more.
    """
    whole = compute_cost(network).macs
    # At the largest norm no filter would stand out any more (see `check_threshold`).
    norms = ranking.norms()
    thresholds = [0.0, *norms[:-1]]

    def spared(threshold: float) -> float:
        return 1 - compute_cost(network, ranking.out_channels(threshold)).macs / whole

    place = bisect_left(thresholds, 1 - share, key=spared)
    if place == len(thresholds):
        raise BodyPoseNetError(
            f"--target_macs {share:g}: the least that is possible is "
            f"{1 - spared(thresholds[-1]):.3g} of the multiply-accumulates",
            "Ask for more, lower --min_num_filters and --pruning_granularity, or exclude fewer "
            "layers.",
        )
    return _shortest(float(thresholds[place]), float(norms[place]))


def _shortest(least: float, limit: float) -> float:
    """The number from `least` to below `limit` with the fewest decimals."""
    rounded = (math.ceil(least * 10**digits) / 10**digits for digits in range(1, 16))
    return next((number for number in rounded if least <= number < limit), least)
