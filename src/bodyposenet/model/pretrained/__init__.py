"""Pretrained weights: readers of several file formats, and transfer into a network.

Weights are matched by name and shape, and those that do not match are reported. The channels of the
maps are matched by the names of joints and limbs, in any order.
"""

from bodyposenet.model.pretrained.loading import build_pretrained, load_pretrained
from bodyposenet.model.pretrained.transfer import WeightReport

__all__ = ["WeightReport", "build_pretrained", "load_pretrained"]
