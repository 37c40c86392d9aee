"""Errors in spec files have file, line and key; keys without effect; paths; values."""

import json
import logging
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.dataloader import ColorAugParams, SpatialAugParams
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.pose import (
    DEFAULT_POSE_CONFIGURATION,
    PoseConfiguration,
    bundled_skeleton,
    load_skeleton,
)
from bodyposenet.specs.training import FinetuningConfig, TrainSpec

EXAMPLES = Path(str(files("bodyposenet") / "resources" / "specs"))
TRAIN = (EXAMPLES / "bpnet_train_m1_coco.yaml").read_text()
DATASET = (EXAMPLES / "coco_spec.json").read_text()


@pytest.fixture
def mistake(tmp_path):
    """`mistake(old, new)` -> error text of the train spec with one text replaced."""

    def load(old: str, new: str) -> str:
        assert TRAIN.count(old) >= 1
        path = tmp_path / "train.yaml"
        path.write_text(TRAIN.replace(old, new, 1))
        with pytest.raises(BodyPoseNetError) as caught:
            TrainSpec.load(path)
        return str(caught.value).replace(str(tmp_path), "")

    return load


def line_of(text: str, source: str = TRAIN) -> int:
    return source[: source.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("num_epoch: 100", "num_epochs: 100", "num_epochs", "unknown key, did you mean num_epoch?"),
        ("zoom_prob: 0.0", "zoom_porb: 0.0",
         "dataloader.augmentation_config.spatial_aug_params.zoom_porb",
         "unknown key, did you mean zoom_prob?"),
        ("momentum: 0.9", "momentom: 0.9", "optimizer.momentom",
         "unknown key, did you mean momentum?"),
        ("soft_start: 0.05", "warm_xyz: 1", "optimizer.learning_rate_schedule.warm_xyz",
         "unknown key\n"),
        ("batch_size: 10", "batch_size: ten", "dataloader.batch_size",
         'Input should be a valid integer (got "ten")'),
        ("load_graph: False", "load_graph: maybe", "load_graph",
         'Input should be a valid boolean (got "maybe")'),
        ("batch_size: 10", "batch_size: true", "dataloader.batch_size",
         "Input should be a valid integer (got true)"),
        ("batch_size: 10", "batch_size: 0", "dataloader.batch_size",
         "Input should be greater than or equal to 1 (got 0)"),
        ("stages: 3", "stages: 7", "model.stages",
         "Input should be less than or equal to 6 (got 7)"),
        ("flip_lr_prob: 0.5", "flip_lr_prob: 1.5",
         "dataloader.augmentation_config.spatial_aug_params.flip_lr_prob",
         "Input should be less than or equal to 1 (got 1.5)"),
        ("rotate_deg_max: 40.0", "rotate_deg_max: .nan",
         "dataloader.augmentation_config.spatial_aug_params.rotate_deg_max",
         "Input should be a finite number (got NaN)"),
        ("architecture: vgg", "architecture: resnet", "model.backbone_attributes.architecture",
         "resnet is not supported"),
        ("architecture: vgg", "architecture: resnext", "model.backbone_attributes.architecture",
         "Input should be 'vgg', 'lightweight_openpose' or 'movenet' (got \"resnext\")"),
        ("WeightedMomentumOptimizer", "SGD", "optimizer.__class_name__",
         "unknown class 'SGD'"),
        ("  __class_name__: WeightedMomentumOptimizer\n", "", "optimizer.__class_name__",
         "is missing"),
        ("image_scale: [256.0, 256.0, 256.0]", "image_scale: [256.0, 0.0, 256.0]",
         "dataloader.normalization_params.image_scale.1",
         "Input should be greater than or equal to 0.000001 (got 0.0)"),
        ("    train_records_path: [train-fold-000-of-001]\n", "",
         "dataloader.dataset_config.train_records_path", "is missing"),
        ("rotate_deg_min: -40.0", "rotate_deg_min: 50.0",
         "dataloader.augmentation_config.spatial_aug_params",
         "rotate_deg_min 50.0 is larger than rotate_deg_max 40.0\n"),
    ],
)  # fmt: skip
def test_invalid_values_are_errors_with_line_and_key(mistake, old, new, place, message):
    error = mistake(old, new) + "\n"
    assert f": {place}: {message}" in error
    line = line_of(new) if new in TRAIN else line_of(old)
    if message == "is missing":  # the line of the block that lacks it
        line = line_of("  dataset_config:" if "records" in place else "optimizer:")
    elif "larger than" in message:
        line = line_of("spatial_aug_params:")
    assert error.startswith(f"/train.yaml:{line}: ")


