"""build_training releases the checkpoint that it loads."""

import gc
import weakref

import pytest
import torch

from bodyposenet.specs.training import TrainSpec
from bodyposenet.training import initial_state
from bodyposenet.training.build import build_training
from bodyposenet.training.distributed import DistributedContext

CPU = DistributedContext(torch.device("cpu"))


@pytest.mark.parametrize("is_fine_tuned", [False, True])
def test_a_checkpoint_does_not_stay_in_memory(
    run_bpnet, write_train_spec, tmp_path, monkeypatch, is_fine_tuned
):
    folder = tmp_path / "run"
    path = write_train_spec(num_epoch=1)
    assert run_bpnet("train", "-e", path, "-r", folder).code == 0
    if is_fine_tuned:
        tuning = {"is_finetune_exp": True, "checkpoint_path": str(folder / "model.epoch-1.tlt")}
        path, folder = write_train_spec(finetuning_config=tuning), tmp_path / "tuned"
        folder.mkdir()
    read, tensors = initial_state.Checkpoint.read, []

    def read_and_record(path, key):
        checkpoint = read(path, key)
        tensors.extend(map(weakref.ref, checkpoint.tensors.values()))
        return checkpoint

    monkeypatch.setattr(initial_state.Checkpoint, "read", read_and_record)
    training = build_training(TrainSpec.load(path), folder, CPU, key="", use_amp=False)
    gc.collect()
    assert training.resumed != is_fine_tuned
    large = [each for each in (ref() for ref in tensors) if each is not None and each.ndim]
    assert tensors and not large
