"""Checkpoints are written atomically, pruned to the newest, and restored exactly."""

import errno
import shutil
from dataclasses import replace

import pytest
import torch

from bodyposenet import files
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import load_model, named_tensors, read_tensors, write_tensors
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.training.checkpoints import (
    Checkpoint,
    Position,
    TrainState,
    last_checkpoint,
    list_checkpoints,
    save_checkpoint,
    save_latest,
)
from bodyposenet.training.ema import ExponentialMovingAverage
from bodyposenet.training.optimizer import Muon, set_learning_rate

ARM = Skeleton("arm", ("shoulder", "elbow", "wrist"), ((0, 1), (1, 2)))
TINY = ModelConfig(
    backbone_attributes=BackboneAttributes(architecture="lightweight_openpose", width=0.125),
    stages=1,
)


def make_state(network, kind):
    network.to(memory_format=torch.channels_last)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    kernels = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim == 1]
    groups = [{"params": group, "multiplier": 1.0} for group in (kernels, others)]
    if kind == "muon":
        groups[0]["momentum"] = 0.95
        optimizer = Muon(groups, (0.9, 0.999))
        set_learning_rate(optimizer, 0.01)
    elif kind == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=0.01, fused=True)
    else:
        optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, fused=True)
    return TrainState(network, optimizer, ExponentialMovingAverage(network, 0.9))


def train(kind, steps=2):
    torch.manual_seed(0)
    state = make_state(BodyPoseNetwork(ARM, TINY), kind)
    for step in range(steps):
        train_one_step(state, step)
    return state


def train_one_step(state, seed):
    generator = torch.Generator().manual_seed(seed)
    maps = state.network(torch.randn(2, 3, 32, 32, generator=generator))
    state.optimizer.zero_grad()
    (maps.heatmaps[0].square().sum() + maps.pafs[0].sum()).backward()
    state.optimizer.step()
    state.ema.update(seed)


def save(folder, epoch, state, key="", keep=3):
    save_checkpoint(folder, Position(epoch), state, key=key, spec="", keep=keep)


