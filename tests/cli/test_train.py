"""`bpnet train`: files, resuming, fine-tuning, validation and errors."""

import json
import re
import shutil
from copy import deepcopy

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bodyposenet.directory_lock import directory_lock
from bodyposenet.exporting.onnx import export_onnx
from bodyposenet.model.checkpoint import load_model, named_tensors, read_model, read_tensors
from bodyposenet.model.pretrained import load_pretrained
from bodyposenet.training import build, initial_state, loop, validation

from ..model.pretrained.movenet_files import tiny_file


def tensors(path, key=""):
    return {name: value.tolist() for name, value in load_model(path, key).state_dict().items()}


@pytest.fixture
def train(run_bpnet, write_train_spec, tmp_path):
    """Train in a new folder: `train("a", num_epoch=2)` -> (result, results folder)."""

    def run(name, *flags, **changes):
        results = tmp_path / name
        result = run_bpnet("train", "-e", write_train_spec(**changes), "-r", results, *flags)
        return result, results

    return run


def test_run_writes_checkpoints_model_events_and_status(train):
    result, results = train("run")
    assert result.code == 0, result.err
    assert "Execution status: PASS" in result.out
    names = {path.name for path in results.iterdir()}
    assert {"model.epoch-1.tlt", "model.epoch-1.state", "model.epoch-2.tlt"} <= names
    assert {"bpnet_model.tlt", "experiment_spec.yaml", "status.json", "events"} <= names
    assert tensors(results / "bpnet_model.tlt") == tensors(results / "model.epoch-2.tlt")

    lines = [json.loads(line) for line in (results / "status.json").read_text().splitlines()]
    assert [lines[0]["status"], lines[-1]["status"]] == ["STARTED", "SUCCESS"]
    epochs = [line for line in lines if "graphical" in line]
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert {"loss", "learning_rate"} <= epochs[0]["graphical"].keys()
    (validated,) = [line for line in lines if "kpi" in line]
    assert validated["validated_epoch"] == 2
    assert {"validation_loss", "AP_drawn"} <= validated["kpi"].keys()

    events = EventAccumulator(str(results / "events"))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"cmap_loss_stage1", "paf_loss_stage2", "total_loss", "learning_rate"} <= scalars
    assert {"validation/loss", "validation/AP_drawn"} <= scalars
    assert events.Tags()["images"] == ["validation/predictions"]


