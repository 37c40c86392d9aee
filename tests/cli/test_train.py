"""`bpnet train`, from the command line: files, resuming, starting points, clear errors."""

import json
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bodyposenet.model.checkpoint import load_model, save_model


def tensors(path, key=""):
    return {name: value.tolist() for name, value in load_model(path, key).state_dict().items()}


@pytest.fixture
def train(run_bpnet, write_train_spec, tmp_path):
    """Train in a folder of its own: `train("a", num_epoch=2)` -> (result, results folder)."""

    def run(name, *flags, **changes):
        results = tmp_path / name
        result = run_bpnet("train", "-e", write_train_spec(**changes), "-r", results, *flags)
        return result, results

    return run


def test_a_run_leaves_checkpoints_a_model_events_and_a_status(train):
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
    assert {"validation_loss", "AP_drawn"} <= validated["kpi"].keys()

    events = EventAccumulator(str(results / "events"))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"cmap_loss_stage1", "paf_loss_stage2", "total_loss", "learning_rate"} <= scalars
    assert {"validation/loss", "validation/AP_drawn"} <= scalars
    assert events.Tags()["images"] == ["validation/predictions"]


def test_a_run_in_two_parts_equals_one_in_one_part(train, tmp_path):
    _, whole = train("whole", num_epoch=4)
    _, parts = train("parts", num_epoch=4)
    for path in parts.glob("*.epoch-[34].*"):
        path.unlink()
    (parts / "bpnet_model.tlt").unlink()
    result, _ = train("parts", num_epoch=4)
    assert "resuming after epoch 2" in result.err
    for name in ("model.epoch-4.tlt", "model.epoch-4.state", "bpnet_model.tlt"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_the_same_run_gives_the_same_bytes_with_any_number_of_workers(train):
    _, one = train("one")
    _, other = train("other", **{"dataloader.workers": 2})
    name = "model.epoch-2.state"
    assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_key_seals_the_files_and_another_key_is_one_clear_line(train, run_bpnet):
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


def test_only_so_many_checkpoints_are_kept(train):
    _, results = train("kept", num_epoch=3, max_ckpt_to_keep=1, validation_every_n_epoch=9)
    kept = sorted(path.name for path in results.glob("model.epoch-*"))
    assert kept == ["model.epoch-3.state", "model.epoch-3.tlt"]


def test_fine_tuning_takes_weights_and_optimizer_and_counts_from_its_epoch(train):
    _, first = train("first")
    tuning = {
        "is_finetune_exp": True,
        "checkpoint_path": str(first / "model.epoch-2.tlt"),
        "ckpt_epoch_num": 2,
    }
    result, tuned = train("tuned", num_epoch=3, finetuning_config=tuning)
    assert result.code == 0, result.err
    assert "epoch 3/3" in result.err
    assert [path.name for path in tuned.glob("model.epoch-*.tlt")] == ["model.epoch-3.tlt"]


def test_pretrained_weights_are_copied_by_name_and_reported(train):
    _, first = train("first")
    path = str(first / "bpnet_model.tlt")
    result, _ = train("second", pretrained_weights=path, **{"model.stages": 1})
    assert result.code == 0, result.err
    assert "stage1/conv1" in result.err or "loaded" in result.err


def test_load_graph_takes_the_widths_from_the_file(train, tmp_path):
    _, first = train("first")
    network = load_model(first / "bpnet_model.tlt")
    save_model(tmp_path / "pruned.tlt", network)
    changes = {"pretrained_weights": str(tmp_path / "pruned.tlt"), "load_graph": True}
    result, second = train("second", **changes, **{"model.backbone_attributes.width": 0.25})
    assert result.code == 0, result.err
    assert "regularization is off" in result.err
    shapes = [
        {name: tensor.shape for name, tensor in load_model(path).state_dict().items()}
        for path in (tmp_path / "pruned.tlt", second / "bpnet_model.tlt")
    ]
    assert shapes[0] == shapes[1]


def test_checkpoints_of_another_network_are_an_error(train):
    train("run", num_epoch=1)
    result, _ = train("run", **{"model.stages": 1})
    assert result.code == 2
    assert "another network" in result.err


def test_a_loss_that_is_no_number_stops_with_what_to_try(train):
    rates = {"base_learning_rate": 1e30, "min_learning_rate": 1e29}
    schedule = {"__class_name__": "SoftstartAnnealingLearningRateSchedule", **rates}
    optimizer = {"__class_name__": "WeightedMomentumOptimizer", "learning_rate_schedule": schedule}
    result, results = train("nan", optimizer=optimizer, num_epoch=5)
    assert result.code == 2
    assert "the loss is" in result.err
    assert "learning_rate" in result.err
    last = json.loads((results / "status.json").read_text().splitlines()[-1])
    assert last["status"] == "FAILURE"


@pytest.mark.parametrize("why", ["no records", "copy"])
def test_validation_that_the_data_do_not_allow_is_off_with_a_line(train, converted, tmp_path, why):
    spec = json.loads((converted / "dataset.json").read_text())
    spec["test_data"] = spec["train_data"]
    path = tmp_path / "copy.json"
    path.write_text(json.dumps(spec))
    config = "dataloader.dataset_config"
    changes = (
        {f"{config}.val_records_path": ["nowhere-*"]}
        if why == "no records"
        else {f"{config}.dataset_specs": {"drawn": str(path)}}
    )
    result, _ = train("off", **changes)
    assert result.code == 0, result.err
    assert ("validation loss is off" if why == "no records" else "AP on drawn is off") in result.err


def test_two_gpus_are_a_clear_error(train):
    result, _ = train("gpus", "--gpus", "2")
    assert result.code == 2
    assert "--gpus 2" in result.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataloader.dataset_config.train_records_path": ["nowhere"]}, "no such file"),
        ({"dataloader.dataset_config.root_data_path": "nowhere"}, "root_data_path"),
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
    broken = sorted((folder / "train").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:500])
    result, _ = train("broken", **{"dataloader.dataset_config.root_data_path": str(folder)})
    assert result.code == 2
    assert broken.name in result.err
    assert "Traceback" not in result.err
