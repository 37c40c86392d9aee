"""The model that comes with the package."""

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference import models as default_model
from bodyposenet.inference.models import find_model, open_engine, open_predictor
from bodyposenet.specs.inference import InferenceSpec

MOST_BYTES = 14_000_000


@pytest.mark.parametrize(
    ("name", "data_type"), [(default_model.ON_CPU, "int8-cpu"), (default_model.ON_GPU, "fp16")]
)
def test_both_files_run(name, data_type):
    engine = open_engine(InferenceSpec(), str(default_model.FOLDER / name), threads=1)
    assert engine.description.data_type == data_type
    assert len(engine.skeleton.limbs) == 19


def test_they_are_small_and_described():
    files = {file.name: file.stat().st_size for file in default_model.FOLDER.iterdir()}
    models = {default_model.ON_CPU, default_model.ON_GPU}
    assert set(files) == models | {"MODEL_CARD.md", default_model.INFERENCE_SPEC.name}
    assert sum(files.values()) < MOST_BYTES


def test_its_own_spec_holds_where_nothing_else_is_said(tmp_path):
    own = InferenceSpec.load(default_model.INFERENCE_SPEC)
    assert own.complete_pose
    assert settings(open_predictor(None, None, "").spec) == settings(own)
    (tmp_path / "infer.yaml").write_text("input_shape: [64, 64]\n")
    given = open_predictor(str(tmp_path / "infer.yaml"), None, "").spec
    assert (given.input_shape, given.complete_pose) == ((64, 64), False)
    named = open_predictor(None, str(default_model.default_model()), "").spec
    assert settings(named) == settings(InferenceSpec())


def settings(spec):
    return spec.model_dump(exclude={"model_path"})


@pytest.mark.parametrize("engine", ["pytorch", "tensorrt"])
def test_engines_that_do_not_run_it_are_told_where_its_tlt_file_is(engine):
    with pytest.raises(BodyPoseNetError, match=f"the default model: {engine} runs no") as error:
        open_engine(InferenceSpec(), engine=engine)
    assert "convert_weights" in error.value.remedy


def test_a_model_that_is_named_goes_first(tmp_path):
    (tmp_path / "own.onnx").touch()
    spec = InferenceSpec(model_path=str(tmp_path / "own.onnx"))
    assert find_model(spec, None) == tmp_path / "own.onnx"
    assert find_model(InferenceSpec(), None) == default_model.default_model()