def test_resumed_run_equals_an_uninterrupted_one(train, tmp_path):
    _, whole = train("whole", num_epoch=4)
    _, parts = train("parts", num_epoch=4)
    for path in parts.glob("*.epoch-[34].*"):
        path.unlink()
    (parts / "bpnet_model.tlt").unlink()
    result, _ = train("parts", num_epoch=4)
    assert "Resuming after epoch 2" in result.err
    assert "Training is complete" not in result.err
    for name in ("model.epoch-4.tlt", "model.epoch-4.state", "bpnet_model.tlt"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_completed_training_is_logged(train):
    _, results = train("run")
    model = (results / "bpnet_model.tlt").read_bytes()
    result, _ = train("run")
    assert result.code == 0, result.err
    assert "all 2 epochs (num_epoch) are done" in result.err
    assert (results / "bpnet_model.tlt").read_bytes() == model


def test_input_sizes_are_padded_to_whole_cells(train):
    dims = {"height": 60, "width": 64}
    result, _ = train("run", num_epoch=1, **{"dataloader.image_config.image_dims": dims})
    assert result.code == 0, result.err
    assert "image_dims 60 x 64 are padded" in result.err


def test_the_same_run_gives_the_same_bytes_with_any_number_of_workers(train):
    _, one = train("one")
    _, other = train("other", **{"dataloader.workers": 2})
    states = [read_tensors(path / "model.epoch-2.state")[1] for path in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_wrong_key_of_sealed_checkpoints_is_an_error(train, run_bpnet):
    _, results = train("sealed", "-k", "secret")
    load_model(results / "bpnet_model.tlt", "secret")
    result, _ = train("sealed", "-k", "wrong", num_epoch=3)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert "model.epoch-2" in result.err
    assert "key" in result.err
    again, _ = train("sealed", "-k", "secret", num_epoch=3)
    assert again.code == 0


def test_an_unset_key_is_an_empty_key(train):
    result, results = train("plain", "-k")
    assert result.code == 0
    load_model(results / "bpnet_model.tlt")


def test_old_checkpoints_are_removed(train):
    _, results = train("kept", num_epoch=3, max_ckpt_to_keep=1, validation_every_n_epoch=9)
    kept = sorted(path.name for path in results.glob("model.epoch-*"))
    assert kept == ["model.epoch-3.state", "model.epoch-3.tlt"]


FLAT = {
    "__class_name__": "AdamW",
    "learning_rate_schedule": {
        "__class_name__": "SoftstartAnnealingLearningRateSchedule",
        "base_learning_rate": 1e-3, "min_learning_rate": 1e-3, "soft_start": 0.0, "annealing": 1.0,
    },
}  # fmt: skip


def test_fine_tuning_continues_with_weights_optimizer_and_epoch(train):
    """With a constant learning rate, the third epoch equals that of an uninterrupted run."""
    _, whole = train("whole", num_epoch=3, optimizer=FLAT)
    tuning = {
        "is_finetune_exp": True,
        "checkpoint_path": str(whole / "model.epoch-2.tlt"),
        "ckpt_epoch_num": 2,
    }
    result, tuned = train("tuned", num_epoch=3, optimizer=FLAT, finetuning_config=tuning)
    assert result.code == 0, result.err
    assert [path.name for path in tuned.glob("model.epoch-*.tlt")] == ["model.epoch-3.tlt"]
    assert tensors(tuned / "bpnet_model.tlt") == tensors(whole / "bpnet_model.tlt")


def fine_tune(path):
    return {"is_finetune_exp": True, "checkpoint_path": str(path), "ckpt_epoch_num": 2}


def assert_weights_are_near(path, expected):
    layers, expected_layers = load_model(path).layers(), load_model(expected).layers()
    for name, layer in expected_layers.items():
        torch.testing.assert_close(layers[name].weight, layer.weight, rtol=0, atol=1e-5)


def test_fine_tuning_freezes_layers_with_their_statistics(train):
    _, first = train("first", optimizer=FLAT)
    frozen = FLAT | {"grad_weights_dict": {"block_.*": 0.0}}
    tuning = fine_tune(first / "model.epoch-2.tlt")
    result, tuned = train("tuned", num_epoch=3, optimizer=frozen, finetuning_config=tuning)
    assert result.code == 0, result.err
    assert re.search(r"optimizer state restored for (\d+) of \1 tensors", result.err)
    before = named_tensors(load_model(first / "model.epoch-2.tlt"))
    after = named_tensors(load_model(tuned / "bpnet_model.tlt"))
    for name, tensor in after.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, before[name]) == name.startswith("block_"), name
    assert torch.equal(
        after["block_1a_bn_1.num_batches_tracked"], before["block_1a_bn_1.num_batches_tracked"]
    )


def test_fine_tuning_with_another_optimizer_resets_its_state(train):
    _, first = train("first", optimizer=FLAT)
    tuning = fine_tune(first / "model.epoch-2.tlt")
    result, tuned = train("tuned", num_epoch=3, optimizer=sgd(1e-12), finetuning_config=tuning)
    assert result.code == 0, result.err
    assert re.search(r"optimizer state restored for 0 of \d+ tensors", result.err)
    assert_weights_are_near(tuned / "bpnet_model.tlt", first / "bpnet_model.tlt")


BARE = {"architecture": "lightweight_openpose", "width": 0.125, "batch_norm": False}


@pytest.mark.parametrize(
    "kind", ["bpnet_model.tlt", "model.epoch-2.tlt", "m.onnx", "model.epoch-2.state"]
)
def test_fine_tuning_starts_from_any_model_file(train, kind, tmp_path):
    changes = {"model.backbone_attributes": BARE, "optimizer": sgd(1e-6)}
    _, first = train("first", **changes)
    path = tmp_path / kind
    if kind == "m.onnx":
        header, network = read_model(first / "bpnet_model.tlt")
        path.write_bytes(export_onnx(network, header))
    else:
        shutil.copy(first / kind, path)
    changes["optimizer"] = sgd(1e-12)
    result, tuned = train("tuned", num_epoch=3, finetuning_config=fine_tune(path), **changes)
    assert result.code == 0, result.err
    assert ("optimizer state is reset" in result.err) == (path.suffix != ".state")
    assert_weights_are_near(tuned / "bpnet_model.tlt", first / "bpnet_model.tlt")


def test_fine_tuning_starts_from_the_default_model_by_its_name(train, monkeypatch):
    """A small model replaces the default model of the package."""
    _, first = train("first", optimizer=FLAT)
    monkeypatch.setattr(initial_state, "DEFAULT_MODEL_WEIGHTS", first / "bpnet_model.tlt")
    changes = {"optimizer": sgd(1e-12), "finetuning_config": fine_tune("default")}
    result, tuned = train("tuned", num_epoch=3, **changes)
    assert result.code == 0, result.err
    assert_weights_are_near(tuned / "bpnet_model.tlt", first / "bpnet_model.tlt")


def test_fine_tuning_of_another_network_copies_matching_weights(train):
    _, first = train("first")
    tuning = fine_tune(first / "model.epoch-2.tlt")
    changes = {"optimizer": FROZEN, "model.stages": 3}
    result, tuned = train("tuned", num_epoch=3, finetuning_config=tuning, **changes)
    assert result.code == 0, result.err
    assert "optimizer state is reset" in result.err
    assert "stage3/block1/conv1.weight" in result.err  # named as missing
    trained = load_model(tuned / "bpnet_model.tlt").layers()
    original = load_model(first / "bpnet_model.tlt").layers()
    assert torch.equal(
        trained["stage2/block3/conv2"].weight, original["stage2/block3/conv2"].weight
    )


def test_fine_tuning_in_the_folder_of_its_checkpoint_is_an_error(train):
    _, first = train("first")
    path = str(first / "model.epoch-1.tlt")
    tuning = {"is_finetune_exp": True, "checkpoint_path": path, "ckpt_epoch_num": 1}
    result, _ = train("first", num_epoch=3, finetuning_config=tuning)
    assert result.code == 2
    assert "another results folder" in result.err


def test_checkpoint_beyond_num_epoch_is_an_error(train):
    train("run", num_epoch=3)
    result, _ = train("run", num_epoch=2)
    assert result.code == 2
    assert "num_epoch" in result.err
    assert "epoch 3" in result.err


FROZEN = FLAT | {"grad_weights_dict": {".*": 0.0}, "freeze_batch_norm": False}


def test_pretrained_weights_are_copied_by_name_and_reported(train):
    _, first = train("first")
    path = str(first / "bpnet_model.tlt")
    changes = {"pretrained_weights": path, "optimizer": FROZEN, "model.stages": 3}
    result, second = train("second", **changes)
    assert result.code == 0, result.err
    assert "stage3/block1/conv1.weight" in result.err  # named as missing
    trained = load_model(second / "bpnet_model.tlt").layers()
    original = load_model(first / "bpnet_model.tlt").layers()
    for layer in ("block_1a_conv_1", "stage1/conv2", "stage2/block3/conv2"):
        assert torch.equal(trained[layer].weight, original[layer].weight)


def test_load_graph_copies_out_channels_and_weights(train):
    _, first = train("first")
    path = str(first / "bpnet_model.tlt")
    changes = {"pretrained_weights": path, "load_graph": True, "optimizer": FROZEN}
    result, second = train("second", **changes, **{"model.backbone_attributes.width": 0.25})
    assert result.code == 0, result.err
    assert "regularization is off" in result.err
    assert "backbone_attributes" in result.err  # has no effect beside load_graph
    trained = load_model(second / "bpnet_model.tlt").layers()
    for name, layer in load_model(path).layers().items():
        if isinstance(layer, torch.nn.Conv2d):
            assert torch.equal(trained[name].weight, layer.weight)


def test_heads_are_trained_on_a_frozen_movenet_trunk(train, run_bpnet, tmp_path):
    tiny_file(tmp_path / "trunk.safetensors")
    movenet = {"architecture": "movenet", "width": 0.125, "batch_norm": False}
    changes = {
        "pretrained_weights": str(tmp_path / "trunk.safetensors"),
        "model.backbone_attributes": movenet,
        "optimizer": FLAT | {"grad_weights_dict": {"(block|fpn)_.*": 0.0}},
        "model.kernel_regularization_factor": 0.0,
        "num_epoch": 1,
    }
    result, results = train("heads", **changes)
    assert result.code == 0, result.err
    assert "stage2/conv1.weight" in result.err  # named as missing
    assert "heads.heatmap.1.conv.weight" in result.err  # named as unused
    network = load_model(results / "bpnet_model.tlt")
    trained, start = named_tensors(network), deepcopy(network)
    load_pretrained(start, tmp_path / "trunk.safetensors")
    for name, tensor in named_tensors(start).items():
        if name.startswith(("block_", "fpn_")):
            assert torch.equal(trained[name], tensor)
    pruned = tmp_path / "pruned.tlt"
    result = run_bpnet(
        "prune", "-m", results / "bpnet_model.tlt", "-o", pruned, "-nf", 4, "-pg", 4, "-pth", 0.7
    )
    assert result.code == 0, result.err
    narrowed = load_model(pruned).out_channels()
    assert narrowed["block_9_dwconv"] < network.out_channels()["block_9_dwconv"]
    again = {
        "pretrained_weights": str(pruned), "load_graph": True, "num_epoch": 1,
        "model.backbone_attributes": movenet,
    }  # fmt: skip
    result, results = train("retrained", **again)
    assert result.code == 0, result.err
    assert load_model(results / "bpnet_model.tlt").out_channels() == narrowed


def test_changed_normalization_is_an_error(train):
    train("run", num_epoch=1)
    scale = {"image_scale": [255.0, 255.0, 255.0]}
    result, _ = train("run", **{"dataloader.normalization_params": scale})
    assert result.code == 2
    assert "normalization_params" in result.err


def test_results_folder_of_another_spec_is_an_error_with_the_differences(train):
    _, results = train("run", num_epoch=1)
    before = (results / "experiment_spec.yaml").read_bytes()
    changes = {"dataloader.batch_size": 6, "random_seed": 7, "num_epoch": 3}
    result, _ = train("run", **changes)
    assert result.code == 2
    assert "dataloader.batch_size was 4, is 6; random_seed was 42, is 7" in result.err
    assert "another results folder" in result.err
    assert "num_epoch" not in result.err
    assert (results / "experiment_spec.yaml").read_bytes() == before


def test_changed_records_or_precision_are_an_error(train, converted, tmp_path):
    train("run", num_epoch=1)
    twice = ["train-fold-000-of-001", "train-fold-000-of-001"]
    changes = {"dataloader.dataset_config.train_records_path": twice, "num_epoch": 2}
    result, _ = train("run", "--use_amp", **changes)
    assert result.code == 2
    assert "--use_amp was False, is True; records was" in result.err


def test_second_training_in_one_folder_is_an_error(train, tmp_path):
    (tmp_path / "run").mkdir()
    with directory_lock(tmp_path / "run"):
        result, _ = train("run")
    assert result.code == 2
    assert f"{tmp_path / 'run'}" in result.err
    assert "-r" in result.err


def test_settings_without_effect_on_results_can_be_changed_on_resume(train, tmp_path):
    train("run", num_epoch=1)
    free = {"num_epoch": 2, "log_every_n_secs": 5, "dataloader.workers": 1}
    result, _ = train("run", **free, checkpoint_every_n_secs=60, max_ckpt_to_keep=1)
    assert result.code == 0, result.err
    assert "Resuming after epoch 1" in result.err


def test_checkpoints_of_another_network_are_an_error(train):
    train("run", num_epoch=1)
    result, _ = train("run", **{"model.stages": 1})
    assert result.code == 2
    assert "model.stages was 2, is 1" in result.err


def sgd(rate):
    schedule = FLAT["learning_rate_schedule"] | {
        "base_learning_rate": rate,
        "min_learning_rate": rate,
    }
    return {"__class_name__": "WeightedMomentumOptimizer", "learning_rate_schedule": schedule}


@pytest.mark.parametrize("batch_size", [4, 64])
def test_diverged_training_is_an_error_without_a_checkpoint(train, batch_size):
    """With one step per epoch, the loss is still finite when the weights are not."""
    changes = {"optimizer": sgd(1e30), "num_epoch": 5, "dataloader.batch_size": batch_size}
    result, results = train("nan", **changes)
    assert result.code == 2
    assert "the loss is" in result.err or "diverged" in result.err
    assert "learning_rate" in result.err
    assert not list(results.glob("*.tlt"))
    last = json.loads((results / "status.json").read_text().splitlines()[-1])
    assert last["status"] == "FAILURE"


def test_diverged_training_saves_no_state(train):
    changes = {"optimizer": sgd(1e30), "num_epoch": 5, "dataloader.batch_size": 1}
    result, results = train("nan", **changes, checkpoint_every_n_secs=1e-6)
    assert result.code == 2
    assert not (results / "latest.state").exists()  # diverged in the first step


def test_float16_skips_steps_that_overflow_and_averages_the_others(train, monkeypatch):
    """As on GPUs without bfloat16; the initial loss scale is far too large."""
    updated = []
    monkeypatch.setattr(build, "mixed_precision", lambda _: torch.float16)
    monkeypatch.setattr(
        build.ExponentialMovingAverage, "update", lambda _, step: updated.append(step)
    )
    result, _ = train("run", "--use_amp", num_epoch=3, ema_decay=0.9)
    assert result.code == 0, result.err
    skipped = sum(map(int, re.findall(r"(\d+) steps of .*float16", result.err)))
    steps = 3 * int(re.search(r"(\d+) steps per epoch", result.err)[1])
    assert skipped > 0
    assert len(updated) == steps - skipped


def test_validation_turns_off_cudnn_benchmark(train, monkeypatch):
    benchmark_values = []
    predict = validation.predict_test_images

    def record_and_predict(*arguments):
        benchmark_values.append(torch.backends.cudnn.benchmark)
        return predict(*arguments)

    monkeypatch.setattr(validation, "predict_test_images", record_and_predict)
    monkeypatch.setattr(loop, "build_training", with_benchmark(loop.build_training))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)  # restored after the test
    result, _ = train("run", num_epoch=2, validation_every_n_epoch=1)
    assert result.code == 0, result.err
    assert benchmark_values == [False, False]
    assert torch.backends.cudnn.benchmark