def test_keys_with_defaults_can_be_missing(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(
        "dataloader:\n"
        "  dataset_config:\n"
        "    train_records_path: [train-fold-000-of-001]\n"
        "    dataset_specs: {mine: mine.json}\n"
    )
    spec = TrainSpec.load(path)
    assert spec.optimizer.class_name == "AdamW"
    schedule = spec.optimizer.learning_rate_schedule
    assert (schedule.base_learning_rate, schedule.min_learning_rate) == (1e-4, 1e-6)
    assert spec.dataloader.pose_config.target_shape is None
    assert spec.model.heat_channels is None and spec.model.paf_channels is None
    assert len(spec.skeleton.joints) == 18


@pytest.mark.parametrize(
    ("optimizer", "rate"),
    [("WeightedMomentumOptimizer", 2e-5), ("AdamW", 1e-4), ("Muon", 1e-4)],
)
def test_every_optimizer_has_a_default_schedule(tmp_path, optimizer, rate):
    path = tmp_path / "train.yaml"
    path.write_text(
        TRAIN[: TRAIN.index("optimizer:")] + f"optimizer: {{__class_name__: {optimizer}}}\n"
    )
    schedule = TrainSpec.load(path).optimizer.learning_rate_schedule
    assert schedule.base_learning_rate == rate


def test_one_error_lists_all_problems(tmp_path):
    path = tmp_path / "infer.yaml"
    path.write_text("input_shape: [368]\npaf_treshold: 0.1\nscales: []\n")
    with pytest.raises(BodyPoseNetError) as caught:
        InferenceSpec.load(path)
    lines = caught.value.what.splitlines()
    assert [line.split(":")[1] for line in lines] == ["1", "3", "2"]
    assert lines[2].endswith("paf_treshold: unknown key, did you mean paf_threshold?")


def test_an_invalid_value_in_a_list_is_reported_once(tmp_path):
    (tmp_path / "infer.yaml").write_text("scales: [a]\n")
    with pytest.raises(BodyPoseNetError) as caught:
        InferenceSpec.load(tmp_path / "infer.yaml")
    (line,) = caught.value.what.splitlines()
    assert 'infer.yaml:1: scales.0: Input should be a valid number (got "a")' in line


def test_channels_must_match_the_skeleton(mistake):
    error = mistake("heat_channels: 19", "heat_channels: 18")
    assert f"train.yaml:{line_of('heat_channels')}: model.heat_channels: " in error
    assert "18" in error and "heat_channels: 19" in error
    assert "paf_channels: 38" in mistake("paf_channels: 38", "paf_channels: 40")


def test_missing_channels_are_derived_from_the_skeleton(tmp_path):
    text = TRAIN.replace("  paf_channels: 38\n", "").replace("  heat_channels: 19\n", "")
    path = tmp_path / "train.yaml"
    path.write_text(text.replace("bpnet_18joints.json", "coco_17joints.json"))
    spec = TrainSpec.load(path)
    assert spec.skeleton.heatmap_channels == 18
    network = BodyPoseNetwork(spec.skeleton, spec.model)
    assert (network.spec.heat_channels, network.spec.paf_channels) == (18, 38)


def test_target_shape_must_match_the_stride(mistake):
    error = mistake("target_shape: [32, 32]", "target_shape: [64, 32]")
    assert all(fact in error for fact in ("[64, 32]", "[32, 32]", "256 x 256", "target_shape"))


def test_target_shape_of_an_input_that_is_not_a_multiple_of_the_stride(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(TRAIN.replace("height: 256", "height: 250"))
    assert TrainSpec.load(path).dataloader.pose_config.target_shape == (32, 32)


def test_load_graph_requires_weights(mistake):
    assert "load_graph: requires pretrained_weights" in mistake(
        "load_graph: False", "load_graph: yes"
    )


def line_start(text: str) -> int:
    return TRAIN.rindex("\n", 0, TRAIN.index(text)) + 1


FINETUNING = "  is_finetune_exp: False\n  checkpoint_path: null\n  ckpt_epoch_num: 0\n"
MOMENTUM = "  momentum: 0.9\n  use_nesterov: False\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("random_seed: 42", f"random_seed: {10**30}", "less than or equal to 4294967295"),
        (MOMENTUM, "  momentum: 0\n  use_nesterov: True\n",
         "use_nesterov requires momentum"),
        (FINETUNING, FINETUNING.replace("False", "True").replace("null", "a").replace("0", "100"),
         "finetuning_config.ckpt_epoch_num: 100 of 100 epochs"),
        ("    dataset_specs:", "    root_data_paths: {cocoo: /data}\n    dataset_specs:",
         "dataset_config.root_data_paths.cocoo: not in dataset_specs, did you mean coco?"),
    ],
)  # fmt: skip
def test_inconsistent_values_are_errors(mistake, old, new, message):
    assert message in mistake(old, new)


