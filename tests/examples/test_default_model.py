"""Tests of examples/default_model: data, weights, specs, gates."""

import importlib.util
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from bodyposenet.data.coco import CocoImage
from bodyposenet.demo import write_drawn_dataset
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.inference import models
from bodyposenet.media.images import read_image
from bodyposenet.model.checkpoint import load_model, save_model
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.model.pretrained import build_pretrained
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.optimizer import build_optimizer
from bodyposenet.types import Person

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "default_model"
SKELETON = load_skeleton("bpnet_18joints.json")


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [
        ("convert_weights", "--weights w.pth -o m.tlt", "w.pth"),
        ("coco_subset", "--coco . -o out", "person_keypoints_train2017.json: cannot be read"),
    ],
)
def test_scripts_exit_like_the_command_line(name, flags, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(sys, "argv", [name, *flags.split()])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err


def test_the_train_spec_freezes_the_first_blocks(monkeypatch):
    """The first blocks are frozen, the others of MobileNet have half the learning rate."""
    monkeypatch.chdir(ROOT)
    spec = TrainSpec.load(FOLDER / "train.yaml")
    assert set(spec.dataset_specs()) == {"coco_person", "coco_extra", "coco_more", "lspet"}
    network, _ = build_pretrained(
        models.DEFAULT_MODEL_FOLDER / models.FLOAT16_FILE, "", spec.skeleton, Normalization()
    )
    assert network.spec.backbone_attributes == spec.model.backbone_attributes
    optimizer = build_optimizer(network, spec.optimizer, stagewise=False)
    layers = network.layers()
    frozen = {name for name, layer in layers.items() if not layer.weight.requires_grad}
    assert frozen == {name for name in layers if re.match(r"block_[123]", name)}
    assert {group["multiplier"] for group in optimizer.param_groups} == {0.5, 1.0}


@pytest.fixture
def weights(tmp_path):
    return export_default(tmp_path / "a.tlt")


def export_default(path, factor=1.0):
    """Save the default model as a .tlt file, with its last layer multiplied by a factor."""
    network, _ = build_pretrained(
        models.DEFAULT_MODEL_FOLDER / models.FLOAT16_FILE, "", SKELETON, Normalization()
    )
    with torch.no_grad():
        network.layers()["paf_out"].weight.mul_(factor)
    save_model(path, network)
    return path


def run_script(name, monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", [name, *map(str, flags)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    return ended.value.code


def test_weights_are_averaged_and_halved(weights, tmp_path, monkeypatch):
    other = export_default(tmp_path / "b.tlt", factor=3.0)
    flags = ("--weights", other, "--average_with", weights, "--share", 0.25, "--half")
    assert run_script("convert_weights", monkeypatch, *flags, "-o", tmp_path / "c.tlt") == 0
    first, mixed = load_model(weights).layers(), load_model(tmp_path / "c.tlt").layers()
    torch.testing.assert_close(
        mixed["paf_out"].weight, 1.5 * first["paf_out"].weight, rtol=1e-3, atol=1e-4
    )
    size = (tmp_path / "c.tlt").stat().st_size
    assert size < 0.51 * weights.stat().st_size


def test_models_with_other_channel_numbers_cannot_be_averaged(
    weights, tmp_path, monkeypatch, capsys
):
    attributes = BackboneAttributes(architecture="lightweight_openpose", width=0.125)
    small = BodyPoseNetwork(SKELETON, ModelConfig(stages=2, backbone_attributes=attributes))
    save_model(tmp_path / "small.tlt", small)
    flags = ("--weights", weights, "--average_with", tmp_path / "small.tlt", "-o", tmp_path / "c")
    assert run_script("convert_weights", monkeypatch, *flags) == 2
    assert "small.tlt" in capsys.readouterr().err


def test_gates_compare_a_checkpoint_with_its_start(drawn_dataset, exported, monkeypatch, capsys):
    """A model does not improve on itself; figures are cached in a file beside it."""
    model = exported / "model.onnx"
    specs = ("--val", drawn_dataset.spec, "--sharp", drawn_dataset.spec)
    assert run_script("gates", monkeypatch, model, "--start", model, *specs, "--threads", 1) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert "FAIL" in rows["val_256_ap"] and "ok" in rows["val_368_ap_large"]
    kept = json.loads((exported / "model.onnx.gates.json").read_text())
    assert set(rows) <= set(kept["figures"])


def test_offsets_are_those_of_matched_people():
    """Offsets are in network pixels, of joints that are labeled and detected."""
    joints = np.column_stack([np.arange(17) * 4.0, np.arange(17) * 5.0, np.full(17, 2.0)])
    joints[3, 2] = 0
    people = tuple(
        Person(joints + shift, (shift, shift, 68, 85), 3000.0, False, None, 16, 1)
        for shift in (0.0, 200.0)
    )
    image = CocoImage(7, "a.jpg", 184, 368, people)
    pose = {
        "image_id": 7, "score": 1.0, "category_id": 1,
        "keypoints": (joints + np.array([1.0, -2.0, 0.0])).ravel().tolist(),
    }  # fmt: skip
    spec = InferenceSpec(input_shape=(368, 368))
    for results, expected in (([pose], np.tile([2.0, -4.0], (16, 1))), ([], np.zeros((0, 2)))):
        matches = evaluate_poses(results, [image], COCO_JOINTS, SKELETON).matches
        offsets = load_script("gates").find_offsets(matches, [image], spec)
        np.testing.assert_allclose(offsets, expected)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.name)
def test_dataset_specs_load(path):
    assert DatasetSpec.load(path).dataset == path.stem


def test_a_subset_of_coco_is_reduced_with_its_annotations(tmp_path, monkeypatch):
    """The subset equals the dataset at half the size."""
    whole = write_drawn_dataset(tmp_path / "drawn", train_images=4, test_images=2, size=96, seed=1)
    coco = tmp_path / "coco"
    (coco / "annotations").mkdir(parents=True)
    for split, mode in (("train2017", "train"), ("val2017", "test")):
        images_dir = DatasetSpec.load(whole).images_folder(mode)
        shutil.copytree(images_dir, coco / split)
        annotations = DatasetSpec.load(whole).annotations(mode)
        shutil.copy(annotations, coco / "annotations" / f"person_keypoints_{split}.json")
    subset = load_script("coco_subset")
    original = json.loads((coco / "annotations" / "person_keypoints_train2017.json").read_text())
    ids = [image["id"] for image in original["images"]][:3]
    sets = {"few": {"long_side": 48, "annotations": {"train.json": {"train2017": ids}}}}
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump(sets))
    monkeypatch.setattr(subset, "SETS", tmp_path / "sets.yaml")
    monkeypatch.setattr(sys, "argv", ["", "--coco", str(coco), "-o", str(tmp_path / "out")])
    subset.main()
    reduced = json.loads((tmp_path / "out" / "few" / "annotations" / "train.json").read_text())
    assert [image["id"] for image in reduced["images"]] == ids
    for image in reduced["images"]:
        pixels = read_image(tmp_path / "out" / "few" / "images" / image["file_name"])
        assert pixels.shape[:2] == (image["height"], image["width"]) == (48, 48)
    people = [person for person in original["annotations"] if person["image_id"] in ids]
    assert len(people) == len(reduced["annotations"]) > 0
    for small, person in zip(reduced["annotations"], people, strict=True):
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
