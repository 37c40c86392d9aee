"""Tests of ONNX files with all export options: tensors, names and maps."""

import json
from dataclasses import asdict
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from bodyposenet.exporting.float16 import to_float16
from bodyposenet.exporting.onnx import OPSET, PLAIN, OnnxExportOptions, export_onnx
from bodyposenet.model.checkpoint import model_header
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.specs.network import ModelConfig
from bodyposenet.specs.pose import load_skeleton

SKELETON = load_skeleton("bpnet_18joints.json")
SCALES = Normalization((58.4, 57.1, 57.4), (2.1, 2.0, 1.8))

PIXELS = OnnxExportOptions(upsample_ratio=4, normalizes_input=True)
STATIC = OnnxExportOptions(
    channels_last=False, upsample_ratio=2, static_batch_size=2, static_shape=(24, 40),
    normalizes_input=True,
)  # fmt: skip


@cache
def network(options: OnnxExportOptions) -> BodyPoseNetwork:
    """Return a narrow vgg, which takes the least time to export, with random statistics."""
    torch.manual_seed(0)
    stages = 2 if options == PLAIN else 1
    spec = ModelConfig(stages=stages, use_self_attention=True, kernel_initializer="xavier")
    scales = Normalization() if options == PLAIN else SCALES
    wide = BodyPoseNetwork(SKELETON, spec)
    out_channels = {name: 8 for name in wide.out_channels() if name not in wide.outputs()}
    narrow = BodyPoseNetwork(SKELETON, spec, scales, out_channels)
    for layer in narrow.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.bias.data.normal_()
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return narrow.eval()


@cache
def content(options: OnnxExportOptions) -> bytes:
    return export_onnx(network(options), model_header(network(options)), options)


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)


def expected_maps(options: OnnxExportOptions, pixels: np.ndarray) -> list[np.ndarray]:
    with torch.inference_mode():
        net = network(options)
        maps = net(net.normalize(torch.from_numpy(pixels)))
    pafs, heatmaps = maps.pafs[-1].numpy(), maps.heatmaps[-1].numpy()
    ratio = options.upsample_ratio
    found = [pafs.repeat(ratio, axis=2).repeat(ratio, axis=3), heatmaps]
    return [each.transpose(0, 2, 3, 1) for each in found] if options.channels_last else found


def run(model: bytes, inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"input_1:0": inputs})


def check_same(found: list[np.ndarray], expected: list[np.ndarray], error: float):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= error * np.abs(theirs).max()


@pytest.mark.parametrize("shape", [(1, 64, 96), (3, 24, 40), (2, 8, 8)])
def test_plain_model_computes_the_maps_of_the_network(shape):
    pixels = images(*shape)
    inputs = (pixels / np.float32(256) - np.float32(0.5)).astype(np.float32)
    check_same(run(content(PLAIN), inputs), expected_maps(PLAIN, pixels), 1e-4)


@pytest.mark.parametrize(("options", "shape"), [(PIXELS, (3, 16, 64)), (STATIC, (2, 24, 40))])
def test_pixels_are_normalized_inside_and_pafs_upsampled(options, shape):
    pixels = images(*shape)
    inputs = pixels if options.channels_last else pixels.transpose(0, 3, 1, 2)
    found = run(content(options), inputs)
    check_same(found, expected_maps(options, pixels), 1e-4)
    ratio = options.upsample_ratio
    rows, columns = (1, 2) if options.channels_last else (2, 3)
    cells = found[0].take(range(0, found[0].shape[rows], ratio), rows)
    cells = cells.take(range(0, found[0].shape[columns], ratio), columns)
    np.testing.assert_array_equal(found[0], cells.repeat(ratio, rows).repeat(ratio, columns))


