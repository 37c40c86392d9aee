"""Tests of detections.json."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from bodyposenet.inference.detections import describe_image
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Poses

NOBODY = Poses.empty(Skeleton("stick", ("head", "hand"), ((0, 1),)))


def test_results_of_an_earlier_run_are_replaced():
    poses = replace(NOBODY, track_ids=np.zeros(0, np.int64), inferred=np.zeros((0, 2), np.bool_))
    earlier = {**poses.to_dict(), "viz_id": 3, "error": "lost"}
    entry = describe_image(Path("a.jpg"), NOBODY, {**earlier, "camera": "left"})
    assert entry == {"camera": "left", "full_image_path": "a.jpg", **NOBODY.to_dict()}