def test_betas_of_adamw_are_below_one(tmp_path):
    path = tmp_path / "train.yaml"
    text = TRAIN.replace(MOMENTUM, "  betas: [0.9, 1.0]\n")
    path.write_text(text.replace("WeightedMomentumOptimizer", "AdamW"))
    with pytest.raises(BodyPoseNetError, match=r"optimizer\.betas\.1: .* less than 1 "):
        TrainSpec.load(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ('""', "must be a file name"),
        ("../../x/y", "must be a file name"),
        ("..", "must be a file name"),
        ("model.epoch-9", "must not be the name of a checkpoint"),
    ],
)
def test_invalid_names_of_the_final_model(mistake, name, message):
    error = mistake("random_seed: 42", f"final_model_name: {name}")
    assert f": final_model_name: {message}" in error


@pytest.mark.parametrize(
    "form",
    [
        "key: SECRET\n",
        '"key": SECRET\n',
        "'key'  : 'SECRET'  # SECRET\n",
        "key: >-\n  SECRET\n  SECRET\n",
        "key:\n  - SECRET\n# SECRET\n",
        "? key\n: SECRET\n",
        "<<: {key: SECRET}\n",
        '"k\\x65y": SECRET\n',
    ],
)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_the_key_is_never_stored(tmp_path, form, place):
    path = tmp_path / "train.yaml"
    start = {"first": line_start("__class_name__"), "middle": line_start("random_seed")}
    cut = start.get(place, len(TRAIN))
    path.write_text(TRAIN[:cut] + form + TRAIN[cut:])
    spec = TrainSpec.load(path)
    stored = spec.text
    assert "SECRET" not in stored
    path.write_text(stored)
    assert TrainSpec.load(path).model_dump() == spec.model_dump() | {"key": None}
    if "<<" not in form:
        assert stored == TRAIN


@pytest.mark.parametrize("name", ["train.yaml", "train.json"])
@pytest.mark.parametrize("where", ["first", "last"])
def test_the_key_of_a_flow_mapping_is_never_stored(tmp_path, name, where):
    content = yaml.safe_load(TRAIN.replace("2.e-5", "2.0e-5").replace("8.e-08", "8.0e-08"))
    secret = {"key": "SECRET"}
    path = tmp_path / name
    path.write_text(json.dumps(secret | content if where == "first" else content | secret))
    spec = TrainSpec.load(path)
    path.write_text(spec.text)
    assert "SECRET" not in spec.text
    assert TrainSpec.load(path).model_dump() == spec.model_dump() | {"key": None}


