"""Structured pruning of trained networks: removal of the filters with the smallest norms.

- `threshold_rule`: TAO's rule, which ranks filters by their norms and applies a threshold.
- `dependency_graph`: groups of layers that share their channels, and removal of channels.
- `cost`: parameters and multiply-accumulates (MACs) of a network, and the table before and after.
- `target_macs`: search for the threshold that leaves a given share of the MACs.
"""
