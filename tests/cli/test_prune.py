"""`bpnet prune`: the pruned model, the table of layers, retraining and errors."""

import json
import re
from pathlib import Path

import pytest

from bodyposenet.commands.prune import PruneResult
from bodyposenet.model.checkpoint import load_model, read_model, save_model
from bodyposenet.training import build as training_build


@pytest.fixture
def prune(run_bpnet, exported, tmp_path):
    """Prune the trained model: `prune("-pth", 0.9)` -> (result, the pruned file)."""

    def run(*flags, model=exported / "model.tlt", name="pruned.tlt"):
        command = ("prune", "-m", model, "-k", "key", "-o", tmp_path / name, "-nf", 8)
        return run_bpnet(*command, *flags), tmp_path / name

    return run


def row(table, name):
    """Return the columns after a name in the table."""
    (line,) = [line for line in table.splitlines() if line.startswith(name + " ")]
    return line.removeprefix(name).split()


def test_table_has_filters_parameters_and_compute(prune, exported):
    result, path = prune("-pth", 0.9, "-el", "stage1/conv1")
    assert result.code == 0, result.err
    before = load_model(exported / "model.tlt", "key").out_channels()
    after = load_model(path, "key").out_channels()
    for name, width in before.items():
        assert row(result.out, name)[:2] == [str(width), str(after[name])]
    assert row(result.out, "stage1/conv1")[2:] == ["excluded"]
    assert row(result.out, "heatmap_out")[2:] == ["output"]
    assert sum(after.values()) < sum(before.values())
    for total in ("million parameters", "GMAC at 256 x 256"):
        large, small, share = row(result.out, total)
        assert float(share.rstrip("%")) < 100
        assert float(small) <= float(large)
    assert f"written: {path}" in result.out


def test_header_of_the_pruned_model(prune, exported, tmp_path):
    save_model(tmp_path / "m.tlt", load_model(exported / "model.tlt", "key"), epoch=7, spec="a: 1")
    result, path = prune("-n", "L2", "-eq", "geometric_mean", "-pth", 5, model=tmp_path / "m.tlt")
    assert result.code == 0, result.err
    header, network = read_model(path, "key")
    assert (header["epoch"], header["spec"]) == (7, "a: 1")
    assert header["widths"] == network.out_channels()
    assert header["pruned"] == {
        "normalizer": "L2", "equalization": "geometric_mean", "granularity": 8,
        "min_num_filters": 8, "threshold": 5.0,
    }  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "status.json").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["STARTED", "RUNNING", "SUCCESS"]


def test_target_macs(prune):
    result, path = prune("--target_macs", 0.6)
    assert result.code == 0, result.err
    assert 50 < float(row(result.out, "GMAC at 256 x 256")[2].rstrip("%")) <= 60
    (threshold,) = re.findall(r"threshold (\S+)\n", result.out)
    again, same = prune("-pth", threshold, name="again.tlt")
    assert again.code == 0, again.err
    assert load_model(same, "key").out_channels() == load_model(path, "key").out_channels()


def test_verbose_prints_norms(prune):
    result, _ = prune("-v")
    least, median, largest = map(float, row(result.err, "stage1/conv1")[3:])
    assert 0 <= least <= median <= largest == 1


def test_threshold_without_effect_is_an_error(prune):
    """Otherwise, a script would continue with a network of the old size."""
    result, path = prune("-pth", 0)
    assert result.code == 2
    assert "no filter" in result.err
    assert "--target_macs" in result.err
    assert "Execution status: FAIL" in result.out
    assert not path.exists()


def test_exported_model_is_an_error(prune, exported):
    result, _ = prune(model=exported / "model.onnx")
    assert result.code == 2
    assert "model.onnx" in result.err


def test_other_commands_read_the_pruned_model(prune, run_bpnet, exported, drawn_dataset, tmp_path):
    _, path = prune("-pth", 0.9)
    spec = ("-i", exported / "infer.yaml", "-k", "key")
    evaluated = run_bpnet("evaluate", *spec, "-m", path, "-d", drawn_dataset.spec, "-r", tmp_path)
    assert evaluated.code == 0, evaluated.err
    inferred = run_bpnet(
        "inference", *spec, "-m", path, "--input_type", "dir",
        "--input", drawn_dataset.folder / "test", "-r", tmp_path,
    )  # fmt: skip
    assert inferred.code == 0, inferred.err
    written = run_bpnet("export", "-m", path, "-k", "key", "-d", "96,128,3")
    assert written.code == 0, written.err


