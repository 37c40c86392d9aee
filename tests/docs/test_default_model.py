"""The default model's recipe: data, first weights, specs, the kit for other machines."""

import importlib.util
import json
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bodyposenet.cli import main
from bodyposenet.data.drawn import write_drawn_dataset
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.source import read_image
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.optimizer import build_optimizer

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "default_model"
EPOCHS = 12


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kit(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return load_script("kit")


@pytest.fixture
def home(write_train_spec, tmp_path, monkeypatch):
    """A folder to pack from: a drawn dataset, and a train spec whose paths are relative to it."""
    monkeypatch.chdir(tmp_path)
    dataset = write_drawn_dataset(Path("data"), train_images=8, test_images=4, size=96, seed=1)
    for mode in ("train", "test"):
        convert = ["dataset_convert", "-d", str(dataset), "-o", f"data/records/{mode}"]
        assert main([*convert, "-m", mode, "--generate_masks", "--num_processes", "1"]) == 0
    often = {"checkpoint_n_epoch": 3, "validation_every_n_epoch": EPOCHS}
    spec = write_train_spec(num_epoch=EPOCHS, **often)
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
    command = [sys.executable, str(FOLDER / "kit.py"), "train", "--kit", "kit", "--work", machine]
    return subprocess.Popen(
        [*command, "--out", "out", "--state", "out", *flags], stderr=subprocess.PIPE, text=True
    )


def piece(machine, *flags):
    run = start(machine, *flags)
    _, err = run.communicate()
    return run.returncode, err


def epochs():
    lines = [json.loads(line) for line in Path("out/status.json").read_text().splitlines()]
    return [line["epoch"] for line in lines if "graphical" in line]


def test_a_training_goes_on_on_another_machine(kit, home):
    pack = ["pack", "-e", "train.yaml", "--kit", "kit", "--max-mb"]
    assert kit.main([*pack, "0.4"]) == 0
    first, *others = sorted(Path("kit").iterdir())
    assert others
    assert all(part.stat().st_size < 0.4e6 for part in (first, *others))

    waiting = [part.rename(home / part.name) for part in others]  # parts may come one by one
    code, err = piece("one")
    assert (code, f"1 of {len(others) + 1} parts" in err) == (2, True), err
    for part in waiting:
        part.rename(home / "kit" / part.name)

    run = start("one")
    while run.poll() is None and not list(Path("one/results").glob("model.epoch-3.tlt")):
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    run.communicate()
    assert run.returncode == 75
    done = len(epochs())
    assert 3 <= done < EPOCHS

    assert piece("two", "--minutes", "0")[0] == 75  # no time for a step: nothing is lost
    assert len(epochs()) == done

    code, err = piece("three", "--log_level", "ERROR", "--max-mb", "0.6")
    assert code == 0, err
    assert epochs() == list(range(1, EPOCHS + 1))
    assert (home / "three" / "files" / "src" / "bodyposenet" / "cli.py").exists()
    names = {path.name for path in Path("out").iterdir()}
    last = f"model.epoch-{EPOCHS}"
    assert {"bpnet_model.tlt", f"{last}.tlt", "experiment_spec.yaml"} <= names
    assert len(names) <= 8
    assert not {"latest.state", "model.epoch-3.tlt"} & names
    cuts = sorted(name for name in names if ".cut" in name)
    assert [name.partition(".cut")[2] for name in cuts] == ["1of2", "2of2"]
    assert all(name.startswith(f"{last}.state.") for name in cuts)
    events = EventAccumulator("out")  # one file of all pieces
    events.Reload()
    steps = [event.step for event in events.Scalars("total_loss")]
    assert set(steps) == set(range(1, steps[-1] + 1))
    assert piece("four")[0] == 0  # what was cut is whole again: there is nothing left to do
    assert epochs() == list(range(1, EPOCHS + 1))


def test_pieces_that_did_not_all_arrive_are_left_out(kit, tmp_path):
    content = bytes(range(256))
    old, new = dict(kit._cut("a", content, 100)), dict(kit._cut("a", content[::-1], 100))
    for name, piece in [*list(old.items())[1:], *new.items()]:
        (tmp_path / name).write_bytes(piece)
    kit._join(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == content[::-1]


def test_what_lies_elsewhere_is_no_part_of_a_kit(kit, home, capsys):
    spec = yaml.safe_load(Path("train.yaml").read_text())
    spec["dataloader"]["dataset_config"]["root_data_path"] = str(home / "data")
    Path("train.yaml").write_text(yaml.safe_dump(spec))
    with pytest.raises(SystemExit) as ended:
        kit.main(["pack", "-e", "train.yaml", "--kit", "kit"])
    assert ended.value.code == 2
    assert "relative to the folder that you pack from" in capsys.readouterr().err


def test_lost_photos_are_told_before_the_machine_is_rented(kit, home, capsys):
    Path("data/train/000003.jpg").unlink()
    with pytest.raises(SystemExit) as ended:
        kit.main(["pack", "-e", "train.yaml", "--kit", "kit"])
    assert ended.value.code == 2
    lost = Path("data/train/000003.jpg")
    assert f"1 files are missing; the first is {lost}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "flags", "told"),
    [
        ("narrow", f"-e {FOLDER}/light.yaml --weights w.h5 --images . -o m.tlt", "w.h5: cannot be"),
        ("found_people", "--images . -o found.json", "needs the package openvino, which is not"),
        ("coco_subset", "--coco . -o out", "person_keypoints_train2017.json: cannot be read"),
    ],
)
def test_scripts_end_as_the_command_line_does(name, flags, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(sys, "argv", [name, *flags.split()])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.fixture(scope="module")
def narrow():
    return load_script("narrow")


def test_a_narrow_front_gives_what_the_whole_one_gave(narrow, monkeypatch):
    """Filters that matter little go, and the others make up for them."""
    monkeypatch.setattr(narrow, "FRONT", {"block_1a_conv_1": 16, "block_1b_conv_1": 16})
    monkeypatch.setattr(narrow, "_POINTS_PER_PHOTO", 1000)
    torch.manual_seed(0)
    skeleton = load_skeleton("bpnet_18joints.json")
    attributes = BackboneAttributes(mtype="pooling", use_bias=True)
    full = BodyPoseNetwork(skeleton, ModelConfig(stages=1, backbone_attributes=attributes))
    layers = full.layers()
    with torch.inference_mode():
        for name in narrow.FRONT:
            layers[name].weight[12:] *= 0.01
        small = BodyPoseNetwork(skeleton, full.spec, widths=narrow.FRONT)
        photos = torch.rand(4, 3, 32, 32) - 0.5
        narrow.narrow_front(full, small, photos)
        wanted, found = full.backbone[:4](photos), small.backbone[:4](photos)
    assert found.shape[1] == 16
    distances = (found[:, :, None] - wanted[:, None]).square().mean((0, 3, 4))
    assert distances.amin(1).mean() < 0.05 * wanted[:, :12].var()


def test_the_light_spec_fits_its_network(narrow, monkeypatch):
    monkeypatch.chdir(ROOT)
    spec = TrainSpec.load(FOLDER / "light.yaml")
    assert set(spec.dataset_specs()) == {"coco_person", "coco_extra", "coco_more", "lspet"}
    network = BodyPoseNetwork(spec.skeleton, spec.model, widths=narrow.FRONT | narrow.REST)
    assert network.widths().items() >= (narrow.FRONT | narrow.REST).items()
    build_optimizer(network, spec.optimizer, stagewise=False)
    trained = {name for name, layer in network.layers().items() if layer.weight.requires_grad}
    assert set(network.layers()) - trained == set(list(narrow.FRONT)[:4])


def test_the_specs_of_one_network_agree(monkeypatch):
    monkeypatch.chdir(ROOT)
    specs = [TrainSpec.load(path) for path in sorted(FOLDER.glob("light*.yaml"))]
    assert len(specs) == 4
    assert all(spec.model == specs[0].model for spec in specs)
    assert all(spec.skeleton == specs[0].skeleton for spec in specs)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.name)
def test_dataset_specs_load(path):
    assert DatasetSpec.load(path).dataset == path.stem


def test_a_subset_of_coco_is_shrunk_with_its_annotations(tmp_path, monkeypatch):
    """As the dataset that it comes from, half as large."""
    whole = write_drawn_dataset(tmp_path / "drawn", train_images=4, test_images=2, size=96, seed=1)
    coco = tmp_path / "coco"
    (coco / "annotations").mkdir(parents=True)
    for split, mode in (("train2017", "train"), ("val2017", "test")):
        images_dir = DatasetSpec.load(whole).images_folder(mode)
        shutil.copytree(images_dir, coco / split)
        annotations = DatasetSpec.load(whole).annotations(mode)
        shutil.copy(annotations, coco / "annotations" / f"person_keypoints_{split}.json")
    subset = load_script("coco_subset")
    theirs = json.loads((coco / "annotations" / "person_keypoints_train2017.json").read_text())
    ids = [image["id"] for image in theirs["images"]][:3]
    sets = {"few": {"long_side": 48, "annotations": {"train.json": {"train2017": ids}}}}
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump(sets))
    monkeypatch.setattr(subset, "SETS", tmp_path / "sets.yaml")
    monkeypatch.setattr(sys, "argv", ["", "--coco", str(coco), "-o", str(tmp_path / "out")])
    subset.main()
    ours = json.loads((tmp_path / "out" / "few" / "annotations" / "train.json").read_text())
    assert [image["id"] for image in ours["images"]] == ids
    for image in ours["images"]:
        pixels = read_image(tmp_path / "out" / "few" / "images" / image["file_name"])
        assert pixels.shape[:2] == (image["height"], image["width"]) == (48, 48)
    people = [person for person in theirs["annotations"] if person["image_id"] in ids]
    assert len(people) == len(ours["annotations"]) > 0
    for small, person in zip(ours["annotations"], people, strict=True):
        assert small["bbox"] == pytest.approx([value / 2 for value in person["bbox"]])
        assert small["area"] == pytest.approx(person["area"] / 4)
        assert small["keypoints"][::3] == pytest.approx([x / 2 for x in person["keypoints"][::3]])
        assert small["keypoints"][2::3] == person["keypoints"][2::3]
    sets["few"]["annotations"]["train.json"]["train2017"].append(10**9)
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump(sets))
    with pytest.raises(BodyPoseNetError, match="has no image 1000000000"):
        subset.main()


def test_a_crowd_is_masked_by_its_box():
    crowd = {"bbox": [10, 20, 30, 40], "area": 600, "keypoints": [0] * 51}
    crowd["segmentation"] = {"counts": [5, 10], "size": [100, 100]}
    small = load_script("coco_subset").shrink(crowd, 0.5)
    assert small["segmentation"] == [[5, 10, 20, 10, 20, 30, 5, 30]]
