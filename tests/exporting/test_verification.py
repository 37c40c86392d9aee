"""Tests of the comparison of an exported model with its network, and of its limits."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.photos import read_folder
from bodyposenet.exporting.verification import (
    MAX_AP_LOSS,
    TOLERANCES,
    AccuracyComparison,
    Comparison,
    Tolerance,
    Verification,
    compare,
    drawn_batches,
    photo_batches,
    verify,
)
from bodyposenet.model.targets import render_targets
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Maps

# Joints of a face and the neck, and their pixels.
FACE = [0, 1, 14, 15, 16, 17]
POINTS = [(48, 24), (48, 56), (36, 12), (60, 12), (18, 20), (78, 20)]

EQUAL = Comparison(3, (64, 96), (0.0, 0.0), (1.0, 1.0), (0.0, 0.0), 100, 100, 0)


def noise(*decibels: float) -> tuple[float, ...]:
    """Return the noise of heatmaps and PAFs whose signal is 1."""
    return tuple(10 ** (-number / 10) for number in decibels)


class FixedEngine:
    """Engine that returns the maps of one face for every image.

    Args:
        shift: Shift of the face to the right, in pixels.
        added: Number that is added to the heatmaps.
    """

    def __init__(self, shift: float = 0.0, added: float = 0.0):
        self.skeleton = load_skeleton("bpnet_18joints.json")
        self.stride, self.stages, self.fixed_shape = 8, 1, None
        self.shift, self.added = shift, added

    def infer(self, images: np.ndarray, stage: int | None = None) -> list[Maps]:
        count, height, width = images.shape[:3]
        places = torch.full((1, 1, 18, 2), -100.0)
        places[0, 0, FACE] = torch.tensor(POINTS) + torch.tensor((self.shift, 0.0))
        labeled = torch.zeros(1, 1, 18, dtype=torch.bool)
        labeled[0, 0, FACE] = True
        heatmaps, pafs = render_targets(places, labeled, self.skeleton, height, width)
        maps = Maps(heatmaps[0].numpy() + np.float32(self.added), pafs[0].numpy(), 8)
        return [maps] * count


def images(count: int = 2) -> np.ndarray:
    return np.zeros((count, 64, 96, 3), np.uint8)


def test_equal_maps_have_no_error_and_all_keypoints():
    found = compare(FixedEngine(), FixedEngine(), images(), TOLERANCES["fp32"])
    assert found.errors == (0.0, 0.0)
    assert found.signal_to_noise == (math.inf, math.inf)
    assert (found.keypoints, found.matched, found.added) == (12, 12, 0)
    assert Verification((found,), TOLERANCES["fp32"]).problem is None


@pytest.mark.parametrize(("data_type", "matched"), [("fp32", 0), ("fp16", 0), ("int8", 12)])
def test_keypoints_within_the_tolerance_match(data_type, matched):
    """The face is 62 pixels wide, so 2 % of its size are 1.24 pixels."""
    found = compare(FixedEngine(), FixedEngine(shift=1.1), images(), TOLERANCES[data_type])
    assert (found.keypoints, found.matched, found.added) == (12, matched, 12 - matched)


@pytest.mark.parametrize(
    ("share", "pixels", "matched"),
    [(0.05, 0.0, 12), (0.04, 0.0, 0), (0.02, 2.0, 0), (0.0, 3.5, 12)],
)
def test_distance_is_a_share_of_the_size_of_the_person_with_a_minimum(share, pixels, matched):
    tolerance = Tolerance(pixels=pixels, remedy="", person_share=share)
    found = compare(FixedEngine(), FixedEngine(shift=2.8), images(), tolerance)
    assert found.matched == matched


def test_added_keypoints_are_counted_apart():
    class Blind(FixedEngine):
        def infer(self, images, stage=None):
            return [Maps(np.zeros((19, 8, 12), np.float32), np.zeros((38, 8, 12), np.float32), 8)]

    missed = compare(FixedEngine(), Blind(), images(1), TOLERANCES["int8"])
    assert (missed.keypoints, missed.matched, missed.added) == (6, 0, 0)
    invented = compare(Blind(), FixedEngine(), images(1), TOLERANCES["int8"])
    assert (invented.keypoints, invented.matched, invented.added) == (0, 0, 6)


def test_error_of_small_pafs_is_a_share_of_the_heatmaps():
    class WithoutPeople(FixedEngine):
        def infer(self, images, stage=None):
            heatmaps = np.ones((19, 8, 12), np.float32)
            return [Maps(heatmaps, np.full((38, 8, 12), self.added, np.float32), 8)]

    found = compare(WithoutPeople(), WithoutPeople(added=1e-6), images(1), TOLERANCES["fp32"])
    assert found.errors == (0.0, pytest.approx(1e-6))
    assert Verification((found,), TOLERANCES["fp32"]).problem is None


def test_error_and_signal_to_noise_ratio():
    network, exported = FixedEngine(), FixedEngine(added=0.01)
    found = compare(network, exported, images(), TOLERANCES["fp16"])
    expected = network.infer(images())
    maps = np.stack([each.heatmaps for each in expected])
    largest = max(maps.max(), np.abs(expected[0].pafs).max())
    assert found.errors == (pytest.approx(0.01 / largest, rel=1e-4), 0.0)
    ratio = np.square(maps, dtype=float).mean() / 1e-4
    assert found.signal_to_noise[0] == pytest.approx(10 * math.log10(ratio), rel=1e-4)


@pytest.mark.parametrize(
    ("data_type", "changes", "facts"),
    [
        ("fp32", {"errors": (2e-4, 0.0)}, ("0.0002 ", "0.0001")),
        ("fp32", {"errors": (1.00001e-4, 0.0)}, ("0.000100001 ", "0.0001")),
        ("fp32", {"errors": (math.nan, 0.0)}, ("nan",)),
        ("fp32", {"matched": 90}, ("90 %", "98 %")),
        ("fp16", {"errors": (0.1, 0.1), "noise": noise(25.0, 30.0), "matched": 95}, None),
        ("fp16", {"noise": noise(19.9999, 40.0)}, ("19.9999 dB", "20 dB")),
        ("fp16", {"matched": 80}, ("80 %", "90 %", "0.5 px")),
        ("fp32", {"added": 3}, ("3 %", "2 %")),
        ("int8", {"errors": (0.3, 0.3), "noise": noise(9.0, 12.0), "matched": 85}, None),
        ("int8", {"matched": 84}, ("84 %", "85 %", "2 % of the person")),
        ("int8", {"added": 30}, None),
        ("int8", {"added": 31}, ("31 %", "30 %")),
        ("int8", {"keypoints": 30, "matched": 26}, None),
        ("int8", {"keypoints": 29, "matched": 29}, ("29 keypoints", "30")),
        ("int8", {"noise": noise(12.0, 5.0)}, ("5 dB", "8 dB")),
        ("int8", {"noise": noise(math.nan, 20.0)}, ("nan dB",)),
        ("int8", {"noise": noise(8.5, 8.5), "matched": 0}, ("0 %", "85 %")),
    ],
)
def test_problem_has_distinguishable_numbers(data_type, changes, facts):
    empty = replace(EQUAL, keypoints=0, matched=0, signal=(0.0, 0.0))
    comparisons = empty, empty, replace(EQUAL, **changes)
    problem = Verification(comparisons, TOLERANCES[data_type]).problem
    assert (problem is None) == (facts is None)
    assert all(fact in str(problem) for fact in facts or ())


@pytest.mark.parametrize("changes", [{}, {"errors": (0.1, 0.0), "noise": noise(5.0, 5.0)}])
def test_without_keypoints_the_maps_are_compared_and_int8_is_refused(changes):
    empty = replace(EQUAL, keypoints=0, matched=0, **changes)
    for data_type, tolerance in TOLERANCES.items():
        alone = Verification((empty,), tolerance)
        assert alone.matched_share is None
        assert Verification((empty, EQUAL), tolerance).matched_share == 1.0
        problem = str(alone.problem)
        assert ("maps" in problem) == bool(changes)
        assert ("only 0 keypoints" in problem) == (data_type == "int8" and not changes)


def test_signal_to_noise_ratio_is_that_of_all_images():
    """PAFs of images without people are little more than noise, in good models too."""
    without_people = replace(EQUAL, keypoints=0, matched=0, signal=(1.0, 1e-3), noise=(0.0, 1e-3))
    noisy = replace(EQUAL, noise=noise(20.0, 20.0))
    assert without_people.signal_to_noise == (math.inf, 0.0)
    found = Verification((without_people, noisy), TOLERANCES["int8"])
    assert found.signal_to_noise == pytest.approx((20 + 10 * math.log10(2), 19.59), abs=0.01)
    assert found.problem is None


@pytest.mark.parametrize(
    ("network", "exported", "refused"),
    [(0.4, 0.385, False), (0.4, 0.379, True), (0.4, 0.45, False), (0.0, 0.0, True)],
)
def test_loss_of_ap_is_limited(network, exported, refused):
    accuracy = AccuracyComparison("val", 40, network, exported)
    verification = Verification((EQUAL,), TOLERANCES["int8"], accuracy)
    assert (verification.problem is not None) == refused
    assert all(fact in str(accuracy) for fact in ("40", "val", f"{network:.3f}", f"{exported:.3f}"))
    assert verification.kpis() == {
        "network_keypoints": 100, "matched_share": 1.0, "network_AP": network, "AP": exported,
    }  # fmt: skip
    assert MAX_AP_LOSS == 0.05


def test_exceeded_limit_is_an_error_or_a_warning(caplog, tmp_path):
    verification = Verification((replace(EQUAL, matched=80),), TOLERANCES["int8"])
    with pytest.raises(BodyPoseNetError, match=r"m\.onnx.*80 %") as error:
        verification.check(tmp_path / "m.onnx", allow_loss=False)
    assert "--allow_loss" in error.value.remedy
    verification.check(tmp_path / "m.onnx", allow_loss=True)
    assert "80 %" in caplog.text


def test_all_batches_are_compared_and_the_table_is_logged(caplog):
    caplog.set_level("INFO", "bodyposenet")
    batches = [images(1), images(3)]
    found = verify(FixedEngine(), FixedEngine(), batches, TOLERANCES["fp16"])
    assert [each.images for each in found.comparisons] == [1, 3]
    assert found.matched_share == 1.0
    assert found.table().count("\n") == 2
    assert found.table() in caplog.text


def test_drawn_batches_are_one_and_three_images_of_each_shape():
    batches = list(drawn_batches([(64, 96), (136, 200)], count=4))
    assert [batch.shape for batch in batches] == [
        (1, 64, 96, 3), (3, 64, 96, 3), (1, 136, 200, 3), (3, 136, 200, 3),
    ]  # fmt: skip
    assert [len(batch) for batch in drawn_batches([(64, 96)], count=7)] == [1, 3, 3]


def test_photos_are_fitted_into_the_shape(tmp_path):
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((50, 100, 3), 40 * number, np.uint8))
    batches = list(photo_batches(FixedEngine(), read_folder(tmp_path), [(64, 96)]))
    assert [len(batch) for batch in batches] == [1, 3, 2]
    photo = batches[1][0]
    assert photo.shape == (64, 96, 3)
    assert (photo[20:40, 10:90] == 40).all()
    assert (photo[0] == 128).all()  # the letterbox


def test_a_folder_without_photos_is_an_error(tmp_path):
    with pytest.raises(BodyPoseNetError, match="no images"):
        read_folder(tmp_path)
