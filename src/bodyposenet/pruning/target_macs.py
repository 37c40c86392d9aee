"""Search for the threshold that leaves a given share of a network's MACs (`--target_macs`)."""

from __future__ import annotations

import math
from bisect import bisect_left

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.pruning.cost import compute_cost
from bodyposenet.pruning.threshold_rule import Ranking


def find_threshold(network: BodyPoseNetwork, ranking: Ranking, share: float) -> float:
    """Find the threshold that leaves the largest network within a budget of MACs.

    A larger threshold never keeps more filters of any layer, so the network is found by bisection
    over the norms. All thresholds from one norm up to the next one give the same network; the one
    with the fewest decimals is returned.

    Args:
        network: The network before pruning.
        ranking: The ranking of its filters.
        share: Maximum MACs of the pruned network as a share of the network's, between 0 and 1.

    Raises:
        BodyPoseNetError: No threshold prunes that much.
    """
    whole = compute_cost(network).macs
    # At the largest norm every filter would count as prunable (see `check_threshold`).
    norms = ranking.norms()
    thresholds = [0.0, *norms[:-1]]

    def removed_share(threshold: float) -> float:
        """Return the share of MACs that pruning at a threshold removes."""
        return 1 - compute_cost(network, ranking.out_channels(threshold)).macs / whole

    index = bisect_left(thresholds, 1 - share, key=removed_share)
    if index == len(thresholds):
        raise BodyPoseNetError(
            f"--target_macs {share:g} cannot be reached: at least "
            f"{1 - removed_share(thresholds[-1]):.3g} of the multiply-accumulates remain",
            "Give a larger share, lower --min_num_filters and --pruning_granularity, or exclude "
            "fewer layers.",
        )
    return _shortest_decimal(float(thresholds[index]), float(norms[index]))


def _shortest_decimal(low: float, high: float) -> float:
    """Return the number with the fewest decimals that is at least `low` and below `high`."""
    rounded = (math.ceil(low * 10**digits) / 10**digits for digits in range(1, 16))
    return next((number for number in rounded if low <= number < high), low)