def with_benchmark(build_training):
    def build_with_benchmark(*arguments, **options):
        training = build_training(*arguments, **options)
        torch.backends.cudnn.benchmark = True  # as on a GPU
        return training

    return build_with_benchmark


def test_validation_without_data_is_off_and_logged(train, converted, tmp_path):
    spec = json.loads((converted / "dataset.json").read_text())
    copy = converted / "annotations" / "copy_of_train.json"
    shutil.copy(converted / "annotations" / "train.json", copy)
    spec["test_data"]["annotation_root_dir_path"] = "annotations/copy_of_train.json"
    path = tmp_path / "copy.json"
    path.write_text(json.dumps(spec))
    config = "dataloader.dataset_config"
    changes = {
        f"{config}.val_records_path": ["nowhere-*"],
        f"{config}.dataset_specs": {"drawn": str(path)},
    }
    result, results = train("off", **changes)
    assert result.code == 0, result.err
    assert "Validation loss is off: file not found" in result.err
    assert "Validation AP on drawn is off: test_data is a copy" in result.err
    events = EventAccumulator(str(results / "events"))
    events.Reload()
    assert events.Tags()["images"] == ["validation/predictions"]


def test_invalid_validation_is_an_error_before_the_first_epoch(train, tmp_path):
    inference = tmp_path / "infer.yaml"
    inference.write_text("output_stage_to_use: 5")
    result, _ = train("run", inference_spec=str(inference))
    assert result.code == 2
    assert "output_stage_to_use" in result.err
    assert "Epoch: [1/2]" not in result.err


