"""Tests of pretrained weights of model files, Keras and VGG19."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from bodyposenet.encryption import SealedKey
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import named_tensors, save_model
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.model.pretrained import load_pretrained
from bodyposenet.model.pretrained.vgg19 import FEATURE_SCALE
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig

TOY = Skeleton("toy", ("head", "left_hand", "right_hand"), ((0, 1), (0, 2)))
OTHER = Skeleton("other", ("head", "foot"), ((0, 1),))
VGG19 = {
    "conv1_1": (3, 64), "conv1_2": (64, 64), "conv2_1": (64, 128), "conv2_2": (128, 128),
    "conv3_1": (128, 256), "conv3_2": (256, 256), "conv3_3": (256, 256), "conv3_4": (256, 256),
}  # fmt: skip


def small_network(skeleton: Skeleton = TOY, stages: int = 2, **options: object) -> BodyPoseNetwork:
    attributes = BackboneAttributes(
        **({"architecture": "lightweight_openpose", "width": 0.125} | options)
    )
    spec = ModelConfig(stages=stages, backbone_attributes=attributes)
    return BodyPoseNetwork(skeleton, spec)


def has_map_channels(name: str) -> bool:
    """Return whether a tensor has channels of joints and limbs."""
    return "out." in name or name.startswith(("stage2/block1/conv1.", "stage3/block1/conv1."))


def vgg_network(**options: object) -> BodyPoseNetwork:
    return small_network(stages=1, architecture="vgg", **options)


class TestModelFiles:
    def test_matching_tensors_are_copied_and_the_others_reported(self, tmp_path: Path):
        source, network = small_network(OTHER, stages=2), small_network(TOY, stages=3)
        save_model(tmp_path / "m.tlt", source, key="key")
        report = load_pretrained(network, tmp_path / "m.tlt", "key")
        ours, theirs = named_tensors(network), named_tensors(source)
        same = [name for name in report.loaded if not has_map_channels(name)]
        assert all(torch.equal(ours[name], theirs[name]) for name in same)
        assert "block_1a_conv_1.weight" in report.loaded
        assert report.new_maps == (
            "left_hand", "right_hand", "head - left_hand", "head - right_hand"
        )  # fmt: skip
        assert "stage3/block1/conv1.weight" in report.missing
        assert "stage2/heat_branch/out.bias" in report.missing
        assert set(report.unused) == set()
        reported = {*report.loaded, *report.missing, *report.mismatched}
        assert reported == {name for name in ours if not name.endswith("num_batches_tracked")}
        lines = report.lines()
        assert lines[0] == f"{len(report.loaded)} tensors loaded"
        assert any("left_hand" in line for line in lines)

    def test_shapes_that_differ_are_reported(self, tmp_path: Path):
        save_model(tmp_path / "m.tlt", small_network(width=0.25))
        report = load_pretrained(small_network(), tmp_path / "m.tlt")
        assert report.mismatched["context_conv.weight"] == ((32, 32, 3, 3), (16, 16, 3, 3))
        assert any("context_conv.weight (32x32x3x3 in the file" in line for line in report.lines())

    def test_nothing_in_common_is_an_error(self, tmp_path: Path):
        save_model(tmp_path / "m.tlt", vgg_network())
        with pytest.raises(BodyPoseNetError, match=r"m\.tlt"):
            load_pretrained(small_network(OTHER, width=0.5), tmp_path / "m.tlt")

    def test_a_missing_file_is_an_error(self, tmp_path: Path):
        for name in ("m.tlt", "m.hdf5", "m.safetensors"):
            with pytest.raises(BodyPoseNetError, match="No such file"):
                load_pretrained(small_network(), tmp_path / name)


@pytest.mark.parametrize("name", ["m.onnx", "m.xml", "m.pth", "m.ckpt", "m.safetensors", "m.tlt"])
def test_plain_files_are_refused_if_sealed_ones_are_required(tmp_path: Path, name: str):
    path = tmp_path / name
    save_model(path, small_network())
    with pytest.raises(BodyPoseNetError, match=rf"(?s){name}.*--require_sealed"):
        load_pretrained(small_network(), path, SealedKey("key"))


class TestKeras:
    @pytest.fixture
    def variables(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        shapes = {
            "block_1a_conv_1/kernel:0": (3, 3, 3, 64),
            "block_1a_bn_1/gamma:0": (64,),
            "block_1a_bn_1/beta:0": (64,),
            "block_1a_bn_1/moving_mean:0": (64,),
            "block_1a_bn_1/moving_variance:0": (64,),
            "channel_reduction_conv/bias:0": (128,),
            "stage1/paf/conv4/kernel:0": (1, 1, 128, 512),
            "stage1/paf_branch/out/kernel:0": (1, 1, 512, 38),
            "dense/kernel:0": (4, 5),
        }
        return {n: rng.normal(size=shape).astype(np.float32) for n, shape in shapes.items()}

    @pytest.mark.parametrize("prefix", ["", "model_weights/", "model_weights/model_1/"])
    def test_layers_are_found_by_name(self, tmp_path: Path, variables: dict, prefix: str):
        """Keras writes a layer's variables under the layer's name, twice unless it is nested."""
        with h5py.File(tmp_path / "m.hdf5", "w") as file:
            for name, value in variables.items():
                layer = "" if "model_1" in prefix else name.rpartition("/")[0] + "/"
                file[f"{prefix}{layer}{name}"] = value
            file["optimizer_weights/training/block_1a_conv_1/bias:0"] = np.zeros(64, np.float32)
            file["optimizer_weights/iterations:0"] = 5
        network = vgg_network()
        report = load_pretrained(network, tmp_path / "m.hdf5")
        layers = network.layers()
        kernel = variables["block_1a_conv_1/kernel:0"]
        weight = layers["block_1a_conv_1"].weight.detach().numpy()
        assert weight[5, 2, 0, 1] == kernel[0, 1, 2, 5]
        np.testing.assert_array_equal(weight, np.moveaxis(kernel, (2, 3), (1, 0)))
        norm = layers["block_1a_bn_1"]
        for ours, theirs in {
            "weight": "gamma", "bias": "beta",
            "running_mean": "moving_mean", "running_var": "moving_variance",
        }.items():  # fmt: skip
            expected = variables[f"block_1a_bn_1/{theirs}:0"]
            np.testing.assert_array_equal(getattr(norm, ours).detach().numpy(), expected)
        assert len(report.loaded) == 7
        assert list(report.mismatched) == ["stage1/paf_branch/out.weight"]
        assert len(report.unused) == 1
        assert "dense.weight" in report.unused[0]
        assert "block_1b_conv_1.weight" in report.missing

    def test_weights_are_refused_where_sealed_files_are_required(
        self, tmp_path: Path, variables: dict
    ):
        with h5py.File(tmp_path / "m.hdf5", "w") as file:
            file["block_1a_conv_1/kernel:0"] = variables["block_1a_conv_1/kernel:0"]
        with pytest.raises(BodyPoseNetError, match=r"(?s)m\.hdf5.*--require_sealed"):
            load_pretrained(vgg_network(), tmp_path / "m.hdf5", SealedKey("key"))
        load_pretrained(vgg_network(), tmp_path / "m.hdf5", "key")

    def test_format_is_detected_by_content(self, tmp_path: Path, variables: dict):
        with h5py.File(tmp_path / "m.tlt", "w") as file:
            for name, value in variables.items():
                file[f"model_weights/{name}"] = value
        assert len(load_pretrained(vgg_network(), tmp_path / "m.tlt").loaded) == 7

    def test_damage_is_an_error(self, tmp_path: Path, variables: dict):
        with h5py.File(tmp_path / "m.hdf5", "w") as file:
            for name, value in variables.items():
                file[f"model_weights/{name}"] = value
        content = (tmp_path / "m.hdf5").read_bytes()
        for damaged in (b"", b"something else", content[: len(content) // 2]):
            (tmp_path / "m.hdf5").write_bytes(damaged)
            with pytest.raises(BodyPoseNetError, match="HDF5"):
                load_pretrained(vgg_network(), tmp_path / "m.hdf5")


def vgg19_features(weights: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Compute VGG19 up to conv3_4 and its pooling, on BGR pixels minus the mean.

    The converted network pads with gray, so the border is gray here, too.
    """
    mean = torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    features = functional.pad(pixels.flip(1), (1, 1, 1, 1), value=128.0) - mean
    for name in VGG19:
        weight, bias = weights[f"{name}.weight"].float(), weights[f"{name}.bias"].float()
        padding = 0 if name == "conv1_1" else 1
        features = functional.conv2d(features, weight, bias, padding=padding).relu()
        if name in ("conv1_2", "conv2_2", "conv3_4"):
            features = functional.max_pool2d(features, 2)
    return features