@pytest.mark.parametrize(
    ("options", "tensors"),
    [
        (
            PLAIN,
            {
                "input_1:0": (TensorProto.FLOAT, ["batch", "8*rows", "8*columns", 3]),
                "paf_out/BiasAdd:0": (TensorProto.FLOAT, ["batch", "rows", "columns", 38]),
                "heatmap_out/BiasAdd:0": (TensorProto.FLOAT, ["batch", "rows", "columns", 19]),
            },
        ),
        (
            PIXELS,
            {
                "input_1:0": (TensorProto.UINT8, ["batch", "8*rows", "8*columns", 3]),
                "conv2d_transpose_1/BiasAdd:0": (
                    TensorProto.FLOAT, ["batch", "4*rows", "4*columns", 38],
                ),
                "heatmap_out/BiasAdd:0": (TensorProto.FLOAT, ["batch", "rows", "columns", 19]),
            },
        ),
        (
            STATIC,
            {
                "input_1:0": (TensorProto.UINT8, [2, 3, 24, 40]),
                "conv2d_transpose_1/BiasAdd:0": (TensorProto.FLOAT, [2, 38, 6, 10]),
                "heatmap_out/BiasAdd:0": (TensorProto.FLOAT, [2, 19, 3, 5]),
            },
        ),
    ],
    ids=["plain", "pixels", "static"],
)  # fmt: skip
@pytest.mark.parametrize("convert", [bytes, to_float16], ids=["fp32", "fp16"])
def test_tensors_follow_from_the_options(options, tensors, convert):
    model = onnx.load_model_from_string(convert(content(options)))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    found = {
        value.name: (
            value.type.tensor_type.elem_type,
            [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim],
        )
        for value in (*model.graph.input, *model.graph.output)
    }
    assert found == tensors


@pytest.mark.parametrize("options", [PLAIN, PIXELS, STATIC], ids=["plain", "pixels", "static"])
def test_header_has_the_options(options):
    (entry,) = onnx.load_model_from_string(content(options)).metadata_props
    found = json.loads(entry.value)
    assert found["data_type"] == "fp32"
    assert found["form"] == json.loads(json.dumps(asdict(options)))
    assert {key: found[key] for key in model_header(network(options))} == model_header(
        network(options)
    )


def test_nodes_and_weights_have_layer_names():
    graph = onnx.load_model_from_string(content(PLAIN)).graph
    layers = network(PLAIN).out_channels()
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert {node.name for node in convolutions} == set(layers)
    for node in convolutions:
        assert node.output == [node.name]
        assert (
            node.input[1:]
            == [f"{node.name}.{part}" for part in ("weight", "bias")][: len(node.input) - 1]
        )
    names = {(node.op_type, node.name, *node.output) for node in graph.node}
    for name in ("block_1a_relu", "channel_reduction_conv/relu", "stage2/conv5/relu"):
        assert ("Relu", name, name) in names
    assert ("Concat", "stage2/concat", "stage2/concat") in names
    assert ("Mul", "stage2/paf/attention", "stage2/paf/attention") in names
    assert {"BatchNormalization", "Pad"} & {node.op_type for node in graph.node} == set()


def test_dynamic_sizes_are_named_in_cells():
    graph = onnx.load_model_from_string(content(PLAIN)).graph
    sizes = {
        side.dim_param
        for value in graph.value_info
        for side in value.type.tensor_type.shape.dim
        if side.dim_param
    }
    sides = {f"{factor}{side}" for factor in ("", "2*", "4*", "8*") for side in ("rows", "columns")}
    assert sizes == {"batch"} | sides


def test_export_is_deterministic():
    again = export_onnx(network(PIXELS), model_header(network(PIXELS)), PIXELS)
    assert again == content(PIXELS)


@pytest.mark.parametrize(("options", "shape"), [(PIXELS, (3, 16, 64)), (STATIC, (2, 24, 40))])
def test_float16_with_pixels_and_upsampled_pafs(options, shape):
    pixels = images(*shape)
    inputs = pixels if options.channels_last else pixels.transpose(0, 3, 1, 2)
    model = to_float16(content(options))
    check_same(run(model, inputs), expected_maps(options, pixels), 0.02)
    graph = onnx.load_model_from_string(model).graph
    types = {weight.name: weight.data_type for weight in graph.initializer}
    kept = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
    assert kept == {
        "normalization/div.constant",
        "normalization/sub.constant",
        "conv2d_transpose_1.constant",  # factors of the upsampling
    }
    (entry,) = onnx.load_model_from_string(model).metadata_props
    assert json.loads(entry.value)["data_type"] == "fp16"
