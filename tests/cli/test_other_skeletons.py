"""Training, evaluation and inference with another skeleton, defined by a pose configuration."""

import json
import re

import cv2
import numpy as np
import pytest
import yaml

from bodyposenet.demo import write_drawn_dataset
from bodyposenet.model.checkpoint import load_model
from bodyposenet.specs.pose import load_skeleton

JOINTS = ("nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip")
LIMBS = [
    ["nose", "left_shoulder"],
    ["nose", "right_shoulder"],
    ["left_shoulder", "left_hip"],
    ["right_shoulder", "right_hip"],
]


@pytest.fixture
def toy(tmp_path):
    """A pose configuration of five joints, a synthetic dataset with these joints, its folder."""
    category = {"num_joints": 5, "keypoints": JOINTS, "skeleton_edge_names": LIMBS}
    pose = tmp_path / "toy.json"
    pose.write_text(json.dumps({"pose_config_type": "toy", "categories": [category]}))
    folder = tmp_path / "toy_data"
    return pose, write_drawn_dataset(folder, 8, 4, size=128, seed=2, joints=JOINTS), folder


def test_five_joints_with_every_command(toy, run_bpnet, write_train_spec, tmp_path):
    pose, dataset, folder = toy
    for mode in ("train", "test"):
        result = run_bpnet("dataset_convert", "-d", dataset, "-o", folder / mode, "-m", mode)
        assert result.code == 0, result.err

    config = "dataloader.dataset_config"
    train_spec = write_train_spec(
        **{
            "dataloader.pose_config": {"pose_config_path": str(pose)},
            "dataloader.label_processor_config": {"heatmap_gaussian_sigma": 9},
            f"{config}.root_data_path": str(folder),
            f"{config}.train_records_folder_path": str(folder),
            f"{config}.val_records_folder_path": str(folder),
            f"{config}.dataset_specs": {"drawn": str(dataset)},
        }
    )
    result = run_bpnet("train", "-e", train_spec, "-r", tmp_path / "run")
    assert result.code == 0, result.err
    model = tmp_path / "run" / "bpnet_model.tlt"
    assert load_model(model).skeleton == load_skeleton(pose)
    assert load_model(model).heatmap_sigma == 9

    spec = tmp_path / "infer.yaml"
    thresholds = {"heatmap_threshold": 0.01, "paf_threshold": 0.0}
    spec.write_text(yaml.safe_dump({"input_shape": [64, 64], **thresholds}))
    flags = ("-i", spec, "-m", model, "-r", tmp_path / "found")
    result = run_bpnet("evaluate", "-d", dataset, *flags)
    assert result.code == 0, result.err
    found = json.loads((tmp_path / "found" / "detections_coco_format.json").read_text())
    assert all(len(pose["keypoints"]) == 15 for pose in found)

    images = ("--input_type", "dir", "--input", folder / "test", "--dump_visualizations")
    result = run_bpnet("inference", *images, *flags)
    assert result.code == 0, result.err
    detections = json.loads((tmp_path / "found" / "detections.json").read_text())
    assert detections["keypoint_names"] == list(JOINTS)
    picture = detections["images"][0]["viz_name"]
    pixels = cv2.imread(str(tmp_path / "found" / "images_annotated" / picture))
    assert pixels.shape == (128, 128, 3)


def test_channels_that_do_not_fit_the_skeleton_are_an_error(toy, run_bpnet, write_train_spec):
    pose, _, _ = toy
    changes = {"pose_config_path": str(pose)}
    spec = write_train_spec(**{"dataloader.pose_config": changes, "model.heat_channels": 19})
    result = run_bpnet("train", "-e", spec, "-r", pose.parent / "run")
    assert result.code == 2
    assert "model.heat_channels" in result.err
    assert "6" in result.err


@pytest.mark.parametrize("flip", [{}, {"flip_lr_prob": 0.5}, {"flip_tb_prob": 0.5}])
def test_unpaired_joints_are_logged_if_images_are_mirrored(
    converted, run_bpnet, write_train_spec, tmp_path, flip
):
    joints = ["nose", "left_shoulder", "left_hip"]
    category = {"num_joints": 3, "keypoints": joints, "skeleton": [[1, 2], [2, 3]]}
    pose = tmp_path / "half.json"
    pose.write_text(json.dumps({"pose_config_type": "half", "categories": [category]}))
    spec = write_train_spec(
        num_epoch=1,
        **{
            "dataloader.pose_config": {"pose_config_path": str(pose)},
            "dataloader.augmentation_config.spatial_aug_params": flip,
        },
    )
    result = run_bpnet("train", "-e", spec, "-r", tmp_path / "run")
    assert result.code == 0, result.err
    assert result.err.count("left_shoulder, left_hip") == (1 if flip else 0)


def test_datasets_with_other_joints_train_together(
    converted, run_bpnet, write_train_spec, tmp_path
):
    """The second dataset has no face keypoints, another name, and another image folder."""
    bodies = tuple(joint for joint in load_skeleton("coco_17joints.json").joints if "_" in joint)
    bodies = tuple(joint for joint in bodies if not joint.endswith(("eye", "ear")))
    folder = tmp_path / "bodies"
    dataset = write_drawn_dataset(folder, 6, 2, size=128, seed=5, joints=bodies)
    spec = json.loads(dataset.read_text()) | {"dataset": "bodies"}
    dataset.write_text(json.dumps(spec))
    result = run_bpnet("dataset_convert", "-d", dataset, "-o", folder / "train")
    assert result.code == 0, result.err

    config = "dataloader.dataset_config"
    records = [str(converted / "records/train-fold-000-of-001"), str(folder / "train-fold-*")]
    train_spec = write_train_spec(
        **{
            f"{config}.train_records_folder_path": "",
            f"{config}.train_records_path": records,
            f"{config}.root_data_paths": {"bodies": str(folder)},
            f"{config}.dataset_specs": {
                "drawn": str(converted / "dataset.json"),
                "bodies": str(dataset),
            },
        }
    )
    result = run_bpnet("train", "-e", train_spec, "-r", tmp_path / "run")
    assert result.code == 0, result.err
    assert re.search(r"\bbodies\b.* nose\b", result.err)
    lines = (tmp_path / "run" / "status.json").read_text().splitlines()
    (kpi,) = [json.loads(line)["kpi"] for line in lines if "kpi" in line]
    assert {"AP_drawn", "AP_bodies"} <= kpi.keys()
    assert np.isfinite(kpi["validation_loss"])
