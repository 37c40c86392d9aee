"""Tests of the export of `movenet`: upsampled features of any size, ReLU6, names, INT8."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from numpy.typing import NDArray

from bodyposenet.demo import draw_scene
from bodyposenet.exporting.float16 import to_float16
from bodyposenet.exporting.int8.cross_layer_equalization import equalize_channels
from bodyposenet.exporting.int8.quantization import QuantizationOptions, to_int8
from bodyposenet.exporting.int8.ranges import measure_ranges
from bodyposenet.exporting.onnx import OnnxExportOptions, export_onnx
from bodyposenet.inference.engines.onnx import int8_sums_saturate, open_session
from bodyposenet.model.checkpoint import model_header
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig

ARM = Skeleton("arm", ("shoulder", "elbow", "wrist"), ((0, 1), (1, 2)))
FIXED = OnnxExportOptions(
    channels_last=False, static_batch_size=1, static_shape=(72, 104), normalizes_input=True
)
SIZES = [(1, 8, 8), (2, 8, 24), (1, 72, 104), (3, 40, 96), (1, 64, 128), (1, 120, 88)]


@pytest.fixture(scope="module")
def network() -> BodyPoseNetwork:
    """A narrow network with random statistics."""
    torch.manual_seed(0)
    attributes = BackboneAttributes(architecture="movenet", width=0.125)
    network = BodyPoseNetwork(ARM, ModelConfig(stages=2, backbone_attributes=attributes))
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.bias.data.normal_()
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def content(network: BodyPoseNetwork) -> bytes:
    return export_onnx(network, model_header(network))


@pytest.fixture(scope="module")
def photos() -> NDArray[np.float32]:
    scenes = [draw_scene(np.random.default_rng(seed), 120, 136)[0] for seed in range(4)]
    return np.stack(scenes).astype(np.float32) / 256 - 0.5


@pytest.fixture(scope="module")
def int8_files(content: bytes, photos: NDArray[np.float32]) -> dict[str, bytes]:
    equalized = equalize_channels(content)
    ranges = measure_ranges(equalized, [photos[:2], photos[2:]], "percentile", 2)
    return {
        target: to_int8(equalized, ranges, QuantizationOptions(target))
        for target in ("cpu", "tensorrt")
    }


def expected_maps(network: BodyPoseNetwork, inputs: NDArray[np.float32]) -> list[np.ndarray]:
    """Return the PAFs and heatmaps of the last stage, channels last."""
    with torch.inference_mode():
        maps = network(torch.from_numpy(inputs).permute(0, 3, 1, 2))
    return [each[-1].permute(0, 2, 3, 1).numpy() for each in (maps.pafs, maps.heatmaps)]


def run(content: bytes, inputs: np.ndarray, engine: str = "onnx") -> list[np.ndarray]:
    if engine == "onnx":
        session = open_session("m.onnx", content=content, device="cpu")
        return session.run(None, {session.get_inputs()[0].name: inputs})
    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    found = core.compile_model(core.read_model(content), "CPU", options)([inputs])
    return [found[0], found[1]]


def check_near(found: list[np.ndarray], expected: list[np.ndarray], error: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= error * np.abs(theirs).max()


def signal_to_noise(expected: list[np.ndarray], found: list[np.ndarray]) -> float:
    return min(
        10 * np.log10(np.square(a).sum() / np.square(a - b).sum())
        for a, b in zip(expected, found, strict=True)
    )


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_maps_are_equal_at_any_size(network, content, engine):
    for size in SIZES:
        inputs = np.random.default_rng(0).uniform(-0.5, 0.5, (*size, 3)).astype(np.float32)
        check_near(run(content, inputs, engine), expected_maps(network, inputs), 1e-4)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_float16_is_close(network, content, photos, engine):
    half = to_float16(content)
    onnx.checker.check_model(onnx.load_model_from_string(half), full_check=True)
    check_near(run(half, photos, engine), expected_maps(network, photos), 0.03)


def test_static_size_needs_no_shape_arithmetic(network):
    content = export_onnx(network, model_header(network), FIXED)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 72, 104, 3)).astype(np.uint8)
    expected = expected_maps(network, pixels.astype(np.float32) / 256 - 0.5)
    found = run(content, np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    check_near([each.transpose(0, 2, 3, 1) for each in found], expected, 1e-4)
    graph = onnx.load_model_from_string(content).graph
    assert not {"Shape", "Reshape"} & {node.op_type for node in graph.node}


def test_names_are_unique_layer_names(network, content):
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv"}
    assert convolutions == set(network.out_channels())
    weights = [weight.name for weight in model.graph.initializer]
    assert len(set(weights)) == len(weights)
    kinds = {(node.op_type, node.name) for node in model.graph.node}
    assert {
        ("Clip", "block_7_dwrelu"), ("Add", "block_7"), ("Resize", "enlarge32/resize"),
        ("Concat", "pyramid/concat"), ("Concat", "stage2/concat"), ("Relu", "fpn_fuse8_relu"),
    } <= kinds  # fmt: skip


def test_dynamic_sizes_are_named_in_cells(content):
    graph = onnx.load_model_from_string(content).graph
    sizes = {
        side.dim_param
        for value in (*graph.value_info, *graph.output)
        for side in value.type.tensor_type.shape.dim
        if side.dim_param
    }
    left = "".join(sizes).replace("batch", "").replace("rows", "").replace("columns", "")
    assert not any(character.isalpha() for character in left)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_int8_is_close(network, int8_files, photos, engine):
    """The weights are random; the maps of a trained network are closer."""
    if engine == "openvino" and int8_sums_saturate():
        pytest.skip("OpenVINO's INT8 sums saturate on this processor")
    onnx.checker.check_model(onnx.load_model_from_string(int8_files["cpu"]), full_check=True)
    found = run(int8_files["cpu"], photos, engine)
    assert signal_to_noise(expected_maps(network, photos), found) > 11


def test_int8_for_tensorrt_is_close(network, int8_files, photos):
    found = run(int8_files["tensorrt"], photos)
    assert signal_to_noise(expected_maps(network, photos), found) > 6


def test_layers_kept_in_float(network, int8_files):
    outputs = set(network.outputs())
    stem = {"block_stem_conv", "block_0_dwconv"}
    entries = {"channel_reduction_conv", "stage2/conv1"}
    for file in int8_files.values():
        graph = onnx.load_model_from_string(file).graph
        types = {weight.name: weight.data_type for weight in graph.initializer}
        in_float = {
            node.name
            for node in graph.node
            if node.op_type == "Conv" and types.get(node.input[1]) == onnx.TensorProto.FLOAT
        }
        assert in_float == outputs | stem | entries
        quantized = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
        assert not any(name.startswith("sizes") for name in quantized)


def test_onnx_runtime_computes_relu6_within_its_integer_layers(int8_files, tmp_path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(int8_files["cpu"], options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    integer = {node.name for node in nodes if node.op_type == "QLinearConv"}
    assert {"block_9_expand_conv", "block_9_dwconv", "block_9_project_conv"} <= integer
    clipped = {node.name for node in nodes if node.op_type == "Clip"}
    assert not {name for name in clipped if name.startswith("block_9")}
