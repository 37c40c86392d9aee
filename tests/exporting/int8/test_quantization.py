"""Tests of INT8 quantization for both targets: the graph, its accuracy, and the calibration."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from bodyposenet.encryption import METADATA_KEY
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation.evaluator import evaluate_dataset, load_test_images
from bodyposenet.exporting.int8.calibration import find_ranges
from bodyposenet.exporting.int8.calibration_cache import fingerprint, read_cache
from bodyposenet.exporting.int8.calibration_source import CalibrationSource
from bodyposenet.exporting.int8.cross_layer_equalization import equalize_channels
from bodyposenet.exporting.int8.quantization import QuantizationOptions, quantize, to_int8
from bodyposenet.exporting.onnx import OnnxExportOptions, export_onnx
from bodyposenet.inference.engines import onnx as onnx_engine
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import read_image
from bodyposenet.model.checkpoint import read_model
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec

SIZE = 128, 128
OUTPUTS = {"heatmap_out", "paf_out", "stage1/heat_branch/out", "stage1/paf_branch/out"}
MOST_SENSITIVE = {"block_1a_conv_1", "block_1b_dwconv_1", "stage2/block1/conv1"}
FLOAT = OUTPUTS | MOST_SENSITIVE


@pytest.fixture(scope="module")
def content(exported):
    return (exported / "model.onnx").read_bytes()


@pytest.fixture(scope="module")
def source(drawn_dataset, tmp_path_factory):
    """Calibration on the drawn test images; a tensorfile and a cache are kept."""
    folder = tmp_path_factory.mktemp("calibration")
    photos = drawn_dataset.folder / "test"
    return CalibrationSource(
        photos, folder / "cal.tensorfile", folder / "cal.bin", batches=3, batch_size=2, shape=SIZE
    )


@pytest.fixture(scope="module")
def ranges(content, source):
    return find_ranges(
        equalize_channels(content), source, "percentile", ["images"], fingerprint(content)
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(content, ranges):
    return {
        target: to_int8(equalize_channels(content), ranges, QuantizationOptions(target))
        for target in ("cpu", "tensorrt")
    }


class Graph:
    """Graph of an ONNX file, with access to nodes by name, operator and input."""

    def __init__(self, content):
        graph = onnx.load_model_from_string(content).graph
        self.nodes = {node.name: node for node in graph.node}
        self.producer = {node.output[0]: node for node in graph.node}
        self.numbers = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.outputs = {output.name for output in graph.output}

    def of(self, operator):
        return [node for node in self.nodes.values() if node.op_type == operator]

    def users(self, name):
        return [node for node in self.nodes.values() if name in node.input]

    def weights(self, convolution):
        """Return a convolution's INT8 weights and scales, or its float weights and None."""
        dequantize = self.producer.get(convolution.input[1])
        if dequantize is None:
            return self.numbers[convolution.input[1]], None
        return self.numbers[dequantize.input[0]], self.numbers[dequantize.input[1]]


def run(content, images, *, plain=False):
    if plain:  # without fusion: the graph as written
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )  # fmt: skip
    else:  # sums do not saturate, on any processor
        session = onnx_engine.open_session("m.onnx", content=content, device="cpu")
    return session.run(None, {session.get_inputs()[0].name: images})


def signal_to_noise(expected, found):
    """Return the signal-to-noise ratio in dB; large if both are equal."""
    return min(
        10 * np.log10(np.square(a).sum() / max(np.square(a - b).sum(), 1e-9))
        for a, b in zip(expected, found, strict=True)
    )


def photos(drawn_dataset):
    images = [read_image(path) for path in sorted((drawn_dataset.folder / "test").iterdir())]
    return (np.stack(images).astype(np.float32) - 128) / 256


@pytest.mark.parametrize(("target", "least"), [("cpu", 11), ("tensorrt", 6)])
def test_int8_maps_are_close_to_the_networks(files, content, drawn_dataset, target, least):
    """The network was trained for seconds only, and amplifies noise."""
    onnx.checker.check_model(onnx.load_model_from_string(files[target]), full_check=True)
    images = photos(drawn_dataset)
    found = run(files[target], images)
    assert signal_to_noise(run(content, images), found) > least
    assert signal_to_noise(run(files[target], images, plain=True), found) > least


