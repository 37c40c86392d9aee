"""Tests of the PyTorch engine: batches, stages and sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.engines import pytorch
from bodyposenet.inference.engines.base import Engine
from bodyposenet.inference.engines.pytorch import PyTorchEngine
from bodyposenet.model.checkpoint import save_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig

TOY = Skeleton("toy", ("head", "left_hand", "right_hand"), ((0, 1), (0, 2)))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> BodyPoseNetwork:
    torch.manual_seed(0)
    attributes = BackboneAttributes(architecture="lightweight_openpose", width=0.125)
    return BodyPoseNetwork(TOY, ModelConfig(stages=3, backbone_attributes=attributes))


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 24), (17, 31)])
def test_maps_have_the_cells_of_any_size(network: BodyPoseNetwork, height: int, width: int):
    engine: Engine = PyTorchEngine(network, CPU)
    results = engine.infer(images(2, height, width))
    assert len(results) == 2
    rows, columns = -(-height // 8), -(-width // 8)
    for maps in results:
        assert maps.heatmaps.shape == maps.pafs.shape == (4, rows, columns)
        assert maps.heatmaps.dtype == maps.pafs.dtype == np.float32
        assert maps.stride == 8


def test_partial_cells_are_padded_with_gray(network: BodyPoseNetwork):
    engine = PyTorchEngine(network, CPU)
    small = images(1, 13, 21)
    padded = np.pad(small, ((0, 0), (0, 3), (0, 3), (0, 0)), constant_values=128)
    (maps,), (expected,) = engine.infer(small), engine.infer(padded)
    np.testing.assert_array_equal(maps.heatmaps, expected.heatmaps)


def test_every_stage_is_available(network: BodyPoseNetwork):
    engine = PyTorchEngine(network, CPU)
    batch = images(1, 16, 16)
    by_stage = [engine.infer(batch, stage)[0].pafs for stage in (1, 2, 3)]
    assert not np.array_equal(by_stage[0], by_stage[2])
    np.testing.assert_array_equal(by_stage[2], engine.infer(batch)[0].pafs)


@pytest.mark.parametrize("stage", [0, 4, -1])
def test_a_stage_that_the_model_lacks_is_an_error(network: BodyPoseNetwork, stage: int):
    with pytest.raises(BodyPoseNetError, match="stages 1 to 3"):
        PyTorchEngine(network, CPU).infer(images(1, 8, 8), stage)


def test_views_and_read_only_images_work(network: BodyPoseNetwork):
    engine = PyTorchEngine(network, CPU)
    image = images(1, 16, 24)
    mirrored = image[:, :, ::-1]
    copy = mirrored.copy()
    copy.flags.writeable = False
    (maps,), (expected,) = engine.infer(mirrored), engine.infer(copy)
    np.testing.assert_array_equal(maps.pafs, expected.pafs)


def test_tf32_is_disabled_only_during_a_run(network: BodyPoseNetwork):
    engine, seen = PyTorchEngine(network, CPU), []
    hook = engine.network.register_forward_pre_hook(
        lambda *_: seen.append(torch.backends.cudnn.allow_tf32)
    )
    before = torch.backends.cudnn.allow_tf32
    engine.infer(images(1, 8, 8))
    hook.remove()
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 == before


def test_loading_a_model_file(network: BodyPoseNetwork, tmp_path: Path):
    save_model(tmp_path / "m.tlt", network, key="key")
    engine = pytorch.load(tmp_path / "m.tlt", "key")
    assert (engine.skeleton, engine.stride, engine.stages) == (TOY, 8, 3)
    assert not engine.network.training
    assert len(engine.infer(images(1, 8, 8))) == 1
