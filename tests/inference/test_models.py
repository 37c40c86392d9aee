"""Tests of the choice of the model file, the default model and the engine that runs it."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import bodyposenet
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference import models
from bodyposenet.inference.engines.exported import ExportedEngine
from bodyposenet.inference.engines.pytorch import PyTorchEngine
from bodyposenet.inference.models import default_model, find_model, open_engine, open_predictor
from bodyposenet.specs.inference import InferenceSpec


@pytest.mark.parametrize(
    ("file", "engine", "kind"),
    [
        ("model.tlt", "auto", PyTorchEngine),
        ("model.tlt", "pytorch", PyTorchEngine),
        ("model.onnx", "auto", ExportedEngine),
        ("model.onnx", "onnx", ExportedEngine),
        ("model.onnx", "openvino", ExportedEngine),
    ],
)
def test_the_engine_depends_on_file_and_option(exported, file, engine, kind):
    opened = open_engine(InferenceSpec(), str(exported / file), "key", engine, threads=1)
    assert isinstance(opened, kind)
    assert (opened.stages, opened.stride, opened.fixed_shape) == (2, 8, None)
    assert opened.skeleton.name == "bpnet_18_joints"


@pytest.mark.parametrize(
    ("file", "engine", "message", "remedy"),
    [
        ("model.tlt", "onnx", r"onnx .*\.tlt", "bpnet export"),
        ("model.onnx", "pytorch", r"pytorch .*\.onnx", ".tlt file"),
        ("model.onnx", "tensorflow", "engine: tensorflow", "openvino"),
        ("model.onnx", "tensorrt", r"tensorrt .*\.onnx", "bpnet export --engine_file"),
        ("infer.yaml", "auto", "not a model file", "bpnet export"),
    ],
)
def test_a_file_that_the_engine_does_not_run(exported, file, engine, message, remedy):
    with pytest.raises(BodyPoseNetError, match=message) as error:
        open_engine(InferenceSpec(), str(exported / file), "key", engine)
    assert remedy in error.value.remedy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads: 0"),
        ({"threads": "2"}, "threads: '2'"),
        ({"threads": 2.0}, "threads: 2.0"),
        ({"threads": True}, "threads: True"),
        ({"precision": "int4"}, "precision: int4"),
        ({"precision": "bf16"}, "bf16"),
    ],
)
def test_invalid_options(exported, options, message):
    with pytest.raises(BodyPoseNetError, match=message):
        open_engine(InferenceSpec(), str(exported / "model.onnx"), **options)


def test_threads_are_limited_to_the_usable_cores(exported, monkeypatch, caplog):
    monkeypatch.setattr("bodyposenet.inference.models.usable_cores", lambda: 3)
    opened = []

    def load(path, *arguments, threads, **options):
        opened.append(threads)
        raise BodyPoseNetError("not opened")

    monkeypatch.setattr("bodyposenet.inference.engines.onnx.load", load)
    for threads in (3, np.int64(100), None):
        with pytest.raises(BodyPoseNetError, match="not opened"):
            open_engine(InferenceSpec(), str(exported / "model.onnx"), threads=threads)
    assert opened[:2] == [3, 3]
    (record,) = caplog.records
    assert "100" in record.getMessage() and "3" in record.getMessage()


def test_a_missing_model_file():
    with pytest.raises(BodyPoseNetError, match=r"m\.onnx: no such model file") as error:
        open_engine(InferenceSpec(), "m.onnx")
    assert "relative to the working directory" in error.value.remedy


def test_a_folder_or_an_empty_path_is_an_error(tmp_path):
    with pytest.raises(BodyPoseNetError, match="is a folder"):
        open_engine(InferenceSpec(), str(tmp_path))
    (tmp_path / "infer.yaml").write_text('model_path: ""\n')
    with pytest.raises(BodyPoseNetError, match=r"infer\.yaml:1: model_path"):
        open_predictor(str(tmp_path / "infer.yaml"), None, "")


def test_an_exported_model_has_only_the_last_stage(exported, tmp_path):
    (tmp_path / "infer.yaml").write_text("output_stage_to_use: 1\n")
    arguments = str(tmp_path / "infer.yaml"), str(exported / "model.onnx"), ""
    with pytest.raises(BodyPoseNetError, match=r"infer\.yaml:1: .*stage 1"):
        open_predictor(*arguments)
    (tmp_path / "infer.yaml").write_text("output_stage_to_use: 2\n")
    assert open_predictor(*arguments).engine.stages == 2


def test_a_train_spec_must_agree_with_the_header(exported, write_train_spec, tmp_path):
    train = write_train_spec(**{"model.stages": 3})
    (tmp_path / "infer.yaml").write_text(f"train_spec: {train}\n")
    with pytest.raises(BodyPoseNetError, match="differ in stages"):
        open_predictor(str(tmp_path / "infer.yaml"), str(exported / "model.onnx"), "")


def test_stages_of_a_spec_with_load_graph_are_not_compared(exported, write_train_spec, tmp_path):
    """The file determines the stages, not the `model` block of the spec."""
    start = {"pretrained_weights": str(exported / "model.onnx"), "load_graph": True}
    spec = write_train_spec(**start, **{"model.stages": 1})
    (tmp_path / "infer.yaml").write_text(f"train_spec: {spec}\n")
    inference = InferenceSpec.load(tmp_path / "infer.yaml")
    assert open_engine(inference, str(exported / "model.onnx"), threads=1).stages == 2


def test_a_missing_train_spec_is_only_a_warning(exported, tmp_path, caplog):
    (tmp_path / "infer.yaml").write_text("train_spec: /elsewhere/train.yaml\n")
    open_predictor(str(tmp_path / "infer.yaml"), str(exported / "model.onnx"), "")
    assert "train_spec /elsewhere/train.yaml does not exist" in caplog.text


MAX_BYTES = 14_000_000
"""Maximum size of the default model with all of its files."""


@pytest.mark.parametrize(
    ("name", "data_type"), [(models.INT8_FILE, "int8-cpu"), (models.FLOAT16_FILE, "fp16")]
)
def test_both_files_of_the_default_model_run(name, data_type):
    engine = open_engine(InferenceSpec(), str(models.DEFAULT_MODEL_FOLDER / name), threads=1)
    assert engine.description.data_type == data_type
    assert len(engine.skeleton.limbs) == 19


def test_the_default_model_is_small_and_has_a_model_card():
    files = {file.name: file.stat().st_size for file in models.DEFAULT_MODEL_FOLDER.iterdir()}
    weights = {models.INT8_FILE, models.FLOAT16_FILE}
    assert set(files) == weights | {
        "MODEL_CARD.md",
        *(spec.name for spec in models.PRESETS.values()),
    }
    assert sum(files.values()) < MAX_BYTES


def test_the_default_spec_applies_without_model_and_spec(tmp_path):
    default = InferenceSpec.load(models.DEFAULT_INFERENCE_SPEC)
    assert default.complete_pose
    assert settings(open_predictor(None, None, "").spec) == settings(default)
    (tmp_path / "infer.yaml").write_text("input_shape: [64, 64]\n")
    with_spec = open_predictor(str(tmp_path / "infer.yaml"), None, "").spec
    assert (with_spec.input_shape, with_spec.complete_pose) == ((64, 64), False)
    with_model = open_predictor(None, str(default_model()), "").spec
    assert settings(with_model) == settings(InferenceSpec())


def settings(spec):
    """Return the options of a spec without the path of its model."""
    return spec.model_dump(exclude={"model_path"})


@pytest.mark.parametrize("name", models.PRESETS)
def test_a_preset_is_the_default_model_with_its_own_options(name):
    predictor = open_predictor(None, name, "")
    assert Path(predictor.spec.model_path) == default_model()
    assert settings(predictor.spec) == settings(InferenceSpec.load(models.PRESETS[name]))
    estimator = bodyposenet.load(name, complete_pose=False, engine="openvino")
    again = pickle.loads(pickle.dumps(estimator))._open()
    assert settings(again.spec) == settings(predictor.spec) | {"complete_pose": False}


def test_presets_differ_in_cost():
    fast, default, accurate = (
        InferenceSpec.load(models.PRESETS[name]) for name in ("fast", "default", "accurate")
    )
    assert max(fast.input_shape) < max(default.input_shape) == max(accurate.input_shape)
    assert accurate.flip_test and accurate.multi_scale_inference
    assert not (fast.flip_test or default.flip_test or default.multi_scale_inference)


def test_a_preset_with_an_inference_spec_is_an_error(tmp_path):
    spec = tmp_path / "infer.yaml"
    spec.write_text("input_shape: [64, 64]\n")
    with pytest.raises(BodyPoseNetError, match=r"^accurate: .*infer\.yaml") as error:
        open_predictor(str(spec), "accurate", "")
    assert "infer_spec_accurate.yaml" in error.value.remedy
    assert open_predictor(str(spec), "default", "").spec.input_shape == (64, 64)


@pytest.mark.parametrize("engine", ["pytorch", "tensorrt"])
def test_an_engine_that_cannot_run_the_default_model_is_an_error_with_a_remedy(engine):
    with pytest.raises(BodyPoseNetError, match=f"the default model: {engine}") as error:
        open_engine(InferenceSpec(), engine=engine)
    assert "convert_weights" in error.value.remedy


def test_the_models_path_precedes_the_default_model(tmp_path):
    (tmp_path / "own.onnx").touch()
    spec = InferenceSpec(model_path=str(tmp_path / "own.onnx"))
    assert find_model(spec, None) == tmp_path / "own.onnx"
    assert find_model(InferenceSpec(), None) == default_model()