def read_header(content):
    metadata = onnx.load_model_from_string(content).metadata_props
    return json.loads({each.key: each.value for each in metadata}[METADATA_KEY])


def test_header_has_the_data_type(files, content):
    for target, file in files.items():
        assert read_header(file) == read_header(content) | {"data_type": f"int8-{target}"}
        assert len(file) < 0.45 * len(content)


def test_tensorrt_has_no_zero_points_and_quantizes_before_convolutions(files):
    graph = Graph(files["tensorrt"])
    for node in (*graph.of("QuantizeLinear"), *graph.of("DequantizeLinear")):
        zero_point = graph.numbers[node.input[2]]
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
    for node in graph.of("QuantizeLinear"):
        (dequantize,) = graph.users(node.output[0])
        # TensorRT fuses a convolution with the Add after it, if the Add's other input is INT8, too.
        users = [user.op_type for user in graph.users(dequantize.output[0])]
        assert "Conv" in users
        assert set(users) <= {"Conv", "Add", "Concat"}
        assert graph.producer[node.input[0]].op_type != "Conv"  # its ReLU is fused
    for node in graph.of("Conv"):
        weights, scales = graph.weights(node)
        quantized_input = graph.producer[node.input[0]].op_type == "DequantizeLinear"
        assert quantized_input == (scales is not None) == (node.name not in FLOAT)
        assert graph.numbers[node.input[2]].dtype == np.float32
        if scales is not None:
            assert scales.shape == weights.shape[:1]


def test_the_scale_of_each_channel_represents_its_largest_weight(files, content):
    original = Graph(equalize_channels(content))
    for file in files.values():
        graph = Graph(file)
        for node in graph.of("Conv"):
            weights, scales = graph.weights(node)
            if scales is not None:
                before, _ = original.weights(original.nodes[node.name])
                largest = np.abs(before).reshape(len(before), -1).max(axis=1)
                assert weights.dtype == np.int8
                assert weights.min() >= -127
                assert scales[largest > 0] == pytest.approx(largest[largest > 0] / 127)


def test_weights_are_rounded_with_feedback(files, content):
    """Most integers are those of plain rounding; some compensate for the errors of others."""
    original, graph = Graph(equalize_channels(content)), Graph(files["cpu"])
    for name in ("block_4b_conv_1", "stage1/conv2"):
        integers, scales = graph.weights(graph.nodes[name])
        before, _ = original.weights(original.nodes[name])
        plain = np.rint(before / scales[:, None, None, None])
        distance = np.abs(integers - plain)
        assert 0.02 < (distance > 0).mean() < 0.5
        assert distance.max() <= 8


def test_biases_leave_room_for_the_sum_of_products(content, ranges):
    """A channel whose weights are tiny, as after strong regularization."""
    name = "stage2/block1/conv2"
    model = onnx.load_model_from_string(content)
    initializers = {each.name: each for each in model.graph.initializer}
    (convolution,) = (node for node in model.graph.node if node.name == name)
    weights, bias = (numpy_helper.to_array(initializers[each]) for each in convolution.input[1:])
    weights, bias = weights.copy(), bias.copy()
    weights[0], bias[0] = 1e-8, 0.5
    for key, numbers in zip(convolution.input[1:], (weights, bias), strict=True):
        initializers[key].CopyFrom(numpy_helper.from_array(numbers, key))
    graph = Graph(to_int8(model.SerializeToString(), ranges, QuantizationOptions("cpu")))
    dequantize = graph.producer[graph.nodes[name].input[2]]
    integers, scales = (graph.numbers[each] for each in dequantize.input[:2])
    assert abs(integers[0]) == pytest.approx(2**30, rel=1e-3)
    assert integers[0] * scales[0] == pytest.approx(0.5, abs=1e-3)


def test_ranges_after_a_relu_have_no_negative_values(files):
    graph = Graph(files["cpu"])
    after_relu = [node for node in graph.of("QuantizeLinear") if "relu" in node.input[0]]
    assert len(after_relu) > 30
    assert not any(graph.numbers[node.input[2]] for node in after_relu)


