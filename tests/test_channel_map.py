"""Map channels are matched by the names of joints and limbs, in any notation."""

import pytest

from bodyposenet.channel_map import match_heatmaps, match_pafs
from bodyposenet.skeleton import Skeleton

SOURCE = Skeleton("source", ("nose", "left_ear", "right_ear"), ((0, 1), (0, 2)))


@pytest.mark.parametrize(
    "joints", [("right_ear", "tail", "nose"), ("REar", "tail", "Nose"), ("ear-r", "tail", "NOSE")]
)
def test_channels_of_known_joints_and_limbs_are_found(joints):
    target = Skeleton("target", joints, ((0, 2), (1, 2)))
    heatmaps = match_heatmaps(SOURCE, target, keep_background=False)
    assert heatmaps.known.tolist() == [True, False, True, False]
    assert heatmaps.source[[0, 2]].tolist() == [2, 0]
    pafs = match_pafs(SOURCE, target)
    assert pafs.known.tolist() == [True, True, False, False]
    assert pafs.source[:2].tolist() == [2, 3]
    assert pafs.sign[:2].tolist() == [-1, -1]


@pytest.mark.parametrize("joints", [("nose", "left_ear", "right_ear"), ("LEar", "REar", "Nose")])
def test_the_background_of_the_same_joints_is_kept(joints):
    target = Skeleton("target", joints, ())
    assert match_heatmaps(SOURCE, target, keep_background=False).known.all()