def test_a_spec_without_a_key_is_stored_as_written(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(TRAIN)
    assert TrainSpec.load(path).text == TRAIN


def test_missing_pose_configuration(mistake):
    error = mistake("bpnet_18joints.json", "no/such.json")
    line = line_of("pose_config_path")
    place = "dataloader.pose_config.pose_config_path"
    assert f"/train.yaml:{line}: {place}: file or folder not found: no/such.json" in error


def test_a_path_of_tao_selects_the_included_pose_configuration(tmp_path, caplog):
    path = tmp_path / "train.yaml"
    path.write_text(TRAIN.replace("bpnet_18joints.json", "/far/bpnet_18joints.json"))
    with caplog.at_level(logging.WARNING, "bodyposenet"):
        assert TrainSpec.load(path).skeleton.name == "bpnet_18_joints"
    assert "/far/bpnet_18joints.json" in caplog.text


def test_missing_and_swapped_dataset_specs(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(TRAIN)
    with pytest.raises(BodyPoseNetError, match=r"dataset_specs\.coco: file or folder not found"):
        TrainSpec.load(path).dataset_specs()
    (tmp_path / "coco_spec.json").write_text(DATASET.replace('"coco"', '"other"'))
    with pytest.raises(BodyPoseNetError, match=r"dataset_specs\.coco: .*other"):
        TrainSpec.load(path).dataset_specs()


def test_a_dataset_can_be_relative_to_its_spec(tmp_path, monkeypatch):
    content = json.loads(DATASET) | {"root_directory_path": "data"}
    file = content["test_data"]["annotation_root_dir_path"]
    path = tmp_path / "specs" / "coco_spec.json"
    (path.parent / "data" / file).parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    spec = DatasetSpec.load(path)
    assert not spec.has_annotations("test")
    (path.parent / "data" / file).write_text("{}")
    assert spec.has_annotations("test")
    assert spec.root() == path.parent / "data"
    assert spec.annotations("test") == spec.root() / file
    assert spec.images_folder("test") == spec.root() / content["test_data"]["images_root_dir_path"]


def test_missing_annotations_and_root(tmp_path):
    path = tmp_path / "coco_spec.json"
    path.write_text(DATASET)
    spec = DatasetSpec.load(path)
    with pytest.raises(BodyPoseNetError, match="root_directory_path: file or folder not found"):
        spec.annotations("train")
    root = "/workspace/tao-experiments/bpnet/data"
    path.write_text(DATASET.replace(root, tmp_path.as_posix()))
    with pytest.raises(BodyPoseNetError, match=r"annotation_root_dir_path: file not found"):
        DatasetSpec.load(path).annotations("test")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{\n\t"dataset": "a",\n\t"dataset": "b"\n}', ":3: repeated key 'dataset'"),
        ('{\n\t"dataset": "a",\n\t"root_directory_path": }', ":3: not valid JSON: Expecting value"),
        ('{"dataset": "a"', ":1: not valid JSON"),
        ("", ":1: not valid JSON"),
        ("[1, 2]", ": expected keys and values"),
        ("[" * 100_000, ":1: more than 50 levels"),
        ('{"comment": ' + "[" * 900 + "]" * 900 + "}", ":1: more than 50 levels"),
        ('{"a": "b",\n"c": "\\ud800"}', ":2: unpaired surrogate \\ud800"),
    ],
)
def test_broken_json(tmp_path, text, what):
    path = tmp_path / "coco_spec.json"
    path.write_text(text)
    with pytest.raises(BodyPoseNetError) as caught:
        DatasetSpec.load(path)
    assert f"coco_spec.json{what}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("input_shape: [1, 2]\ninput_shape: [3, 4]\n", ":2: repeated key 'input_shape'"),
        ("a: 1\n\tb: 2\n", ":2: not valid YAML"),
        ("a: [1, 2\nb: 3\n", ":2: not valid YAML"),
        ("a: 1\nb: \x00\n", ":2: not valid YAML: character 0"),
        ("a: &x [*x]\n", ":1: not valid YAML: an alias"),
        ("a: &x {<<: *x}\n", ":1: not valid YAML: an alias"),
        ("a: " + "[" * 60 + "]" * 60, ":1: more than 50 levels"),
        ("a: " + "[" * 60_000, ":1: more than 50 levels"),
        ("a: 1\ninput_shape: !!timestamp 1", ":2: not valid YAML"),
        ("input_shape: !!bool 1", ":1: not valid YAML: not a value of the type"),
        ("input_shape: !!int x", ":1: not valid YAML: not a value of the type"),
        ("input_shape: " + "1" * 5000, ":1: not valid YAML: not a value of the type"),
        ('model_path: "\\udfff"', ":1: unpaired surrogate \\udfff"),
        ("a: " + "x" * 2**18, ": larger than 256 kB"),
        ("a: *nobody\n", ":1: not valid YAML: found undefined alias"),
        ("just words", ": expected keys and values"),
        ("? [a, b]\n: 1\n", ":1: not valid YAML"),
        ("model_path: !!set {a, b}", ":1: not valid YAML"),
        ("model_path: !!python/name:os.system x", ":1: not valid YAML"),
    ],
)
def test_broken_yaml(tmp_path, text, what):
    path = tmp_path / "infer.yaml"
    path.write_text(text)
    with pytest.raises(BodyPoseNetError) as caught:
        InferenceSpec.load(path)
    assert f"infer.yaml{what}" in str(caught.value)


@pytest.mark.parametrize("merged", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_that_expand_to_billions_of_values(tmp_path, merged):
    path = tmp_path / "infer.yaml"
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{i}: &a{i} {merged.format(', '.join([f'*a{i - 1}'] * 9))}" for i in range(1, 10)]
    path.write_text("\n".join(lines))
    with pytest.raises(BodyPoseNetError, match=r"infer\.yaml:\d: more than 100000 values"):
        InferenceSpec.load(path)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"input_shape: [{2**32}, 256]", "input_shape.0"),
        ("input_shape: [64, 64000]", "input_shape.1"),
        ("output_upsampling_factor: [8000000000, 8]", "output_upsampling_factor.0"),
        ("scales: [1000.0]", "scales.0"),
        ("multi_scale_inference: true\nscales: [90.0]", "scales"),
    ],
)
def test_numbers_that_are_too_large(tmp_path, text, place):
    path = tmp_path / "infer.yaml"
    path.write_text(text)
    with pytest.raises(BodyPoseNetError, match=rf"infer\.yaml:\d: {place}: "):
        InferenceSpec.load(path)