def test_missing_validation_is_repeated_on_resume(train):
    _, results = train("run", num_epoch=4)
    for path in results.glob("*.epoch-[34].*"):
        path.unlink()
    status = results / "status.json"
    lines = status.read_text().splitlines(keepends=True)
    status.write_text("".join(line for line in lines if '"validated_epoch": 2' not in line))
    result, _ = train("run", num_epoch=4)
    assert result.code == 0
    assert result.err.index("Validation: [2/4]") < result.err.index("Epoch: [3/4]")


def test_too_few_gpus_are_an_error(train):
    result, _ = train("gpus", "--gpus", "2")
    assert result.code == 2
    assert "--gpus 2" in result.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataloader.dataset_config.train_records_path": ["nowhere"]}, "file not found"),
        ({"dataloader.dataset_config.root_data_path": "nowhere"}, "root_data_path"),
        ({"dataloader.dataset_config.train_records_path": ["**x"]}, "train_records_path"),
        ({"dataloader.dataset_config.train_records_path": ["n" * 300]}, "train_records_path"),
        ({"pretrained_weights": "nowhere.tlt"}, "pretrained_weights"),
    ],
)
def test_missing_files_are_named(train, changes, message):
    result, _ = train("missing", **changes)
    assert result.code == 2
    assert message in result.err
    assert "train.yaml:" in result.err


