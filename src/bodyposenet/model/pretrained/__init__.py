"""Pretrained weights: read them from files of many formats, and copy them into a network.

What matches by name and shape is copied; what does not is reported, never skipped silently. The
channels of the maps match by the names of joints and limbs, whatever their order.
"""

from bodyposenet.model.pretrained.loading import build_pretrained, load_pretrained
from bodyposenet.model.pretrained.transfer import WeightReport

__all__ = ["WeightReport", "build_pretrained", "load_pretrained"]
