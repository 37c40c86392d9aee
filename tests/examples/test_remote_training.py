"""Tests of examples/remote_training: packing a training, and resuming it on other machines."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bodyposenet.cli import main
from bodyposenet.demo import write_drawn_dataset
from bodyposenet.specs.training import TrainSpec

FOLDER = Path(__file__).parents[2] / "examples" / "remote_training"
EPOCHS = 12


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def remote_training(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return load_script("remote_training")


@pytest.fixture
def pack_folder(write_train_spec, tmp_path, monkeypatch):
    """A folder to pack from: a drawn dataset, and a train spec whose paths are relative to it."""
    monkeypatch.chdir(tmp_path)
    dataset = write_drawn_dataset(Path("data"), train_images=8, test_images=4, size=96, seed=1)
    for mode in ("train", "test"):
        convert = ["dataset_convert", "-d", str(dataset), "-o", f"data/records/{mode}"]
        assert main([*convert, "-m", mode, "--generate_masks", "--num_processes", "1"]) == 0
    intervals = {"checkpoint_n_epoch": 3, "validation_every_n_epoch": EPOCHS}
    spec = write_train_spec(num_epoch=EPOCHS, **intervals)
    content = yaml.safe_load(spec.read_text())
    content["dataloader"]["dataset_config"] |= {
        "root_data_path": "data",
        "train_records_folder_path": "data/records",
        "val_records_folder_path": "data/records",
        "dataset_specs": {"drawn": "data/dataset.json"},
    }
    spec.write_text(yaml.safe_dump(content))
    return tmp_path


def start(machine, *flags):
    command = [
        sys.executable,
        str(FOLDER / "remote_training.py"),
        "train",
        "--archive",
        "archive",
        "--work",
        machine,
    ]
    return subprocess.Popen(
        [*command, "--out", "out", "--state", "out", *flags], stderr=subprocess.PIPE, text=True
    )


def run_once(machine, *flags):
    run = start(machine, *flags)
    _, err = run.communicate()
    return run.returncode, err


def epochs():
    lines = [json.loads(line) for line in Path("out/status.json").read_text().splitlines()]
    return [line["epoch"] for line in lines if "graphical" in line]


def test_a_training_resumes_on_another_machine(remote_training, pack_folder):
    pack = ["pack", "-e", "train.yaml", "--archive", "archive", "--max_part_mb", "9"]
    assert remote_training.main(pack) == 0
    first, *others = sorted(Path("archive").iterdir())
    assert others
    assert all(part.stat().st_size < 9e6 for part in (first, *others))

    waiting = [part.rename(pack_folder / part.name) for part in others]  # parts may come one by one
    code, err = run_once("one")
    assert (code, f"1 of {len(others) + 1} parts" in err) == (2, True), err
    for part in waiting:
        part.rename(pack_folder / "archive" / part.name)

    run = start("one", "--copy_every_minutes", "0.001")
    while run.poll() is None and not list(Path("out").glob("model.epoch-3.tlt")):
        time.sleep(0.02)  # until the first copy
    run.send_signal(signal.SIGTERM)
    run.communicate()
    assert run.returncode == 75
    done = len(epochs())
    assert 3 <= done < EPOCHS

    assert run_once("two", "--minutes", "0.001")[0] == 75  # no time for a step; the state is kept
    assert len(epochs()) == done

    code, err = run_once(
        "three", "--log_level", "ERROR", "--max_file_mb", "0.6", "--keep_models", "2"
    )
    assert code == 0, err
    assert epochs() == list(range(1, EPOCHS + 1))
    package = pack_folder / "three" / "files" / "src" / "bodyposenet"
    assert (package / "cli.py").exists()
    assert list((package / "resources" / "default_model").glob("*.onnx"))
    names = {path.name for path in Path("out").iterdir()}
    last = f"model.epoch-{EPOCHS}"
    assert "experiment_spec.yaml" in names
    assert {name for name in names if name.endswith(".tlt")} == {
        "bpnet_model.tlt",
        "model.epoch-9.tlt",
        f"{last}.tlt",
    }
    assert "latest.state" not in names
    cuts = sorted(name for name in names if ".cut" in name)
    assert [name.partition(".cut")[2] for name in cuts] == ["1of2", "2of2"]
    assert all(name.startswith(f"{last}.state.") for name in cuts)
    events = EventAccumulator("out")  # one file of all pieces
    events.Reload()
    steps = [event.step for event in events.Scalars("total_loss")]
    assert set(steps) == set(range(1, steps[-1] + 1))
    assert run_once("four")[0] == 0  # the split files are joined; nothing is left to do
    assert epochs() == list(range(1, EPOCHS + 1))


def test_incomplete_parts_are_ignored(remote_training, tmp_path):
    content = bytes(range(256))
    old, new = (
        dict(remote_training._split("a", content, 100)),
        dict(remote_training._split("a", content[::-1], 100)),
    )
    for name, piece in [*list(old.items())[1:], *new.items()]:
        (tmp_path / name).write_bytes(piece)
    remote_training._join(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == content[::-1]


def test_paths_outside_of_the_working_directory_are_an_error(remote_training, pack_folder, capsys):
    spec = yaml.safe_load(Path("train.yaml").read_text())
    spec["dataloader"]["dataset_config"]["root_data_path"] = str(pack_folder / "data")
    Path("train.yaml").write_text(yaml.safe_dump(spec))
    with pytest.raises(SystemExit) as ended:
        remote_training.main(["pack", "-e", "train.yaml", "--archive", "archive"])
    assert ended.value.code == 2
    assert "relative to the folder that you pack from" in capsys.readouterr().err


def test_pretrained_weights_are_packed(remote_training, pack_folder, write_train_spec):
    """The weights of an OpenVINO IR are in a second file; the default model is part of the code."""
    for name in ("net.xml", "net.bin", "other.bin"):
        Path(name).touch()
    training_files = load_script("training_files")
    for start, expected in (("net.xml", {"net.xml", "net.bin"}), ("default", set())):
        spec = yaml.safe_load(Path("train.yaml").read_text()) | {"pretrained_weights": start}
        Path("train.yaml").write_text(yaml.safe_dump(spec))
        files = {str(path) for path in training_files.files_of(TrainSpec.load(Path("train.yaml")))}
        assert files & {"net.xml", "net.bin", "other.bin", "default"} == expected


def test_missing_photos_are_an_error_of_pack(remote_training, pack_folder, capsys):
    Path("data/train/000003.jpg").unlink()
    with pytest.raises(SystemExit) as ended:
        remote_training.main(["pack", "-e", "train.yaml", "--archive", "archive"])
    assert ended.value.code == 2
    lost = Path("data/train/000003.jpg")
    assert f"1 files are missing; the first is {lost}" in capsys.readouterr().err