def float_convolutions(content, folder):
    """Return the convolutions that ONNX Runtime computes in float after fusing the graph."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(folder / "optimized.onnx").graph.node
    assert any(node.op_type == "QLinearConv" for node in nodes)
    return {node.name for node in nodes if node.op_type in ("Conv", "FusedConv")}


def test_onnx_runtime_computes_all_other_layers_in_integers(files, tmp_path):
    assert float_convolutions(files["cpu"], tmp_path) == FLOAT


def in_integers(content):
    graph = Graph(content)
    return {
        node.name for node in graph.of("Conv")
        if graph.weights(node)[1] is not None and graph.weights(node)[0].dtype == np.int8
    }  # fmt: skip


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_layers_kept_in_float(content, ranges, target):
    every = {node.name for node in Graph(content).of("Conv")}

    def floats(**options):
        return every - in_integers(to_int8(content, ranges, QuantizationOptions(target, **options)))

    assert floats() == FLOAT
    assert floats(strict=True) == {"heatmap_out", "paf_out"}
    assert floats(strict=True, float_outputs=False) == set()
    assert floats(float_outputs=False) == MOST_SENSITIVE
    assert floats(float_outputs=False, nodes_to_exclude=("stage2/block1/*", "block_1a_conv_1")) == {
        *MOST_SENSITIVE, *(f"stage2/block1/conv{k}" for k in (1, 2, 3))
    }  # fmt: skip


def test_nodes_to_exclude_are_float_in_onnx_runtime_too(content, ranges, tmp_path):
    """By default, ONNX Runtime quantizes float layers between INT8 layers, with a single scale."""
    file = to_int8(content, ranges, QuantizationOptions(nodes_to_exclude=("block_*_dwconv_1",)))
    depthwise = {node.name for node in Graph(content).of("Conv") if "_dwconv_" in node.name}
    found = float_convolutions(file, tmp_path)
    assert found == FLOAT | {name for name in depthwise if name.startswith("block_")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes_to_exclude": ("block_1a_conv",)}, "named block_1a_conv\n.*block_1a_conv_1"),
        ({"nodes_to_exclude": ("zzz",)}, r"named zzz\n.*: \S+, \S+, \S+$"),
        ({"nodes_to_exclude": ("paf_out",), "strict": True}, "--nodes_to_exclude paf_out"),
    ],
)
def test_unknown_nodes_to_exclude_are_an_error(content, ranges, options, message):
    with pytest.raises(BodyPoseNetError, match=message):
        to_int8(content, ranges, QuantizationOptions(**options))


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_poses_are_kept(files, content, drawn_dataset, target):
    dataset = DatasetSpec.load(drawn_dataset.spec)
    spec = InferenceSpec(input_shape=SIZE)
    expected, found = (
        evaluate_dataset(
            Predictor(onnx_engine.load("m", content=each, threads=1), spec),
            dataset, load_test_images(dataset),
        ).accuracy.ap
        for each in (content, files[target])
    )  # fmt: skip
    assert found > 0.4 * expected > 0.1


def test_cache_matches_the_tensors(content, source, drawn_dataset, tmp_path):
    whole = CalibrationSource(source.image_dir, None, tmp_path / "cal.bin", 6, 1, SIZE)
    find_ranges(content, whole, "minmax", [], fingerprint(content))
    cache = read_cache(tmp_path / "cal.bin")
    images = photos(drawn_dataset)
    assert cache["input_1:0"].high == pytest.approx(np.abs(images).max(), rel=1e-6)
    pafs, heatmaps = run(content, images)
    assert cache["paf_out"].high == pytest.approx(np.abs(pafs).max(), rel=1e-4)
    assert cache["heatmap_out/BiasAdd:0"].high == pytest.approx(np.abs(heatmaps).max(), rel=1e-4)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_existing_files_are_used(content, source, ranges, caplog, target):
    caplog.set_level("INFO", "bodyposenet")
    assert source.data_file.exists()
    again = CalibrationSource(None, None, source.cache_file, 3, 2, SIZE)
    file = quantize(content, again, QuantizationOptions(target))
    assert str(source.cache_file) in caplog.text
    assert "percentile, 6 images of 128 x 128" in caplog.text
    caplog.clear()
    assert file == to_int8(equalize_channels(content), ranges, QuantizationOptions(target))
    images = CalibrationSource(None, source.data_file, None, 3, 2, SIZE)
    assert find_ranges(equalize_channels(content), images, "percentile", [], "") == ranges
    assert str(source.data_file) in caplog.text


def test_cache_that_lacks_tensors_is_an_error(content, source, ranges, tmp_path):
    lines = source.cache_file.read_text().splitlines()
    (tmp_path / "cal.bin").write_text("\n".join(line for line in lines if "block_" not in line))
    other = CalibrationSource(None, None, tmp_path / "cal.bin", 3, 2, SIZE)
    with pytest.raises(BodyPoseNetError, match=r"lacks \d+ of the \d+ tensors.*block_2a.* more"):
        quantize(content, other, QuantizationOptions())


def with_other_weights(content, change):
    """Return the model with changed weights of the first convolution."""
    model = onnx.load_model_from_string(content)
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    (weights,) = (each for each in model.graph.initializer if each.name == first.input[1])
    weights.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weights)), weights.name))
    return model.SerializeToString()


def test_cache_of_another_model_is_an_error(content, source, ranges):
    """The layers of both models are the same; only the weights differ."""
    retrained = with_other_weights(content, lambda weights: weights * np.float32(1.01))
    again = CalibrationSource(None, None, source.cache_file, 3, 2, SIZE)
    with pytest.raises(BodyPoseNetError, match="holds the ranges of another model"):
        quantize(retrained, again, QuantizationOptions())


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(content, source, wrong):
    broken = with_other_weights(content, lambda weights: np.full_like(weights, wrong))
    plain = CalibrationSource(source.image_dir, None, None, 1, 1, SIZE)
    with pytest.raises(BodyPoseNetError, match=r"block_1a_conv_1.*not finite"):
        quantize(broken, plain, QuantizationOptions())


@pytest.mark.parametrize(
    ("batches", "directory", "message"),
    [
        (7, "test", "6 images.* 7 "),
        (1, "missing", "missing"),
        (1, None, "INT8.*images"),
    ],
)
def test_missing_images_are_an_error(content, drawn_dataset, tmp_path, batches, directory, message):
    folder = drawn_dataset.folder / directory if directory else None
    source = CalibrationSource(folder, tmp_path / "t", tmp_path / "c", batches, 1, SIZE)
    with pytest.raises(BodyPoseNetError, match=message):
        quantize(content, source, QuantizationOptions())
    assert not list(tmp_path.iterdir())


def test_h5py_is_not_needed_without_a_tensorfile(content, source, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    plain = CalibrationSource(source.image_dir, None, None, 1, 1, SIZE)
    assert find_ranges(content, plain, "minmax", [], "")


def test_cross_layer_equalization_keeps_all_bits_of_the_maps(content, drawn_dataset):
    file = equalize_channels(content)
    assert file != content
    images = photos(drawn_dataset)
    for expected, found in zip(run(content, images), run(file, images), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert equalize_channels(file) == file


@pytest.fixture(scope="module")
def channels_first(exported):
    """The model with uint8 input, channels first and a batch size of 2."""
    header, network = read_model(exported / "model.tlt", "key")
    options = OnnxExportOptions(channels_last=False, normalizes_input=True, static_batch_size=2)
    return export_onnx(network, header, options)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_other_export_options(content, channels_first, source, ranges, drawn_dataset, target):
    assert fingerprint(channels_first) == fingerprint(content)
    images = photos(drawn_dataset)[:2]
    pixels = np.ascontiguousarray((images * 256 + 128).astype(np.uint8).transpose(0, 3, 1, 2))
    found = find_ranges(
        equalize_channels(channels_first),
        CalibrationSource(None, source.data_file, None, 3, 2, SIZE), "percentile", [], "",
    )  # fmt: skip
    assert found["block_1a_relu"].high == pytest.approx(ranges["block_1a_relu"].high, rel=1e-3)
    file = to_int8(
        equalize_channels(channels_first), found, QuantizationOptions(target, float_outputs=False)
    )
    onnx.checker.check_model(onnx.load_model_from_string(file), full_check=True)
    assert signal_to_noise(run(channels_first, pixels), run(file, pixels)) > 6