@pytest.mark.parametrize("kind", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("key", ["", "secret"])
@pytest.mark.parametrize("within_epoch", [False, True])
def test_resuming_from_a_checkpoint_is_bit_exact(tmp_path, kind, key, within_epoch):
    state = train(kind)
    if within_epoch:
        save_latest(tmp_path, Position(5, 40), state, key=key, spec="")
    else:
        save(tmp_path, 5, state, key)
    train_one_step(state, 9)

    checkpoint = last_checkpoint(tmp_path, key)
    assert checkpoint.position == Position(5, 40 if within_epoch else 0)
    torch.manual_seed(123)
    restored = make_state(checkpoint.network, kind)
    checkpoint.restore(restored)
    train_one_step(restored, 9)
    for one, other in (
        (state.network, restored.network),
        (state.ema.network, restored.ema.network),
    ):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_the_model_file_holds_the_moving_average_and_the_state_file_the_weights(tmp_path):
    state = train("sgd")
    save(tmp_path, 1, state)
    saved = load_model(tmp_path / "model.epoch-1.tlt")
    name = "block_1a_conv_1.weight"
    assert torch.equal(named_tensors(saved)[name], named_tensors(state.ema.network)[name])
    checkpoint = last_checkpoint(tmp_path, "")
    assert torch.equal(named_tensors(checkpoint.network)[name], named_tensors(state.network)[name])
    assert not torch.equal(named_tensors(saved)[name], named_tensors(checkpoint.network)[name])


def test_a_training_without_ema_starts_from_the_saved_model(tmp_path):
    save(tmp_path, 1, train("sgd"))
    checkpoint = last_checkpoint(tmp_path, "")
    restored = replace(make_state(checkpoint.network, "sgd"), ema=None)
    checkpoint.restore(restored, strict=False)
    saved = named_tensors(load_model(tmp_path / "model.epoch-1.tlt"))
    for name, tensor in named_tensors(restored.network).items():
        assert torch.equal(tensor, saved[name]), name


def test_the_most_advanced_state_is_used_and_an_epoch_replaces_latest_state(tmp_path):
    state = train("sgd", steps=1)
    save(tmp_path, 1, state)
    save_latest(tmp_path, Position(1, 8), state, key="", spec="")
    assert last_checkpoint(tmp_path, "").position == Position(1, 8)
    save(tmp_path, 2, state)
    assert last_checkpoint(tmp_path, "").position == Position(2)
    assert not (tmp_path / "latest.state").exists()
    assert last_checkpoint(tmp_path / "missing", "") is None


def test_the_oldest_checkpoints_are_removed(tmp_path):
    state = train("sgd", steps=0)
    for epoch in (8, 9, 10, 11):
        save(tmp_path, epoch, state, keep=2)
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ["model.epoch-10.tlt", "model.epoch-11.tlt"]
    assert len(list(tmp_path.iterdir())) == 4


def test_states_without_their_model_are_removed(tmp_path):
    (tmp_path / "model.epoch-7.state").write_text("killed before the model was written")
    save(tmp_path, 8, train("sgd", steps=0))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["model.epoch-8.state", "model.epoch-8.tlt"]


def test_the_gradient_scaler_is_restored(tmp_path):
    state = replace(train("sgd"), scaler=torch.amp.GradScaler("cpu", init_scale=8.0))
    state.scaler.scale(torch.ones(()))  # creates the scale, on first use
    save(tmp_path, 1, state)
    restored = replace(train("sgd"), scaler=torch.amp.GradScaler("cpu"))
    last_checkpoint(tmp_path, "").restore(restored)
    assert restored.scaler.state_dict() == state.scaler.state_dict()
    assert restored.scaler.get_scale() == 8.0


def test_a_network_with_sync_batch_norm_is_saved_like_any_other(tmp_path):
    state = train("sgd", steps=0)
    before = set(named_tensors(state.network))
    torch.nn.SyncBatchNorm.convert_sync_batchnorm(state.network)
    assert set(named_tensors(state.network)) == before
    save(tmp_path, 1, state)
    assert set(named_tensors(load_model(tmp_path / "model.epoch-1.tlt"))) == before


def test_a_model_without_its_state_is_not_a_checkpoint(tmp_path):
    state = train("sgd", steps=0)
    save(tmp_path, 1, state)
    save(tmp_path, 2, state)
    (tmp_path / "model.epoch-2.state").unlink()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["model.epoch-1.tlt"]
    with pytest.raises(BodyPoseNetError, match=r"model\.epoch-2\.tlt"):
        Checkpoint.read(tmp_path / "model.epoch-2.tlt", "")


def test_a_full_disk_leaves_the_old_checkpoint_intact(tmp_path, monkeypatch):
    state = train("sgd")
    save(tmp_path, 1, state)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    train_one_step(state, 3)
    with pytest.raises(BodyPoseNetError, match="No space left on device"):
        save(tmp_path, 2, state)
    with pytest.raises(BodyPoseNetError, match="No space left on device"):
        save_latest(tmp_path, Position(1, 4), state, key="", spec="")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_model_renamed_to_a_state_is_an_error(tmp_path):
    save(tmp_path, 2, train("sgd"))
    shutil.copy(tmp_path / "model.epoch-2.tlt", tmp_path / "model.epoch-2.state")
    with pytest.raises(BodyPoseNetError, match=r"model\.epoch-2\.state"):
        last_checkpoint(tmp_path, "")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"samples": None}, "samples"),
        ({"samples": -1}, "samples"),
        ({"epoch": "two"}, "epoch"),
        ({"spec": 3}, "spec"),
        ({"facts": [1]}, "facts"),
        ({"scaler": {"scale": "big"}}, "scaler"),
        ({"network": {"stages": 2**31}}, "network.stages"),
        ({"widths": {"heatmap_out": 2**63}}, "widths.heatmap_out"),
    ],
)
def test_a_state_with_a_damaged_header_is_an_error(tmp_path, change, place):
    save(tmp_path, 2, train("sgd"))
    state = tmp_path / "model.epoch-2.state"
    header, tensors = read_tensors(state)
    write_tensors(state, header | change, tensors)
    with pytest.raises(BodyPoseNetError, match=rf"model\.epoch-2\.state: .*{place}"):
        last_checkpoint(tmp_path, "")