def test_a_path_that_is_too_long_does_not_exist(tmp_path):
    path = tmp_path / "infer.yaml"
    path.write_text(f"model_path: {'a' * 300}")
    spec = InferenceSpec.load(path)
    with pytest.raises(BodyPoseNetError, match=r"yaml:1: model_path: .*not found"):
        spec.existing_path("model_path", spec.model_path)


def test_lines_are_right_in_json_with_tabs(tmp_path):
    path = tmp_path / "coco_spec.json"
    path.write_text(DATASET.replace("    ", "\t").replace('"min_acceptable_kpts": 5', '"kpts": 5'))
    line = line_of('"min_acceptable_kpts"', DATASET)
    with pytest.raises(BodyPoseNetError, match=rf"json:{line}: data_filtering_params\.kpts: "):
        DatasetSpec.load(path)


def test_binary_and_missing_files(tmp_path):
    path = tmp_path / "infer.yaml"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(BodyPoseNetError, match="not a text file"):
        InferenceSpec.load(path)
    with pytest.raises(BodyPoseNetError, match="cannot be read: No such file"):
        InferenceSpec.load(tmp_path / "none.yaml")
    with pytest.raises(BodyPoseNetError, match="cannot be read"):
        InferenceSpec.load(tmp_path)


def test_a_byte_order_mark_is_ignored(tmp_path):
    path = tmp_path / "coco_spec.json"
    path.write_bytes(b"\xef\xbb\xbf" + DATASET.encode())
    assert DatasetSpec.load(path).dataset == "coco"


@pytest.mark.parametrize("null", ["None", "null", "~", ""])
def test_nulls(tmp_path, null):
    path = tmp_path / "infer.yaml"
    path.write_text(f"keep_aspect_ratio_mode: {null}\n")
    assert InferenceSpec.load(path).keep_aspect_ratio_mode is None


@pytest.mark.parametrize("number", ["2e-5", "2.e-5", "2E-05", "0.00002", ".2e-4", "+2e-5"])
def test_floats(tmp_path, number):
    path = tmp_path / "train.yaml"
    path.write_text(TRAIN.replace("base_learning_rate: 2.e-5", f"base_learning_rate: {number}"))
    assert TrainSpec.load(path).optimizer.learning_rate_schedule.base_learning_rate == 2e-5


def test_integers(tmp_path):
    path = tmp_path / "infer.yaml"
    path.write_text("input_shape: [368, 368]\nscales: [1, 2]\n")
    spec = InferenceSpec.load(path)
    assert spec.input_shape == (368, 368)
    assert spec.scales == (1.0, 2.0)


def test_the_guides_misprints_are_aliases(tmp_path):
    path = tmp_path / "coco_spec.json"
    path.write_text(DATASET.replace('min_acceptable_height": 32', 'min_acceptable_heigth": 18'))
    assert DatasetSpec.load(path).data_filtering_params.min_acceptable_height == 18
    path = tmp_path / "train.yaml"
    path.write_text(
        TRAIN.replace("min_learning_rate: 8.e-08", "minimum_learning_rate: 1e-7")
        .replace("checkpoint_n_epoch: 5", "checkpoint_interval: 7")
    )  # fmt: skip
    spec = TrainSpec.load(path)
    assert spec.optimizer.learning_rate_schedule.min_learning_rate == 1e-7
    assert spec.checkpoint_n_epoch == 7


IGNORED = {
    "key: secret": "key",
    "evaluator: {__class_name__: Evaluator, deep: [1, {a: b}]}": "evaluator",
    "hooks: []": "hooks",
    "loss: {__class_name__: BpNetLoss, focal_loss_params: {use_focal_loss: False, alpha: 0.1}}": (
        "loss.focal_loss_params.alpha"
    ),
}