def network_features(network: BodyPoseNetwork, pixels: Tensor) -> Tensor:
    """Compute the features of the backbone up to the third pooling."""
    front = []
    for name, layer in network.backbone.named_children():
        front.append(layer)
        if name == "block_4a_pool":
            break
    inputs = network.normalize(pixels.permute(0, 2, 3, 1).to(torch.uint8))
    return torch.nn.Sequential(*front)(inputs)


class TestVgg19:
    @pytest.fixture
    def weights(self) -> dict[str, Tensor]:
        torch.manual_seed(0)
        weights = {}
        for name, (inputs, outputs) in VGG19.items():
            weights[f"{name}.weight"] = torch.randn(outputs, inputs, 3, 3) / (4.5 * inputs) ** 0.5
            weights[f"{name}.bias"] = torch.randn(outputs)
        return weights

    @pytest.mark.parametrize(
        "normalization", [Normalization(), Normalization((128.0, 64.0, 32.0), (1.0, 2.0, 4.0))]
    )
    def test_features_are_those_of_vgg19(
        self, tmp_path: Path, weights: dict, normalization: Normalization
    ):
        save_file(weights, tmp_path / "vgg19.safetensors")
        attributes = BackboneAttributes(mtype="pooling")
        spec = ModelConfig(stages=1, backbone_attributes=attributes)
        network = BodyPoseNetwork(TOY, spec, normalization)
        report = load_pretrained(network, tmp_path / "vgg19.safetensors")
        assert len(report.loaded) == 16
        assert not report.mismatched and not report.unused
        assert "block_4a_conv_1.weight" in report.missing
        pixels = torch.randint(0, 256, (1, 3, 24, 32)).float()
        with torch.inference_mode():
            ours = network_features(network, pixels)
            theirs = vgg19_features(weights, pixels) / FEATURE_SCALE
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3 * theirs.max().item())

    def test_keras_applications_file_gives_the_same_weights(self, tmp_path: Path, weights: dict):
        with h5py.File(tmp_path / "vgg19.h5", "w") as file:
            for name in (*VGG19, "conv5_1"):
                block, layer = name.removeprefix("conv").split("_")
                group = file.create_group(f"block{block}_conv{layer}")
                weight = weights.get(f"{name}.weight", torch.zeros(8, 8, 3, 3))
                bias = weights.get(f"{name}.bias", torch.zeros(8))
                group[f"{Path(group.name).name}_W_1:0"] = weight.permute(2, 3, 1, 0).numpy()
                group[f"{Path(group.name).name}_b_1:0"] = bias.numpy()
        save_file(weights, tmp_path / "vgg19.safetensors")
        networks = [vgg_network(mtype="pooling") for _ in range(2)]
        report = load_pretrained(networks[0], tmp_path / "vgg19.h5")
        load_pretrained(networks[1], tmp_path / "vgg19.safetensors")
        assert len(report.loaded) == 16
        assert report.unused == ("conv5_1.weight", "conv5_1.bias")
        for name in report.loaded:
            ours, theirs = (network.state_dict()[f"backbone.{name}"] for network in networks)
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)

    @pytest.mark.parametrize(
        "damage",
        [
            {"conv1_1.weight": torch.zeros(64)},
            {"conv1_1.weight": torch.zeros(64, 4, 3, 3)},
            {"conv1_1.bias": torch.zeros(3)},
        ],
    )
    def test_damaged_first_layer_is_an_error(self, tmp_path, weights, damage):
        save_file(weights | damage, tmp_path / "vgg19.safetensors")
        with pytest.raises(BodyPoseNetError, match=r"vgg19\.safetensors"):
            load_pretrained(vgg_network(mtype="pooling"), tmp_path / "vgg19.safetensors")

    @pytest.mark.shared_data
    def test_features_are_those_of_the_real_vgg19(self, shared: Path):
        path = shared / "weights" / "vgg19_front_fp16.safetensors"
        network = vgg_network(mtype="pooling")
        assert len(load_pretrained(network, path).loaded) == 16
        pixels = torch.randint(0, 256, (1, 3, 32, 32)).float()
        with torch.inference_mode():
            ours = network_features(network, pixels)
            theirs = vgg19_features(load_file(path), pixels) / FEATURE_SCALE
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.max().item())

    def test_layers_without_weights_have_he_initialization(self, tmp_path: Path, weights: dict):
        save_file(weights, tmp_path / "vgg19.safetensors")
        network = vgg_network(mtype="pooling")
        load_pretrained(network, tmp_path / "vgg19.safetensors")
        for name in ("block_4a_conv_1", "block_4b_conv_1"):
            conv = network.layers()[name]
            deviation = (2 / conv.weight[0].numel()) ** 0.5
            assert conv.weight.std().item() == pytest.approx(deviation, rel=0.02)

    @pytest.mark.parametrize(
        "options", [{}, {"architecture": "lightweight_openpose", "width": 0.125}]
    )
    def test_other_backbones_are_refused(self, tmp_path: Path, weights: dict, options: dict):
        save_file(weights, tmp_path / "vgg19.safetensors")
        network = small_network(**({"architecture": "vgg"} | options), stages=1)
        with pytest.raises(BodyPoseNetError, match="pooling"):
            load_pretrained(network, tmp_path / "vgg19.safetensors")

    def test_damage_is_an_error(self, tmp_path: Path, weights: dict):
        save_file(weights, tmp_path / "vgg19.safetensors")
        content = (tmp_path / "vgg19.safetensors").read_bytes()
        for damaged in (b"", content[:1000], content[: len(content) // 2]):
            (tmp_path / "vgg19.safetensors").write_bytes(damaged)
            with pytest.raises(BodyPoseNetError, match="safetensors"):
                load_pretrained(vgg_network(mtype="pooling"), tmp_path / "vgg19.safetensors")
