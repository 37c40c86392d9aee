"""PyTorch, ONNX Runtime and OpenVINO give the same maps, poses and AP."""

import numpy as np
import pytest

from bodyposenet.evaluation.evaluator import evaluate_dataset, load_test_images
from bodyposenet.exporting.float16 import to_float16
from bodyposenet.inference.models import open_engine
from bodyposenet.inference.predictor import Predictor
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec


@pytest.fixture(scope="module")
def engines(exported):
    """The model on each engine, also in float16 and bfloat16."""
    half = exported / "half.onnx"
    half.write_bytes(to_float16((exported / "model.onnx").read_bytes()))
    names = {
        "pytorch": ("model.tlt", "pytorch", None),
        "onnx": ("model.onnx", "onnx", None),
        "openvino": ("model.onnx", "openvino", None),
        "onnx half": ("half.onnx", "onnx", None),
        "openvino half": ("half.onnx", "openvino", None),
        "pytorch bf16": ("model.tlt", "pytorch", "bf16"),
        "openvino bf16": ("model.onnx", "openvino", "bf16"),
    }
    return {
        name: open_engine(InferenceSpec(), str(exported / file), "key", engine, 1, precision)
        for name, (file, engine, precision) in names.items()
    }


def max_relative_difference(found, expected):
    return max(
        np.abs(a - b).max() / np.abs(b).max()
        for one, other in zip(found, expected, strict=True)
        for a, b in ((one.heatmaps, other.heatmaps), (one.pafs, other.pafs))
    )


def evaluate(engine, drawn_dataset):
    dataset = DatasetSpec.load(drawn_dataset.spec)
    predictor = Predictor(engine, InferenceSpec(input_shape=(128, 128)))
    return evaluate_dataset(predictor, dataset, load_test_images(dataset))


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("shape", [(1, 64, 96), (3, 48, 40), (2, 61, 131), (1, 1, 1)])
def test_maps_are_the_same_at_any_size(engines, engine, shape):
    pixels = noise(*shape)
    expected = engines["pytorch"].infer(pixels)
    assert max_relative_difference(engines[engine].infer(pixels), expected) < 1e-4


def test_poses_and_ap_are_the_same(engines, drawn_dataset):
    expected = evaluate(engines["pytorch"], drawn_dataset)
    assert expected.accuracy.ap > 0.3  # the model is trained on these images
    for engine in ("onnx", "openvino"):
        found = evaluate(engines[engine], drawn_dataset)
        assert found.accuracy.ap == pytest.approx(expected.accuracy.ap, abs=1e-6)
        for one, other in zip(found.results, expected.results, strict=True):
            np.testing.assert_allclose(one["keypoints"], other["keypoints"], atol=0.1)
            assert one["score"] == pytest.approx(other["score"], abs=1e-3)


@pytest.mark.parametrize("engine", ["onnx half", "openvino half"])
def test_float16_is_close(engines, engine, drawn_dataset):
    pixels = noise(2, 61, 131)
    expected, found = engines["pytorch"], engines[engine]
    assert 0 < max_relative_difference(found.infer(pixels), expected.infer(pixels)) < 0.02
    ap = evaluate(found, drawn_dataset).accuracy.ap
    assert ap == pytest.approx(evaluate(expected, drawn_dataset).accuracy.ap, abs=0.05)


def test_float16_is_half_the_size(engines, exported):
    sizes = [(exported / name).stat().st_size for name in ("half.onnx", "model.onnx")]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.parametrize("engine", ["pytorch bf16", "openvino bf16"])
def test_bfloat16_is_close(engines, engine):
    pixels = noise(1, 64, 96)
    expected = engines["pytorch"].infer(pixels)
    assert max_relative_difference(engines[engine].infer(pixels), expected) < 0.1
