"""Structured pruning of trained networks: TAO's threshold rule on a dependency graph."""