def test_a_pruned_model_can_be_pruned_again(prune):
    _, once = prune("-pth", 0.9)
    again, twice = prune("-pth", 0.95, model=once, name="twice.tlt")
    assert again.code == 0, again.err
    out_channels = [sum(load_model(path, "key").out_channels().values()) for path in (once, twice)]
    assert out_channels[1] < out_channels[0]


def test_training_continues_with_the_pruned_network(
    prune, run_bpnet, write_train_spec, tmp_path, monkeypatch
):
    _, path = prune("-pth", 0.9)
    multipliers = set()

    def spy(*arguments, **options):
        optimizer = build(*arguments, **options)
        multipliers.update(group["multiplier"] for group in optimizer.param_groups)
        return optimizer

    build = training_build.build_optimizer
    monkeypatch.setattr(training_build, "build_optimizer", spy)
    changes = {"pretrained_weights": str(path), "load_graph": True}
    results, logged = tmp_path / "retrained", ""
    for epochs in (1, 2):
        spec = write_train_spec(num_epoch=epochs, use_stagewise_lr_multipliers=True, **changes)
        trained = run_bpnet("train", "-e", spec, "-r", results, "-k", "key")
        assert trained.code == 0, trained.err
        logged += trained.err
    assert f"{path}: the model was pruned" in logged and "regularization is off" in logged
    assert "Resuming after epoch 1" in logged
    assert multipliers == {1.0, 2.0, 4.0, 8.0}
    retrained = load_model(results / "bpnet_model.tlt", "key")
    assert retrained.out_channels() == load_model(path, "key").out_channels()


def test_training_without_load_graph_logs_a_hint(prune, run_bpnet, write_train_spec, tmp_path):
    _, path = prune("-pth", 0.9)
    kind = {
        "architecture": "lightweight_openpose", "mtype": "open_model_zoo", "batch_norm": False,
        "width": 0.25,
    }  # fmt: skip
    changes = {"model.backbone_attributes": kind, "num_epoch": 1}
    spec = write_train_spec(pretrained_weights=str(path), **changes)
    trained = run_bpnet("train", "-e", spec, "-r", tmp_path / "run", "-k", "key")
    assert trained.code == 0, trained.err
    assert "load_graph: true" in trained.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-pth", "1.5"), "--pruning_threshold 1.5"),
        (("-pth", "-0.1"), "--pruning_threshold -0.1"),
        (("-pth", "nan"), "--pruning_threshold nan"),
        (("-pth", "0.5", "--target_macs", "0.5"), "--pruning_threshold and --target_macs"),
        (("--target_macs", "0"), "--target_macs 0"),
        (("--target_macs", "30"), "--target_macs 30"),
        (("--target_macs", "0.001"), "--target_macs 0.001"),
        (("-pg", "0"), "--pruning_granularity 0"),
        (("-pg", "1000"), "--pruning_granularity 1000"),
        (("-nf", "0"), "--min_num_filters 0"),
        (("-el", "heatmap_ot"), "heatmap_ot"),
        (("-k", "wrong"), "wrong key"),
    ],
)
def test_invalid_options_are_errors_without_a_file(prune, flags, message):
    result, path = prune(*flags)
    assert result.code == 2
    assert message in result.err
    assert not path.exists()


def test_existing_file_is_kept_without_overwrite(prune):
    _, path = prune("-pth", 0.9)
    before = path.read_bytes()
    refused, _ = prune("-pth", 0.95)
    assert refused.code == 2
    assert str(path) in refused.err and "--overwrite" in refused.err
    assert path.read_bytes() == before
    replaced, _ = prune("-pth", 0.95, "--overwrite")
    assert replaced.code == 0
    assert path.read_bytes() != before


def test_the_output_is_a_tlt_file(prune, tmp_path):
    result, _ = prune("-pth", 0.9, name="bare")
    assert result.code == 0, result.err
    assert (tmp_path / "bare.tlt").exists()
    refused, _ = prune("-pth", 0.9, name="x.onnx")
    assert refused.code == 2
    assert ".tlt or .hdf5" in refused.err


def test_the_old_name_of_out_channels_is_deprecated():
    result = PruneResult(Path("model.tlt"), 0.1, {"stage1/conv1": 8}, ())
    with pytest.warns(DeprecationWarning, match="out_channels"):
        assert result.widths == {"stage1/conv1": 8}
