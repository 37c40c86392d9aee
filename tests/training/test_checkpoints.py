"""Checkpoints: complete or not there, the oldest go, the optimizer comes back exactly."""

import errno
import shutil

import pytest
import torch

from bodyposenet import files
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.training.checkpoints import (
    Checkpoint,
    list_checkpoints,
    restore_optimizer,
    save_checkpoint,
)

ARM = Skeleton("arm", ("shoulder", "elbow", "wrist"), ((0, 1), (1, 2)))
TINY = ModelConfig(
    backbone_attributes=BackboneAttributes(architecture="mobilenet", width=0.125), stages=1
)


def trained(kind, steps=2):
    torch.manual_seed(0)
    network = BodyPoseNetwork(ARM, TINY)
    groups = [{"params": list(network.parameters()), "multiplier": 1.0}]
    make = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[kind]
    optimizer = make(groups, lr=0.01, **({"momentum": 0.9} if kind == "sgd" else {}))
    for step in range(steps):
        one_step(network, optimizer, step)
    return network, optimizer


def one_step(network, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    maps = network(torch.randn(2, 3, 32, 32, generator=generator))
    optimizer.zero_grad()
    (maps.heatmaps[0].square().sum() + maps.pafs[0].sum()).backward()
    optimizer.step()


def save(folder, epoch, network, optimizer, key="", keep=3):
    save_checkpoint(folder, epoch, network, optimizer, key=key, spec="", keep=keep)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("key", ["", "secret"])
def test_going_on_from_a_checkpoint_gives_the_same_bits(tmp_path, kind, key):
    network, optimizer = trained(kind)
    save(tmp_path, 5, network, optimizer, key)
    one_step(network, optimizer, 9)

    again, fresh = trained(kind, steps=0)
    from bodyposenet.model.checkpoint import load_model

    (checkpoint,) = list_checkpoints(tmp_path)
    again.load_state_dict(load_model(checkpoint.model, key).state_dict())
    restore_optimizer(checkpoint, again, fresh, key)
    one_step(again, fresh, 9)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_the_oldest_checkpoints_go(tmp_path):
    network, optimizer = trained("sgd", steps=0)
    for epoch in (8, 9, 10, 11):
        save(tmp_path, epoch, network, optimizer, keep=2)
    assert [found.epoch for found in list_checkpoints(tmp_path)] == [10, 11]
    assert len(list(tmp_path.iterdir())) == 4


def test_a_model_without_its_state_is_no_checkpoint(tmp_path):
    network, optimizer = trained("sgd", steps=0)
    save(tmp_path, 1, network, optimizer)
    save(tmp_path, 2, network, optimizer)
    (tmp_path / "model.epoch-2.state").unlink()
    assert [found.epoch for found in list_checkpoints(tmp_path)] == [1]
    with pytest.raises(BodyPoseNetError, match="not a checkpoint"):
        Checkpoint.of(tmp_path / "model.epoch-2.tlt")


def test_a_full_disk_leaves_the_old_checkpoint_intact(tmp_path, monkeypatch):
    network, optimizer = trained("sgd")
    save(tmp_path, 1, network, optimizer)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    one_step(network, optimizer, 3)
    with pytest.raises(BodyPoseNetError, match="No space left on device"):
        save(tmp_path, 2, network, optimizer)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("kind", ["a model", "another epoch"])
def test_a_state_that_is_not_this_checkpoints_is_an_error(tmp_path, kind):
    network, optimizer = trained("sgd")
    save(tmp_path, 1, network, optimizer)
    save(tmp_path, 2, network, optimizer)
    other = "model.epoch-2.tlt" if kind == "a model" else "model.epoch-1.state"
    shutil.copy(tmp_path / other, tmp_path / "model.epoch-2.state")
    with pytest.raises(BodyPoseNetError, match="is not the training state of epoch 2"):
        restore_optimizer(list_checkpoints(tmp_path)[-1], network, optimizer, "")


def test_the_state_of_another_optimizer_is_an_error(tmp_path):
    network, optimizer = trained("adamw")
    save(tmp_path, 1, network, optimizer)
    _, sgd = trained("sgd", steps=0)
    with pytest.raises(BodyPoseNetError, match="another optimizer"):
        restore_optimizer(list_checkpoints(tmp_path)[0], network, sgd, "")
