"""Tests of the weights of MoveNet's backbone in a network of this package."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.model.pretrained import build_pretrained, load_pretrained
from bodyposenet.model.pretrained.movenet import LEVEL32_SCALE
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import load_skeleton

from .movenet_files import SCALE, features, tiny_file

BODY = load_skeleton("bpnet_18joints.json")
PIXELS = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(0)).float()


def make_network(
    normalization: Normalization = Normalization(), width: float = 0.125, batch_norm: bool = False
) -> BodyPoseNetwork:
    attributes = BackboneAttributes(architecture="movenet", width=width, batch_norm=batch_norm)
    spec = ModelConfig(stages=2, backbone_attributes=attributes)
    return BodyPoseNetwork(BODY, spec, normalization).eval()


def make_normalization(scale: float) -> Normalization:
    """Return the normalization of the file: pixel * scale - 1."""
    return Normalization((1 / scale,) * 3, (1.0,) * 3)


def backbone_features(network: BodyPoseNetwork, pixels: Tensor) -> Tensor:
    with torch.inference_mode():
        return network.backbone.pyramid(pixels / network.image_scale - network.image_offset)


def at_stride8(stride8: Tensor, deep16: Tensor, level32: Tensor, level8: Tensor) -> Tensor:
    """Join the features of the published backbone at stride 8."""
    deep16 = functional.interpolate(deep16, scale_factor=2.0, mode="bilinear")
    level32 = functional.interpolate(level32, scale_factor=4.0, mode="bilinear")
    return torch.cat([stride8, deep16, level32 / LEVEL32_SCALE, level8], dim=1)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    tiny_file(tmp_path / "trunk.safetensors")
    return tmp_path / "trunk.safetensors"


def test_the_features_are_those_of_the_file(tmp_path: Path):
    tensors = tiny_file(tmp_path / "trunk.safetensors")
    network = make_network(make_normalization(SCALE))
    load_pretrained(network, tmp_path / "trunk.safetensors")
    expected = at_stride8(*features(tensors, PIXELS))
    torch.testing.assert_close(backbone_features(network, PIXELS), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "normalization", [Normalization(), Normalization((255.0, 128.0, 64.0), (0.5, 1.0, 2.0))]
)
def test_first_layer_is_adapted_to_the_normalization(weights: Path, normalization: Normalization):
    own, ours = make_network(make_normalization(SCALE)), make_network(normalization)
    for network in (own, ours):
        load_pretrained(network, weights)
    # Without padding, because padded zeros correspond to different pixels.
    with torch.inference_mode():
        theirs, found = (
            network.layers()["block_stem_conv"](PIXELS / network.image_scale - network.image_offset)
            for network in (own, ours)
        )
    torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-4)


def test_loaded_missing_and_unused_tensors_are_reported(weights: Path):
    network = make_network()
    report = load_pretrained(network, weights)
    trunk = {name for name in network.layers() if name.startswith(("block_", "fpn_"))}
    assert {name.rpartition(".")[0] for name in report.loaded} == trunk
    heads = network.layers().keys() - trunk
    assert {name.rpartition(".")[0] for name in report.missing} == heads
    assert not report.mismatched
    assert {"lateral4.conv.weight", "heads.heatmap.1.conv.bias"} <= set(report.unused)
    assert all(name.startswith(("lateral4.", "fuse4.", "heads.")) for name in report.unused)


def test_other_numbers_of_channels_are_reported(weights: Path):
    report = load_pretrained(make_network(width=0.25), weights)
    assert "block_16_project_conv.weight" in report.mismatched


def test_norms_are_refused(weights: Path):
    with pytest.raises(BodyPoseNetError, match="batch_norm"):
        load_pretrained(make_network(batch_norm=True), weights)


def test_other_architectures_are_refused(weights: Path):
    attributes = BackboneAttributes(architecture="lightweight_openpose", width=0.125)
    network = BodyPoseNetwork(BODY, ModelConfig(backbone_attributes=attributes))
    with pytest.raises(BodyPoseNetError, match="movenet"):
        load_pretrained(network, weights)


def test_file_has_no_architecture(weights: Path):
    with pytest.raises(BodyPoseNetError, match="load_graph"):
        build_pretrained(weights, "", BODY, Normalization())


@pytest.mark.parametrize("scale", ["none", "0", "-1", "nan"])
def test_an_unusable_scale_is_an_error(tmp_path: Path, scale: str):
    tiny_file(tmp_path / "trunk.safetensors", {"scale": scale})
    with pytest.raises(BodyPoseNetError, match=r"trunk\.safetensors"):
        load_pretrained(make_network(), tmp_path / "trunk.safetensors")


def test_default_scale(tmp_path: Path):
    tiny_file(tmp_path / "trunk.safetensors", {})
    network = make_network(make_normalization(2 / 255))
    load_pretrained(network, tmp_path / "trunk.safetensors")
    explicit = make_network(make_normalization(2 / 255))
    tiny_file(tmp_path / "explicit.safetensors", {"scale": str(2 / 255)})
    load_pretrained(explicit, tmp_path / "explicit.safetensors")
    torch.testing.assert_close(
        backbone_features(network, PIXELS), backbone_features(explicit, PIXELS)
    )


@pytest.mark.shared_data
def test_real_backbone_equals_the_published_one(shared: Path):
    """The reference is a plain module of the same weights, equal to the published graph."""
    folder = shared / "weights" / "movenet"
    spec = spec_from_file_location("movenet_trunk", folder / "movenet_trunk.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    path = folder / "movenet_multipose_trunk_fp16.safetensors"
    reference = module.MoveNetTrunk.load(path)
    network = make_network(make_normalization(reference.scale), width=1.0)
    report = load_pretrained(network, path)
    assert len(report.loaded) == 116 and not report.mismatched
    pixels = torch.nn.functional.interpolate(PIXELS, scale_factor=2.0)
    with torch.inference_mode():
        theirs = reference.features(pixels)
        block5 = reference.blocks[5](reference.blocks[4](reference.blocks[3](theirs["c4"])))
        expected = at_stride8(block5, theirs["c16b"], theirs["p32"], theirs["p8"])
    torch.testing.assert_close(backbone_features(network, pixels), expected, rtol=0, atol=1e-4)
