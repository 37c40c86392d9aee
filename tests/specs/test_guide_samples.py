"""The four sample specs of NVIDIA's guide can be loaded; ours differ in the paths only."""

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.specs.training import TrainSpec

RESOURCES = Path(str(files("bodyposenet") / "resources"))
PRINTED_PATHS = {
    "pose_config_path: bpnet_18joints.json": (
        "pose_config_path: /workspace/examples/bpnet/model_pose_config/bpnet_18joints.json"
    ),
    "coco: coco_spec.json": "coco: /workspace/examples/bpnet/data_pose_config/coco_spec.json",
    "train_spec: null": "train_spec: /workspace/examples/bpnet/specs/bpnet_train_m1_coco.yaml",
}


def printed(name: str) -> str:
    """Return one of our samples with the paths of the guide and without comments."""
    text = (RESOURCES / "specs" / name).read_text()
    for ours, guides in PRINTED_PATHS.items():
        text = text.replace(ours, guides)
    return re.sub(r"(?m)^# bpnet.*\n", "", text)


@pytest.fixture
def sample(tmp_path):
    def write(name: str, text: str | None = None) -> Path:
        path = tmp_path / name
        path.write_text(printed(name) if text is None else text)
        return path

    return write


def test_dataset_spec(sample):
    spec = DatasetSpec.load(sample("coco_spec.json"))
    assert spec.dataset == "coco"
    assert spec.split("test").mask_root_dir_path == "val_mask2017"
    assert spec.person.keypoints[:3] == ("nose", "left_eye", "right_eye")
    assert len(spec.person.skeleton) == 19
    assert {flag: v.name for flag, v in spec.visibility_flags.classes().items()} == {
        0: "NOT_LABELED", 1: "OCCLUDED", 2: "VISIBLE",
    }  # fmt: skip


def test_train_spec(sample):
    spec = TrainSpec.load(sample("bpnet_train_m1_coco.yaml"))
    assert spec.dataloader.batch_size == 10
    assert spec.dataloader.pose_config.target_shape == (32, 32)
    assert spec.dataloader.augmentation_config.spatial_aug_params.rotate_deg_min == -40
    assert spec.optimizer.learning_rate_schedule.base_learning_rate == 2e-5
    assert spec.optimizer.learning_rate_schedule.min_learning_rate == 8e-8
    assert spec.model.kernel_regularization_factor == 5e-4
    assert spec.use_stagewise_lr_multipliers
    assert spec.skeleton.name == "bpnet_18_joints"


def test_blocks_of_the_dataloader_can_be_at_the_top_level_as_in_the_guide(sample):
    text = printed("bpnet_train_m1_coco.yaml")
    inside = re.search(r"(?ms)^  augmentation_config:.*?(?=^model:)", text).group()
    outside = re.sub(r"(?m)^  ", "", inside)
    moved = sample("moved.yaml", text.replace(inside, "") + outside)
    assert (
        TrainSpec.load(moved).model_dump()
        == TrainSpec.load(sample("bpnet_train_m1_coco.yaml")).model_dump()
    )


def test_inference_spec(sample):
    spec = InferenceSpec.load(sample("infer_spec.yaml"))
    assert spec.input_shape == (368, 368)
    assert spec.keep_aspect_ratio_mode == "adjust_network_input"
    assert spec.output_stage_to_use is None
    assert (spec.heatmap_threshold, spec.paf_threshold) == (0.1, 0.05)
    assert spec.scales == (0.5, 1.0, 1.5, 2.0)


def test_pose_configuration_of_tao():
    skeleton = load_skeleton("bpnet_18joints.json")
    assert (skeleton.heatmap_channels, skeleton.paf_channels) == (19, 38)
    assert skeleton.limbs[0] == (1, 8)
    assert skeleton.limbs[-1] == (15, 17)


@pytest.mark.parametrize(
    "name", ["bpnet_train_m1_coco.yaml", "bpnet_train_lightweight_openpose_coco.yaml"]
)
def test_files_in_sample_train_specs_exist(name):
    spec = TrainSpec.load(RESOURCES / "specs" / name)
    assert spec.dataset_specs()["coco"].person.num_joints == 17


@pytest.mark.parametrize("path", sorted((RESOURCES / "specs").glob("*.yaml")), ids=lambda p: p.name)
def test_each_yaml_starts_with_its_command(path):
    assert path.read_text().startswith("# bpnet ")
    assert path.name in path.read_text().splitlines()[0]


@pytest.mark.shared_data
def test_samples_equal_those_of_the_guide(shared):
    guide = squeezed((shared / "reference" / "tao-bodyposenet-guide.txt").read_text())
    assert squeezed(printed("coco_spec.json")) in guide
    assert squeezed(printed("infer_spec.yaml")) in guide
    train = printed("bpnet_train_m1_coco.yaml")
    blocks = re.split(r"(?m)^(?=dataloader:|model:|optimizer:|loss:)|^  (?=\w+_config: *$)", train)
    assert len(blocks) >= 5
    missing = [block for block in blocks if squeezed(block) not in guide]
    assert not missing


def squeezed(text: str) -> str:
    """Remove all white space, as the text of the guide has no line breaks."""
    return re.sub(r"\s", "", text)


def test_both_lists_of_limbs_of_the_sample_dataset_spec_are_equal():
    category = json.loads(printed("coco_spec.json"))["categories"][0]
    names = category["keypoints"]
    assert category["skeleton_edge_names"] == [
        [names[start - 1], names[end - 1]] for start, end in category["skeleton"]
    ]