def test_keys_without_effect_are_accepted_and_logged_once(tmp_path, caplog):
    text = TRAIN.replace("loss:\n  __class_name__: BpNetLoss\n", "")
    text = text.replace("    use_bias: False\n", "    use_bias: False\n    nlayers: 19\n")
    text = text.replace("    nlayers: 19\n", "    nlayers: 19\n    add_final_c128_conv: False\n")
    text = text.replace("identity_spatial_aug_params: null", "identity_spatial_aug_params: {a: 1}")
    text = text.replace("last_step: null", "last_step: 1000")
    path = tmp_path / "train.yaml"
    path.write_text(text + "\n".join(IGNORED) + "\n")
    with caplog.at_level(logging.INFO, "bodyposenet"):
        TrainSpec.load(path)
        TrainSpec.load(path)
    lines = [record.getMessage() for record in caplog.records]
    places = [line.split(": ")[1].split(" has no effect")[0] for line in lines]
    assert sorted(places) == sorted(
        [
            *IGNORED.values(),
            "dataloader.augmentation_config.identity_spatial_aug_params",
            "dataloader.label_processor_config.paf_gaussian_sigma",
            "dataloader.shuffle_buffer_size",
            "model.backbone_attributes.add_final_c128_conv",
            "model.backbone_attributes.nlayers",
            "optimizer.learning_rate_schedule.last_step",
        ]
    )
    assert f"train.yaml:{line_of('nlayers', text)}: " in next(s for s in lines if "nlayers" in s)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("data_format: channels_last", "data_format: channels_first", "model.data_format"),
        ("image_encoding: jpg", "image_encoding: png", "dataloader.image_config.image_encoding"),
        ("image_encoding: jpg", "image_encoding: fp16", "dataloader.image_config.image_encoding"),
        ("architecture: vgg", "architecture: lightweight_openpose", "model.kernel_initializer"),
        ("architecture: vgg", "architecture: movenet", "model.kernel_initializer"),
        ("mtype: default", "mtype: pooling", "model.kernel_initializer"),
        ("use_bias: False", "use_bias: True", "model.backbone_attributes.use_bias"),
        ("pretrained_weights: null", "pretrained_weights: a.tlt", "pretrained_weights"),
    ],
)
def test_values_without_effect_are_logged(tmp_path, caplog, old, new, place):
    text = TRAIN.replace(old, new, 1)
    if "use_bias" in new:
        text = text.replace("architecture: vgg", "architecture: lightweight_openpose")
    if "pretrained" in new:
        text = text.replace(FINETUNING, FINETUNING.replace("False", "True").replace("null", "a"))
    path = tmp_path / "train.yaml"
    for content, is_logged in ((TRAIN, False), (text, True)):
        path.write_text(content)
        caplog.clear()
        with caplog.at_level(logging.INFO, "bodyposenet"):
            TrainSpec.load(path)
        assert (f": {place} has no effect" in caplog.text) == is_logged


def test_gaussian_weighting_uses_its_sigma(tmp_path, caplog):
    path = tmp_path / "train.yaml"
    line = "    paf_gaussian_sigma: 0.03\n"
    path.write_text(TRAIN.replace(line, line + "    paf_weighting: gaussian\n"))
    with caplog.at_level(logging.INFO, "bodyposenet"):
        TrainSpec.load(path)
    assert "paf_gaussian_sigma" not in caplog.text


def test_keys_of_another_architecture_are_logged(tmp_path, caplog):
    path = tmp_path / "train.yaml"
    text = TRAIN.replace("architecture: vgg", "architecture: lightweight_openpose")
    path.write_text(
        text.replace("stages: 3\n", "stages: 3\n  stageT_kernel_sizes: [7, 7]\n"
                     "  stage1_kernel_sizes: [3]\n")
    )  # fmt: skip
    with caplog.at_level(logging.INFO, "bodyposenet"):
        assert TrainSpec.load(path).model.stageT_kernel_sizes == (7, 7)
    assert "model.stageT_kernel_sizes has no effect" in caplog.text
    assert "model.stage1_kernel_sizes has no effect" in caplog.text


def test_kernel_sizes_as_in_tao(tmp_path, caplog):
    path = tmp_path / "train.yaml"
    path.write_text(TRAIN.replace("stages: 3\n", "stages: 3\n  stageT_kernel_sizes: [5, 3]\n"))
    with caplog.at_level(logging.INFO, "bodyposenet"):
        assert TrainSpec.load(path).model.stageT_kernel_sizes == (5, 3)
    assert "stageT" not in caplog.text


def test_paths_are_relative_to_the_working_directory_or_the_spec(tmp_path, monkeypatch):
    (tmp_path / "specs").mkdir()
    path = tmp_path / "specs" / "train.yaml"
    path.write_text(TRAIN)
    (tmp_path / "specs" / "coco_spec.json").write_text(DATASET)
    assert TrainSpec.load(path).dataset_specs()
    monkeypatch.chdir(tmp_path)
    path.write_text(TRAIN.replace("coco: coco_spec.json", "coco: specs/coco_spec.json"))
    assert TrainSpec.load("specs/train.yaml").dataset_specs()


