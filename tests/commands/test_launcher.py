"""Selection of GPUs from CUDA_VISIBLE_DEVICES."""

import pytest

from bodyposenet.commands.launcher import select_gpus
from bodyposenet.errors import BodyPoseNetError

UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"


@pytest.mark.parametrize(
    ("visible", "indices", "expected"),
    [
        (None, [1], "1"),
        (None, [0, 3], "0,3"),
        ("2,5", [1], "5"),
        ("2,5", [0, 1], "2,5"),
        (" 2, 5", [1], "5"),
        (f"{UUID},MIG-123", [0], UUID),
        (f"{UUID},MIG-123", [1], "MIG-123"),
        ("3,-1,4", [0], "3"),  # CUDA ignores everything after an invalid name
    ],
)
def test_index_selects_from_visible_devices(monkeypatch, visible, indices, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert select_gpus(indices) == expected


@pytest.mark.parametrize(
    ("visible", "index", "remedy"),
    [
        ("2,5", 2, "0 to 1"),
        ("3,-1,4", 1, "0 to 0"),
        ("", 0, "--gpu_index"),
        ("NoDevFiles", 0, "--gpu_index"),
    ],
)
def test_index_beyond_visible_devices_is_an_error(monkeypatch, visible, index, remedy):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(BodyPoseNetError) as error:
        select_gpus([index])
    assert f"--gpu_index {index}" in error.value.what
    assert f"CUDA_VISIBLE_DEVICES={visible}" in error.value.what
    assert remedy in error.value.remedy