def _damaged_variants(tensors, name):
    """Yield the tensors without one of them, and with another shape or dtype of it."""
    others = {other: tensor for other, tensor in tensors.items() if other != name}
    yield others
    yield others | {name: torch.zeros(3, 5)}
    yield others | {name: tensors[name].to(torch.complex64)}


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("prefix", ["model|", "average|", "optimizer|", "random"])
def test_a_state_with_damaged_tensors_is_an_error(tmp_path, kind, prefix):
    state = train(kind)
    save(tmp_path, 2, state)
    state = tmp_path / "model.epoch-2.state"
    header, tensors = read_tensors(state)
    name = next(name for name, part in tensors.items() if name.startswith(prefix) and part.ndim)
    variants = list(_damaged_variants(tensors, name))
    if prefix == "optimizer|":  # missing optimizer tensors are allowed
        variants = variants[1:]
    for damaged in variants:
        write_tensors(state, header, damaged)
        with pytest.raises(BodyPoseNetError, match=r"model\.epoch-2\.state: "):
            checkpoint = last_checkpoint(tmp_path, "")
            checkpoint.restore(make_state(checkpoint.network, kind))


@pytest.mark.parametrize(
    ("kind", "other"), [("adamw", "sgd"), ("adamw", "muon"), ("muon", "adamw"), ("sgd", "muon")]
)
def test_the_state_of_another_optimizer_is_an_error(tmp_path, kind, other):
    save(tmp_path, 1, train(kind))
    checkpoint = last_checkpoint(tmp_path, "")
    with pytest.raises(BodyPoseNetError, match="another optimizer"):
        checkpoint.restore(make_state(checkpoint.network, other))


@pytest.mark.parametrize(
    ("kind", "other", "kept"),
    [
        ("adamw", "sgd", set()),
        ("sgd", "muon", set()),
        ("adamw", "muon", {1}),
        ("muon", "adamw", {1}),
    ],
)
def test_the_state_of_another_optimizer_is_restored_where_it_fits(
    tmp_path, caplog, kind, other, kept
):
    """Muon updates kernels, which have more than one dimension, and AdamW all others."""
    caplog.set_level("INFO")
    save(tmp_path, 1, train(kind))
    checkpoint = last_checkpoint(tmp_path, "")
    restored = make_state(checkpoint.network, other)
    checkpoint.restore(restored, strict=False)
    assert {part.ndim for part in restored.optimizer.state} == kept
    total = len(list(restored.network.parameters()))
    assert f"{len(restored.optimizer.state)} of {total} tensors" in caplog.text
    train_one_step(restored, 1)


@pytest.mark.parametrize("kind", ["sgd", "adamw", "muon"])
def test_optimizer_state_is_restored_for_the_layers_trained_before_and_after(tmp_path, kind):
    """Between the runs, one layer is frozen and another is unfrozen."""
    first, last = "block_1a_conv_1.weight", "stage1/paf_branch/out.weight"
    torch.manual_seed(0)
    state = make_state(freeze(BodyPoseNetwork(ARM, TINY), last), kind)
    train_one_step(state, 0)
    save(tmp_path, 1, state)
    checkpoint = last_checkpoint(tmp_path, "")
    restored = make_state(freeze(checkpoint.network, first), kind)
    checkpoint.restore(restored, strict=False)
    layer, _, part = "stage1/conv1.weight".rpartition(".")
    states = [
        each.optimizer.state[getattr(each.network.layers()[layer], part)]
        for each in (state, restored)
    ]
    assert states[0].keys() == states[1].keys() != set()
    assert all(torch.equal(states[0][entry], states[1][entry]) for entry in states[0])
    train_one_step(restored, 1)
    assert len(restored.optimizer.state) == len(state.optimizer.state)


def freeze(network, name):
    layer, _, part = name.rpartition(".")
    getattr(network.layers()[layer], part).requires_grad_(False)
    return network