def pose_configuration(**changes) -> dict:
    category = {
        "num_joints": 3,
        "keypoints": ["head", "left_hand", "right_hand"],
        "skeleton": [[1, 2], [1, 3]],
    }
    return {"pose_config_type": "toy", "categories": [category | changes]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_joints": 4}, "num_joints is 4, but there are 3 keypoints"),
        ({"keypoints": ["a", "a", "b"]}, "repeated keypoint"),
        ({"num_joints": 1, "keypoints": ["nose"], "skeleton": []}, "at least two keypoints"),
        ({"skeleton": []}, "limbs: set skeleton or skeleton_edge_names"),
        ({"skeleton": [[0, 1]]}, "skeleton: [0, 1]"),
        ({"skeleton": [[1, 4]]}, "skeleton: [1, 4]"),
        ({"skeleton": [[2, 2]]}, "skeleton: [2, 2]"),
        ({"skeleton_edge_names": [["head", "foot"]]}, "skeleton_edge_names: foot"),
        ({"skeleton_edge_names": [["head", "left_hand"]]}, "different limbs"),
        ({"sigmas": [0.1]}, "expected 3 sigmas"),
    ],
)
def test_inconsistent_pose_configurations(tmp_path, changes, message):
    path = tmp_path / "pose.json"
    path.write_text(json.dumps(pose_configuration(**changes)))
    with pytest.raises(BodyPoseNetError) as caught:
        PoseConfiguration.load(path)
    assert message in str(caught.value)
    assert "categories.0" in str(caught.value)


def test_limbs_by_name_only(tmp_path):
    path = tmp_path / "pose.json"
    names = [["head", "left_hand"], ["right_hand", "head"]]
    path.write_text(json.dumps(pose_configuration(skeleton=[], skeleton_edge_names=names)))
    assert load_skeleton(path).limbs == ((0, 1), (2, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mapping": {"visible": "visible"}}, "mapping: missing not_labeled, occluded"),
        ({"mapping": {"visible": "seen", "occluded": "occluded", "not_labeled": "truncated"}},
         "mapping: unknown seen; choose from visible, annotatable"),
    ],
)  # fmt: skip
def test_visibility_flags(tmp_path, change, message):
    content = json.loads(DATASET)
    content["visibility_flags"] |= change
    path = tmp_path / "coco_spec.json"
    path.write_text(json.dumps(content))
    with pytest.raises(BodyPoseNetError, match=message):
        DatasetSpec.load(path)


@pytest.mark.parametrize(("other", "agree"), [("visible", True), ("occluded", False)])
def test_two_names_of_a_flag_must_have_the_same_mapping(tmp_path, other, agree):
    content = json.loads(DATASET)
    flags = content["visibility_flags"]
    flags["value"]["seen"] = flags["value"]["visible"]
    flags["mapping"]["seen"] = other
    path = tmp_path / "coco_spec.json"
    path.write_text(json.dumps(content))
    if agree:
        assert DatasetSpec.load(path).visibility_flags.classes()[2].name == "VISIBLE"
        return
    with pytest.raises(BodyPoseNetError, match="number 2"):
        DatasetSpec.load(path)


def test_a_dataset_spec_needs_a_category_of_people(tmp_path):
    path = tmp_path / "coco_spec.json"
    content = json.loads(DATASET)
    dog = content["categories"][0] | {"name": "dog"}
    for categories, name in (([dog], "dog"), ([dog, dog | {"name": "Person"}], "Person")):
        path.write_text(json.dumps(content | {"categories": categories}))
        assert DatasetSpec.load(path).person.name == name
    for categories in ([], [dog, dog | {"name": "horse"}]):
        path.write_text(json.dumps(content | {"categories": categories}))
        with pytest.raises(BodyPoseNetError, match="categories") as caught:
            DatasetSpec.load(path)
        assert all(category["name"] in caught.value.what for category in categories)
        assert "person" in caught.value.remedy


def test_test_data_is_optional_until_it_is_used(tmp_path):
    content = json.loads(DATASET)
    del content["test_data"]
    path = tmp_path / "coco_spec.json"
    path.write_text(json.dumps(content))
    with pytest.raises(BodyPoseNetError, match="test_data: is missing"):
        DatasetSpec.load(path).split("test")


NULLS = {
    "dataloader.dataset_config.val_records_folder_path": "",
    "dataloader.dataset_config.val_records_path": (),
    "dataloader.augmentation_config.spatial_aug_params": SpatialAugParams(),
    "dataloader.augmentation_config.spatial_augmentation_mode": "person_centric",
    "dataloader.augmentation_config.color_aug_params": ColorAugParams(),
    "finetuning_config": FinetuningConfig(),
    "model.stage1_kernel_sizes": (3, 3, 3),
    "model.stageT_kernel_sizes": (7, 7, 7, 7, 7),
}