def test_a_broken_image_is_named(train, converted, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(converted, folder)
    for image in (folder / "train").iterdir():
        image.write_bytes(image.read_bytes()[:500])
    result, _ = train("broken", **{"dataloader.dataset_config.root_data_path": str(folder)})
    assert result.code == 2
    assert re.search(r"train/\d+\.jpg: ", result.err)
    assert "Traceback" not in result.err


def test_a_spec_of_twelve_lines_trains(run_bpnet, converted, tmp_path):
    spec = tmp_path / "train.yaml"
    spec.write_text(
        "num_epoch: 1\n"
        "pretrained_weights: default\n"
        "load_graph: true\n"
        "dataloader:\n"
        "  batch_size: 8\n"
        "  image_config:\n"
        "    image_dims: {height: 64, width: 64}\n"
        "  pose_config:\n"
        "    pose_config_path: bpnet_18joints.json\n"
        "  dataset_config:\n"
        f"    train_records_path: ['{(converted / 'records').as_posix()}/train-fold-*']\n"
        f"    dataset_specs: {{drawn: '{(converted / 'dataset.json').as_posix()}'}}\n"
    )
    assert spec.read_text().count("\n") == 12
    result = run_bpnet("train", "-e", spec, "-r", tmp_path / "results")
    assert result.code == 0, result.err
    assert (tmp_path / "results" / "bpnet_model.tlt").is_file()
