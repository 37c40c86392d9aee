"""Tests of the IR reader, on narrow networks written in the layouts of the published ones."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13 as ops
from safetensors.torch import load_file
from torch import Tensor

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.engines.openvino import preserve_signal_stack
from bodyposenet.model.pretrained.open_model_zoo import read_ir

from . import published
from .published import Layer, forward, torch_maps


class IrBuilder:
    """Builds an IR with random weights in one of the published layouts.

    Args:
        weights: "float"; "int8" for int8 constants followed by Convert, Subtract and Multiply; or
            "fake_quantize" for float constants followed by FakeQuantize.
        activations: Whether FakeQuantize nodes precede convolutions, sums and concatenations.
        norm: Whether batch normalization is present, as Multiply and Add.
        half: Whether the graph computes in float16.
        preprocessing: "scale_mean", "mean_scale" or "none".
        alpha: Parameter of the ELUs.
        stride: Stride of the layers whose stride is 2 in the published network.
        levels: Number of levels of the FakeQuantize nodes of activations.
    """

    def __init__(
        self,
        weights: str = "float",
        activations: bool = False,
        norm: bool = False,
        half: bool = False,
        preprocessing: str = "scale_mean",
        alpha: float = 1.0,
        stride: int = 2,
        levels: int = 256,
    ) -> None:
        self.random = np.random.default_rng(1)
        self.weights, self.activations, self.norm, self.half = weights, activations, norm, half
        self.preprocessing, self.alpha, self.stride = preprocessing, alpha, stride
        self.levels = levels
        self.layers: dict[str, Layer] = {}

    def model(self) -> openvino.Model:
        image = ops.parameter([1, 3, 48, 64], np.float32, name="data")
        x = ops.convert(image, "f16") if self.half else image
        heat, paf = forward(self.apply, self.add, self.concatenate, self.normalize(x))
        if self.half:
            heat, paf = ops.convert(heat, "f32"), ops.convert(paf, "f32")
        return openvino.Model([ops.result(paf), ops.result(heat)], [image], "network")

    def constant(self, values):
        return ops.constant(np.asarray(values, np.float16 if self.half else np.float32))

    def normalize(self, x):
        scale, mean = self.constant(np.full((1, 1, 1, 1), 1 / 255)), np.full((1, 3, 1, 1), 128.0)
        if self.preprocessing == "scale_mean":
            x = ops.add(ops.multiply(x, scale), self.constant(-mean / 255))
        elif self.preprocessing == "mean_scale":
            x = ops.multiply(scale, ops.subtract(x, self.constant(mean)))
        return x

    def quantized(self, x, per_channel: int = 0):
        if not self.activations:
            return x
        shape = (1, per_channel, 1, 1) if per_channel else ()
        low, high = self.constant(np.full(shape, -128)), self.constant(np.full(shape, 127))
        return ops.fake_quantize(x, low, high, low, high, self.levels)

    def weight(self, layer: Layer, scale: float):
        values = self.random.standard_normal(layer.shape) * scale
        if self.weights == "float":
            return self.constant(values)
        limit = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
        if self.weights == "fake_quantize":
            low, high = self.constant(-limit), self.constant(limit)
            return ops.fake_quantize(self.constant(values), low, high, low, high, 255)
        zero = self.random.integers(-3, 4, limit.shape)
        stored = np.clip(np.rint(values / limit * 120) + zero, -128, 127).astype(np.int8)
        stored = ops.convert(ops.constant(stored), "f16" if self.half else "f32")
        shifted = ops.subtract(stored, self.constant(zero))
        return ops.multiply(shifted, self.constant(limit / 120))

    def apply(self, layer: Layer, x):
        self.layers[layer.name] = layer
        gain = 1 / 255 if layer.inputs == 3 and self.preprocessing == "none" else 1
        weight = self.weight(layer, gain * np.sqrt(2 / np.prod(layer.shape[1:])))
        stride = self.stride if layer.stride == 2 else 1
        sides = [[side] * 2 for side in (stride, layer.padding, layer.padding, layer.dilation)]
        x = self.quantized(x, layer.inputs if layer.depthwise else 0)
        if layer.depthwise:
            grouped = ops.constant(np.array([layer.inputs, 1, 1, 3, 3]))
            x = ops.group_convolution(x, ops.reshape(weight, grouped, False), *sides)
        else:
            x = ops.convolution(x, weight, *sides)
        shape = (1, layer.outputs, 1, 1)
        if self.norm:
            x = ops.multiply(x, self.constant(self.random.uniform(0.5, 1.5, shape)))
        x = ops.add(x, self.constant(self.random.standard_normal(shape) * 0.1))
        if layer.activation == "relu":
            return ops.relu(x)
        return ops.elu(x, self.alpha) if layer.activation == "elu" else x

    def add(self, shortcut, branch):
        return ops.add(self.quantized(branch), self.quantized(shortcut))

    def concatenate(self, features, heat, paf):
        return ops.concat([self.quantized(x) for x in (paf, heat, features)], 1)


def write(model: openvino.Model, path: Path, compress: bool = False) -> Path:
    openvino.save_model(model, path, compress_to_fp16=compress)
    return path


def ir_maps(path: Path, pixels: Tensor) -> list[Tensor]:
    """Compute the heatmaps and PAFs of RGB pixels with OpenVINO, in float32."""
    with preserve_signal_stack():
        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    paf, heat = compiled([pixels.flip(1).numpy()]).values()
    return [torch.from_numpy(heat), torch.from_numpy(paf)]


def assert_same_maps(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-5):
    for one, other in zip(ours, theirs, strict=True):
        largest = other.abs().max().item()
        assert largest > 0.1
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * largest)


@pytest.fixture
def pixels() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (1, 3, 48, 64), generator=generator).float()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "network.xml"


class TestSameNetwork:
    @pytest.mark.parametrize("weights", ["float", "int8", "fake_quantize"])
    @pytest.mark.parametrize("compress", [False, True])
    def test_maps_equal_those_of_the_ir(self, path, pixels, weights, compress):
        builder = IrBuilder(weights)
        write(builder.model(), path, compress)
        tensors = read_ir(path)
        assert len(tensors) == 2 * len(builder.layers)
        for name, layer in builder.layers.items():
            assert tensors[f"{name}.weight"].shape == layer.shape
            assert tensors[f"{name}.bias"].shape == (layer.outputs,)
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
        assert_same_maps(torch_maps(tensors, pixels), ir_maps(path, pixels))

    @pytest.mark.parametrize(
        "layout",
        [
            {"norm": True},
            {"norm": True, "weights": "int8"},
            {"preprocessing": "mean_scale"},
            {"half": True},
            {"half": True, "weights": "int8"},
            {"half": True, "weights": "fake_quantize"},
        ],
    )
    def test_layouts(self, path, pixels, layout):
        write(IrBuilder(**layout).model(), path)
        # OpenVINO dequantizes in the precision of the graph, read_ir never in float16.
        tolerance = 2e-3 if layout == {"half": True, "weights": "int8"} else 1e-5
        assert_same_maps(torch_maps(read_ir(path), pixels), ir_maps(path, pixels), tolerance)

    def test_input_without_normalization(self, tmp_path):
        """The first weights are scaled by 1/255 instead of the input, so only the mean differs."""
        tensors = []
        for preprocessing in ("none", "scale_mean"):
            path = tmp_path / f"{preprocessing}.xml"
            write(IrBuilder(preprocessing=preprocessing).model(), path)
            tensors.append(read_ir(path))
        raw, normalized = tensors
        shift = 0.5 * raw["model.0.0.weight"].sum((1, 2, 3))
        normalized["model.0.0.bias"] += shift
        torch.testing.assert_close(raw, normalized, rtol=1e-5, atol=1e-6)
        assert shift.abs().max() > 0.1

    @pytest.mark.parametrize("weights", ["int8", "fake_quantize"])
    @pytest.mark.parametrize("half", [False, True])
    def test_quantization_of_activations_is_undone(self, tmp_path, weights, half):
        paths = [tmp_path / "float.xml", tmp_path / "quantized.xml"]
        for path, activations in zip(paths, (False, True), strict=True):
            write(IrBuilder(weights, activations, half=half).model(), path)
        plain, quantized = (read_ir(path) for path in paths)
        torch.testing.assert_close(quantized, plain, rtol=0, atol=0)

    def test_maps_with_finely_quantized_activations(self, path, pixels):
        write(IrBuilder("int8", activations=True, levels=2**20).model(), path)
        assert_same_maps(torch_maps(read_ir(path), pixels), ir_maps(path, pixels), 1e-2)


@pytest.mark.shared_data
def test_published_weights(shared: Path):
    path = shared / "peers" / "hpe0001" / "hpe0001_int8.xml"
    expected = load_file(shared / "weights" / "lightweight_openpose" / "hpe0001.safetensors")
    tensors = read_ir(path)
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(tensors[name], tensor.float(), rtol=2**-11, atol=1e-7)


class TestErrors:
    def refuse(self, path: Path, *facts: str) -> BodyPoseNetError:
        with pytest.raises(BodyPoseNetError) as info:
            read_ir(path)
        assert all(fact in info.value.what for fact in facts), info.value.what
        assert info.value.remedy
        return info.value

    @pytest.mark.parametrize("missing", [".xml", ".bin"])
    def test_missing_file(self, path, missing):
        write(IrBuilder().model(), path)
        path.with_suffix(missing).unlink()
        self.refuse(path, f"network{missing}")

    @pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
    @pytest.mark.parametrize("damaged", [".xml", ".bin"])
    def test_truncated_file(self, path, share, damaged):
        write(IrBuilder().model(), path)
        file = path.with_suffix(damaged)
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])
        self.refuse(path, "network.xml")

    @pytest.mark.parametrize(
        "content",
        [b"\0\1\2", b"<?xml version='1.0' encoding='x'?><net/>", b"<annotation/>", b"<net/>"],
    )
    def test_other_content(self, path, content, capfd):
        path.write_bytes(content)
        path.with_suffix(".bin").write_bytes(b"")
        self.refuse(path, "network.xml")
        assert capfd.readouterr() == ("", "")

    def test_infinite_weights(self, path):
        write(IrBuilder().model(), path)
        weights = np.fromfile(path.with_suffix(".bin"), np.float32)
        weights[len(weights) // 2] = np.inf
        path.with_suffix(".bin").write_bytes(weights.tobytes())
        self.refuse(path, "network.xml")

    @pytest.mark.parametrize("layout", [{"alpha": 0.5}, {"stride": 1}])
    def test_other_layers(self, path, layout):
        write(IrBuilder(**layout).model(), path)
        self.refuse(path, "network.xml", "human-pose-estimation-0001")

    def test_other_skeleton(self, path, monkeypatch):
        monkeypatch.setattr(published, "HEAT", 18)
        write(IrBuilder().model(), path)
        self.refuse(path, "network.xml", "19")

    @pytest.mark.parametrize(
        "apply",
        [
            lambda x: ops.multiply(x, x),
            lambda x: ops.subtract(ops.constant(np.float32(1)), x),
            lambda x: ops.sigmoid(x),
            lambda x: ops.concat([x, x], 0),
            lambda x: ops.fake_quantize(x, *(ops.constant(np.float32(v)) for v in (0, 1, 0, 2)), 9),
            lambda x: ops.add(x, ops.constant(np.zeros((1, 3, 4, 4), np.float32))),
            lambda x: x,
        ],
    )
    def test_other_networks(self, path, apply):
        image = ops.parameter([1, 3, 4, 4], np.float32)
        write(openvino.Model([ops.result(apply(image))], [image], "other"), path)
        self.refuse(path, "network.xml", "human-pose-estimation-0001")

    def test_other_input(self, path):
        image = ops.parameter([1, 4, 4, 3], np.float32)
        write(openvino.Model([ops.result(ops.relu(image))], [image], "other"), path)
        self.refuse(path, "network.xml")

    def test_openvino_missing(self, path, monkeypatch):
        write(IrBuilder().model(), path)
        monkeypatch.setitem(sys.modules, "openvino", None)
        assert "bodyposenet[openvino]" in self.refuse(path, "openvino").remedy