def value_at(block, place: str):
    for part in place.split("."):
        block = block[part] if isinstance(block, dict) else getattr(block, part)
    return block


@pytest.mark.parametrize("place", NULLS)
def test_null_means_the_default_where_tao_accepts_it(tmp_path, place):
    content = yaml.safe_load(TRAIN)
    outer, _, key = place.rpartition(".")
    (value_at(content, outer) if outer else content)[key] = None
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(content))
    assert value_at(TrainSpec.load(path), place) == NULLS[place]


def test_null_means_the_default_in_an_inference_spec(tmp_path):
    path = tmp_path / "infer.yaml"
    path.write_text("scales: null\noutput_upsampling_factor: null\n")
    spec, usual = InferenceSpec.load(path), InferenceSpec()
    assert spec.scales == usual.scales
    assert spec.output_upsampling_factor == usual.output_upsampling_factor


def test_null_stays_an_error_elsewhere(mistake):
    error = mistake("num_epoch: 100", "num_epoch: null")
    assert f":{line_of('num_epoch')}: num_epoch: " in error


@pytest.mark.parametrize("block", ["augmentation_config", "label_processor_config"])
def test_errors_in_a_top_level_block_have_its_line(tmp_path, block):
    """NVIDIA's guide has these two blocks of the dataloader at the top level."""
    content = yaml.safe_load(TRAIN)
    moved = content["dataloader"].pop(block)
    text = f"{yaml.safe_dump(content)}{block}:\n  wrong: 1\n"
    text += "".join(f"  {line}\n" for line in yaml.safe_dump(moved).splitlines())
    path = tmp_path / "train.yaml"
    path.write_text(text)
    with pytest.raises(BodyPoseNetError) as caught:
        TrainSpec.load(path)
    assert f"train.yaml:{line_of('  wrong: 1', text)}: {block}.wrong: " in caught.value.what
    path.write_text(text.replace("  wrong: 1\n", ""))
    assert TrainSpec.load(path).dataloader == TrainSpec.load(write_train(tmp_path)).dataloader


def write_train(folder: Path) -> Path:
    path = folder / "sample.yaml"
    path.write_text(TRAIN)
    return path


@pytest.mark.parametrize(("mode", "is_logged"), [("", True), ("mode: tao\n", False)])
def test_the_decoder_is_logged_once_for_a_spec_of_tao(tmp_path, caplog, mode, is_logged):
    path = tmp_path / "infer.yaml"
    path.write_text(f"train_spec: train.yaml\n{mode}")
    with caplog.at_level(logging.INFO, "bodyposenet"):
        InferenceSpec.load(path)
        InferenceSpec.load(path)
    logged = [record.getMessage() for record in caplog.records if "decoder" in record.getMessage()]
    assert len(logged) == is_logged
    assert all("accurate" in line and "mode: tao" in line for line in logged)


def test_a_model_is_found_by_the_file_name_of_tao(tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    spec = InferenceSpec.load(write_infer(tmp_path / "specs"))
    with pytest.raises(BodyPoseNetError, match=r"yaml:1: model_path: .*not found"):
        spec.existing_model_path("model_path", "m.hdf5")
    (tmp_path / "specs" / "m.tlt").write_text("")
    with caplog.at_level(logging.INFO, "bodyposenet"):
        assert spec.existing_model_path("model_path", "m.hdf5") == tmp_path / "specs" / "m.tlt"
    assert "m.tlt" in caplog.text
    (tmp_path / "m.tlt").write_text("")
    assert spec.existing_model_path("model_path", "m.hdf5") == Path("m.tlt")
    (tmp_path / "specs" / "m.hdf5").write_text("")  # the given name has priority
    assert spec.existing_model_path("model_path", "m.hdf5") == tmp_path / "specs" / "m.hdf5"
    (tmp_path / "m.hdf5").write_text("")
    assert spec.existing_model_path("model_path", "m.hdf5") == Path("m.hdf5")


def write_infer(folder: Path) -> Path:
    path = folder / "infer.yaml"
    path.write_text("model_path: m.hdf5\n")
    return path


def test_a_changed_copy_does_not_replace_a_bundled_pose_configuration(tmp_path, monkeypatch):
    """`bpnet init --template` writes copies to the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT_POSE_CONFIGURATION).write_text("changed")
    with pytest.raises(BodyPoseNetError):
        load_skeleton(DEFAULT_POSE_CONFIGURATION)
    bundled_skeleton.cache_clear()
    assert len(bundled_skeleton(DEFAULT_POSE_CONFIGURATION).joints) == 18
