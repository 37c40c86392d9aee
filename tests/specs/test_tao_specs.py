"""Specs with the keys and structure of NVIDIA's own can be loaded; only paths are changed.

Those of the notebook `bpnet` of TAO 5 (NVIDIA/tao_tutorials) and of NVIDIA/tao_tensorflow1_backend,
rewritten from the sample of the guide, which is included in the package.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import TrainSpec

SPECS = Path(str(files("bodyposenet") / "resources" / "specs"))
SHARED = {
    "dataloader.pose_config.pose_config_path": "far/away/pose_configurations/bpnet_18joints.json",
    "infrequent_summary_every_n_steps": 0,
    "loss.focal_loss_params": {
        "use_focal_loss": False, "alpha": 0.1, "beta": 0.02, "bkg_thresh": 0.01, "gamma": 1,
    },
    "dataloader.augmentation_config.spatial_aug_params.translate_ratio_min": 0.2,
    "model.kernel_initializer": ...,
}  # fmt: skip
WITH_C128 = {
    "architecture": "vgg", "add_final_c128_conv": False, "mtype": "default", "use_bias": False
}  # fmt: skip
NO_MOVEMENT = {
    "flip_lr_prob": 0.0, "flip_tb_prob": 0.0, "rotate_deg_max": 0.0, "rotate_deg_min": 0.0,
    "zoom_prob": 0.0, "zoom_ratio_min": 1.0, "zoom_ratio_max": 1.0,
    "translate_max_x": 0.0, "translate_min_x": 0, "translate_max_y": 0.0, "translate_min_y": 0,
}  # fmt: skip
TRAIN_SPECS: dict[str, dict[str, Any]] = {
    "notebook, train": {
        "num_epoch": 20,
        "pretrained_weights": "pretrained_model/bodyposenet_vtrainable_v1.0/model.tlt",
        "inference_spec": "specs/infer_spec.yaml",
    },
    "notebook, retrain": {
        "num_epoch": 50,
        "pretrained_weights": "models/exp_m1_pruned/bpnet_model.pruned-0.2.hdf5",
        "load_graph": True,
        "model.kernel_initializer": ...,
        "inference_spec": "specs/infer_spec_retrained.yaml",
    },
    "repository, debugging": SHARED | {
        "dataloader.batch_size": 8,
        "dataloader.augmentation_config.spatial_aug_params": NO_MOVEMENT
        | {"use_translate_ratio": False, "translate_ratio_max": 0.2, "target_person_scale": 0.6},
        "model.backbone_attributes": WITH_C128,
        "optimizer.learning_rate_schedule.soft_start": 0.2,
        "optimizer.learning_rate_schedule.annealing": 0.6,
        "optimizer.learning_rate_schedule.last_step": 288100,
    },
    "repository, one GPU": SHARED | {
        "model.__class_name__": "BpNetModel",
        "model.backbone_attributes": {k: v for k, v in WITH_C128.items() if k != "use_bias"},
        "model.regularization_type": "l2",
        "optimizer.learning_rate_schedule": {
            "__class_name__": "BpNetExponentialDecayLRSchedule", "learning_rate": 2.0e-5,
            "decay_epochs": 17, "decay_rate": 0.333, "min_learning_rate": 8.18938e-08,
            "staircase": True,
        },
    },
    "repository, 4 GPUs": SHARED | {
        "model.backbone_attributes": WITH_C128,
        "optimizer.learning_rate_schedule.base_learning_rate": 8.0e-5,
        "optimizer.learning_rate_schedule.last_step": 288100,
    },
    "repository, 8 GPUs": SHARED | {
        "num_epoch": 120,
        "model.stages": 2,
        "optimizer.learning_rate_schedule.base_learning_rate": 12.0e-5,
    },
}  # fmt: skip
INFERENCE_SPECS: dict[str, dict[str, Any]] = {
    "notebook, infer_spec": {},
    "notebook, refine": {"multi_scale_inference": True},
    "notebook, strict": {"input_shape": [288, 384], "keep_aspect_ratio_mode": "pad_image_input"},
    "repository": {"input_shape": [256, 256]},
}


def written(path: Path, sample: str, changes: dict[str, Any]) -> Path:
    """Write a sample with other values by dotted key; `...` removes a key."""
    content = yaml.safe_load((SPECS / sample).read_text())
    for place, value in changes.items():
        block = content
        *outer, key = place.split(".")
        for part in outer:
            block = block.setdefault(part, {})
        if value is ...:
            block.pop(key, None)
        else:
            block[key] = value
    path.write_text(yaml.safe_dump(content))
    return path


def test_add_final_c128_conv_is_accepted_in_the_model_block(tmp_path, caplog):
    caplog.set_level("INFO")
    changes = {"model.add_final_c128_conv": True}
    path = written(tmp_path / "train.yaml", "bpnet_train_m1_coco.yaml", changes)
    assert TrainSpec.load(path).model.stages == 3
    assert "model.add_final_c128_conv has no effect" in caplog.text


@pytest.mark.parametrize("name", TRAIN_SPECS)
def test_train_specs(tmp_path, name):
    path = written(tmp_path / "train.yaml", "bpnet_train_m1_coco.yaml", TRAIN_SPECS[name])
    spec = TrainSpec.load(path)
    assert spec.skeleton.name == "bpnet_18_joints"
    with torch.device("meta"):
        assert BodyPoseNetwork(spec.skeleton, spec.model).stages == spec.model.stages


@pytest.mark.parametrize("name", INFERENCE_SPECS)
def test_inference_specs(tmp_path, name):
    changes = {"train_spec": "train.yaml"} | INFERENCE_SPECS[name]
    spec = InferenceSpec.load(written(tmp_path / "infer.yaml", "infer_spec.yaml", changes))
    assert spec.train_spec == "train.yaml"
    assert spec.multi_scale_inference == changes.get("multi_scale_inference", False)
