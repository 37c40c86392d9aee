"""Synthetic images of drawn people with annotations, for the demo, tests and self-checks."""

from bodyposenet.demo.dataset import DATASET_NAME, write_drawn_dataset
from bodyposenet.demo.scene import draw_scene

__all__ = ["DATASET_NAME", "draw_scene", "write_drawn_dataset"]
