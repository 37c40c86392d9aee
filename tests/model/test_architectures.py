"""Tests of the backbones: sizes, names and parameters."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from bodyposenet.model.architectures import build_backbone
from bodyposenet.model.architectures.movenet import UpsampleLike
from bodyposenet.specs.network import BackboneAttributes, ModelConfig


def model_config(**attributes: object) -> ModelConfig:
    return ModelConfig(backbone_attributes=BackboneAttributes(**attributes))


ARCHITECTURES = [
    {"architecture": "vgg"},
    {"architecture": "vgg", "mtype": "pooling"},
    {"architecture": "lightweight_openpose", "width": 0.25},
    {"architecture": "movenet", "width": 0.25},
    {"architecture": "movenet", "width": 0.25, "batch_norm": False},
]


@pytest.mark.parametrize(
    "attributes",
    ARCHITECTURES,
    ids=["vgg", "pooling", "lightweight", "movenet", "movenet without norms"],
)
@pytest.mark.parametrize("size", [(8, 8), (16, 40), (24, 56), (64, 104)])
def test_features_are_an_eighth_of_the_input(attributes: dict, size: tuple[int, int]):
    backbone, channels = build_backbone(model_config(**attributes), {})
    features = backbone.eval()(torch.zeros(1, 3, *size))
    assert features.shape == (1, channels, size[0] // 8, size[1] // 8)
    assert channels == (128 if attributes["architecture"] == "vgg" else 32)
    assert features.min() >= 0


def test_vgg_pads_strided_convolutions_as_tensorflow_does():
    """A point at (2 i + 2, 2 j + 2) is the last tap of output (i, j), which 1/1 padding lacks."""
    backbone, _ = build_backbone(model_config(), {})
    layers = dict(backbone.named_children())
    pad, conv = layers["block_2a_pad"], layers["block_2a_conv_1"]
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, 2, 2] = 1
        image = torch.zeros(1, 64, 6, 6)
        image[0, 0, 2, 4] = 1
        output = conv(pad(image))[0, 0]
    assert output.shape == (3, 3)
    assert output.nonzero().tolist() == [[0, 1]]


def test_vgg_backbone_has_the_parameters_and_constants_of_tao():
    for bias, parameters in ((False, 7_053_504), (True, 7_053_504 + 2_688)):
        backbone, _ = build_backbone(model_config(use_bias=bias), {})
        tensors = {n: t for n, t in backbone.state_dict().items() if n.startswith("block_")}
        counted = [t.numel() for n, t in tensors.items() if not n.endswith("num_batches_tracked")]
        assert sum(counted) == parameters
    norms = [layer for layer in backbone if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_pooling_vgg_is_vgg19():
    backbone, _ = build_backbone(model_config(mtype="pooling"), {})
    kinds = [type(layer).__name__ for layer in backbone][: 2 * 10 + 3]
    conv, pool = ["Conv2d", "ReLU"], ["MaxPool2d"]
    assert kinds == conv * 2 + pool + conv * 2 + pool + conv * 4 + pool + conv * 2
    assert all(layer.bias is not None for layer in backbone if isinstance(layer, nn.Conv2d))


@pytest.mark.parametrize("architecture", ["lightweight_openpose", "movenet"])
@pytest.mark.parametrize("width", [0.1, 0.33, 0.5, 1.0, 1.25])
def test_channels_are_multiples_of_eight(architecture: str, width: float):
    backbone, _ = build_backbone(model_config(architecture=architecture, width=width), {})
    convs = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]
    assert all(conv.out_channels % 8 == 0 for conv in convs)


@pytest.mark.parametrize(("factor", "size"), [(2, (5, 8)), (2, (6, 7)), (4, (9, 10)), (4, (1, 3))])
def test_upsampling_keeps_the_position_of_cells(factor: int, size: tuple[int, int]):
    """Cells beyond the finer features are cropped."""
    coarse = torch.rand(2, 3, *(-(-side // factor) for side in size))
    found = UpsampleLike(factor)(coarse, torch.zeros(1, 1, *size))
    whole = functional.interpolate(coarse, scale_factor=float(factor), mode="bilinear")
    torch.testing.assert_close(found, whole[:, :, : size[0], : size[1]], rtol=0, atol=0)


def test_movenet_uses_the_last_cell_of_odd_sizes():
    """A change in the last cell of any size reaches the last features of every stride."""
    torch.manual_seed(0)
    backbone, _ = build_backbone(model_config(architecture="movenet", width=0.25), {})
    pyramid = backbone.eval().pyramid
    with torch.inference_mode():
        for size in ((72, 104), (80, 88), (96, 72)):
            images = torch.rand(1, 3, *size)
            changed = images.clone()
            changed[..., -8:, -8:] = 5 * torch.randn(1, 3, 8, 8)
            before, after = pyramid.stride8(images), pyramid.stride8(changed)
            for part in (pyramid.stride16, pyramid.deep16, pyramid.stride32):
                before, after = part(before), part(after)
                assert (before != after)[..., -1, -1].any()


def test_out_channels_change_layers_and_those_after_them():
    out_channels = {"block_1b_conv_1": 40, "channel_reduction_conv": 24}
    backbone, channels = build_backbone(model_config(), out_channels)
    layers = dict(backbone.named_children())
    assert layers["block_1b_bn_1"].num_features == layers["block_2a_conv_1"].in_channels == 40
    assert channels == 24
    assert backbone.eval()(torch.zeros(1, 3, 16, 16)).shape == (1, 24, 2, 2)
