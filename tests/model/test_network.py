"""Tests of the network: TAO's parameter counts and names, inputs of any size, initial weights."""

import pytest
import torch
from torch import nn

from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import load_skeleton

BODY = load_skeleton("bpnet_18joints.json")
TOY = Skeleton("toy", ("head", "left_hand", "right_hand"), ((0, 1), (0, 2)))
LIGHTWEIGHT = BackboneAttributes(architecture="lightweight_openpose", width=0.25)
MOVENET = BackboneAttributes(architecture="movenet", width=0.25)


def count_parameters(network: nn.Module) -> int:
    """Count parameters as Keras does, which includes the statistics of batch normalization."""
    statistics = [b for name, b in network.named_buffers() if "running" in name]
    return sum(tensor.numel() for tensor in [*network.parameters(), *statistics])


def count_macs(network: BodyPoseNetwork, size: int) -> int:
    """Count the multiply-accumulates of all convolutions."""
    macs = 0

    def count(layer: nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output.numel() * layer.weight[0].numel()

    convs = [layer for layer in network.layers().values() if isinstance(layer, nn.Conv2d)]
    hooks = [conv.register_forward_hook(count) for conv in convs]
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return macs


@pytest.mark.parametrize(
    ("stages", "parameters", "convolutions"),
    [
        (1, 7_952_633, 19),
        (2, 12_365_234, 28),
        (3, 16_777_835, 37),
        (4, 21_190_436, 46),
        (6, 30_015_638, 64),
    ],
)
def test_vgg_has_the_parameters_of_tao(stages: int, parameters: int, convolutions: int):
    with torch.device("meta"):
        network = BodyPoseNetwork(BODY, ModelConfig(stages=stages))
    layers = network.layers().values()
    assert count_parameters(network) == parameters
    assert sum(isinstance(layer, nn.Conv2d) for layer in layers) == convolutions


@pytest.mark.parametrize(
    ("stages", "parameters", "convolutions"), [(3, 25_965_035, 50), (6, 52_319_510, 92)]
)
def test_network_with_separate_branches_has_the_parameters_of_tao(
    stages: int, parameters: int, convolutions: int
):
    spec = ModelConfig.model_validate({"__class_name__": "BpNetModel", "stages": stages})
    with torch.device("meta"):
        network = BodyPoseNetwork(BODY, spec)
    assert count_parameters(network) == parameters
    assert len(network.out_channels()) == convolutions
    assert {"stage1/paf_branch/conv1", "stage2/heat_branch/conv6", "paf_out"} < set(
        network.out_channels()
    )


def test_attention_adds_parameters_to_the_refinement_stages():
    with torch.device("meta"):
        plain, attention = (
            BodyPoseNetwork(BODY, ModelConfig(use_self_attention=use)) for use in (False, True)
        )
    assert count_parameters(attention) - count_parameters(plain) == 2 * 295_168
    names = attention.layers().keys() - plain.layers().keys()
    assert names == {f"stage{t}/{kind}/attention_conv" for t in (2, 3) for kind in ("paf", "cmap")}


def test_lightweight_openpose_cost():
    attributes = BackboneAttributes(architecture="lightweight_openpose")
    network = BodyPoseNetwork(BODY, ModelConfig(stages=2, backbone_attributes=attributes))
    assert 3.5e6 < count_parameters(network) < 4.5e6
    assert count_macs(network, 256) <= 5e9


def test_movenet_cost():
    attributes = BackboneAttributes(architecture="movenet", batch_norm=False)
    network = BodyPoseNetwork(BODY, ModelConfig(stages=2, backbone_attributes=attributes))
    assert 4.5e6 < count_parameters(network) < 5.5e6
    assert count_macs(network, 256) <= 1.25e9


@pytest.mark.parametrize("batch_norm", [True, False])
def test_layer_names_of_movenet_are_unique(batch_norm: bool):
    attributes = BackboneAttributes(architecture="movenet", width=0.125, batch_norm=batch_norm)
    network = BodyPoseNetwork(TOY, ModelConfig(stages=3, backbone_attributes=attributes))
    kinds = nn.Conv2d | nn.BatchNorm2d
    assert len(network.layers()) == sum(isinstance(each, kinds) for each in network.modules())
    assert {"heatmap_out", "paf_out", "stage2/paf_branch/out"} <= network.layers().keys()


def test_layers_have_taos_names():
    names = list(BodyPoseNetwork(TOY, ModelConfig(stages=2)).layers())
    assert names[:4] == ["block_1a_conv_1", "block_1a_bn_1", "block_1b_conv_1", "block_1b_bn_1"]
    heads = names[names.index("channel_reduction_conv") :]
    assert heads == [
        "channel_reduction_conv",
        "stage1/conv1", "stage1/conv2", "stage1/conv3",
        "stage1/cmap/conv4", "stage1/heat_branch/out",
        "stage1/paf/conv4", "stage1/paf_branch/out",
        "stage2/conv1", "stage2/conv2", "stage2/conv3", "stage2/conv4", "stage2/conv5",
        "stage2/cmap/conv6", "heatmap_out",
        "stage2/paf/conv6", "paf_out",
    ]  # fmt: skip
    assert "paf_out" not in BodyPoseNetwork(TOY, ModelConfig(stages=1)).layers()


def test_kernel_sizes_come_from_the_spec():
    spec = ModelConfig(stages=2, stage1_kernel_sizes=(5, 3), stageT_kernel_sizes=(1, 3, 5))
    layers = BodyPoseNetwork(TOY, spec).layers()
    assert layers["stage1/conv1"].kernel_size == (5, 5)
    assert "stage1/paf/conv3" in layers
    assert layers["stage2/conv3"].kernel_size == (5, 5)


def test_use_bias_of_the_model_applies_to_the_heads():
    for bias in (False, True):
        layers = BodyPoseNetwork(TOY, ModelConfig(stages=2, use_bias=bias)).layers()
        heads = [n for n in layers if not n.startswith("block_")]
        assert {layers[name].bias is not None for name in heads} == {bias}
        assert layers["block_1a_conv_1"].bias is None


@pytest.mark.parametrize("stages", range(1, 7))
@pytest.mark.parametrize("skeleton", [TOY, BODY], ids=["toy", "body"])
def test_every_stage_predicts_heatmaps_and_pafs(stages: int, skeleton: Skeleton):
    spec = ModelConfig(stages=stages, backbone_attributes=LIGHTWEIGHT)
    network = BodyPoseNetwork(skeleton, spec).eval()
    maps = network(torch.zeros(2, 3, 16, 24))
    assert network.stages == len(maps.heatmaps) == len(maps.pafs) == stages
    assert {m.shape for m in maps.heatmaps} == {(2, skeleton.heatmap_channels, 2, 3)}
    assert {m.shape for m in maps.pafs} == {(2, skeleton.paf_channels, 2, 3)}


@pytest.mark.parametrize(
    "attributes",
    [BackboneAttributes(), LIGHTWEIGHT, MOVENET],
    ids=["vgg", "lightweight", "movenet"],
)
def test_trains_in_bfloat16(attributes: BackboneAttributes):
    network = BodyPoseNetwork(TOY, ModelConfig(stages=2, backbone_attributes=attributes))
    # On maps of 2 x 2 cells, torch 2.13's bfloat16 gradient of a 7 x 7 convolution is sometimes NaN
    # on a CPU; from 3 x 3 cells on, it is correct.
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        maps = network(network.normalize(pixels))
    sum(output.float().square().sum() for output in maps.heatmaps + maps.pafs).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    "attributes", [LIGHTWEIGHT, MOVENET, BackboneAttributes(mtype="pooling", use_bias=True)]
)
def test_other_networks_predict_background_initially(attributes: BackboneAttributes):
    torch.manual_seed(0)
    network = BodyPoseNetwork(TOY, ModelConfig(stages=2, backbone_attributes=attributes))
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        maps = network(network.normalize(pixels))
    for heatmaps, pafs in zip(maps.heatmaps, maps.pafs, strict=True):
        assert heatmaps[:, -1].sub(1).abs().mean() < 0.2
        assert heatmaps[:, :-1].abs().mean() < 0.2
        assert pafs.abs().mean() < 0.2


@pytest.mark.parametrize("attributes", [LIGHTWEIGHT, MOVENET], ids=["lightweight", "movenet"])
def test_other_networks_learn_from_the_first_steps(attributes: BackboneAttributes):
    torch.manual_seed(0)
    network = BodyPoseNetwork(TOY, ModelConfig(stages=2, backbone_attributes=attributes))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    heat, paf = torch.rand(4, 4, 4, 4), torch.rand(4, 4, 4, 4)
    losses = []
    for _ in range(40):
        maps = network(network.normalize(pixels))
        loss = sum((h - heat).square().mean() for h in maps.heatmaps)
        loss = loss + sum((p - paf).square().mean() for p in maps.pafs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_images_are_normalized_and_padded_with_gray():
    normalization = Normalization((255.0, 128.0, 256.0), (0.0, 1.0, 0.5))
    network = BodyPoseNetwork(
        TOY, ModelConfig(stages=1, backbone_attributes=LIGHTWEIGHT), normalization
    )
    images = torch.randint(0, 256, (2, 10, 19, 3), dtype=torch.uint8)
    inputs = network.normalize(images)
    assert inputs.shape == (2, 3, 16, 24)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    scale, offset = torch.tensor([255.0, 128, 256]), torch.tensor([0.0, 1, 0.5])
    expected = torch.full((2, 16, 24, 3), 128.0)
    expected[:, :10, :19] = images.float()
    torch.testing.assert_close(inputs.permute(0, 2, 3, 1), expected / scale - offset)


def test_gray_is_zero_with_the_default_normalization():
    network = BodyPoseNetwork(TOY, ModelConfig(stages=1, backbone_attributes=LIGHTWEIGHT))
    inputs = network.normalize(torch.full((1, 8, 8, 3), 128, dtype=torch.uint8))
    assert not inputs.any()


def test_vgg_is_initialized_like_tao():
    torch.manual_seed(0)
    layers = BodyPoseNetwork(BODY, ModelConfig(stages=2)).layers()
    assert layers["stage2/conv1"].weight.std().item() == pytest.approx(0.01, rel=0.01)
    glorot = (6 / (9 * (512 + 512))) ** 0.5
    assert layers["block_4b_conv_1"].weight.abs().max().item() == pytest.approx(glorot, rel=0.01)
    assert not any(layer.bias.any() for n, layer in layers.items() if n.startswith("stage"))
    layers = BodyPoseNetwork(BODY, ModelConfig(stages=2, kernel_initializer="xavier")).layers()
    glorot = (6 / (49 * (185 + 128))) ** 0.5
    assert layers["stage2/conv1"].weight.abs().max().item() == pytest.approx(glorot, rel=0.01)


def test_vgg_with_pooling_has_he_initialization():
    torch.manual_seed(0)
    pooling = BackboneAttributes(mtype="pooling", use_bias=True)
    layers = BodyPoseNetwork(BODY, ModelConfig(stages=2, backbone_attributes=pooling)).layers()
    for name in ("block_4a_conv_1", "stage1/conv2", "stage2/conv3"):
        weight = layers[name].weight
        he = (2 / weight[0].numel()) ** 0.5
        assert weight.std().item() == pytest.approx(he, rel=0.02)


@pytest.mark.parametrize(
    "attributes",
    [BackboneAttributes(), LIGHTWEIGHT, MOVENET],
    ids=["vgg", "lightweight", "movenet"],
)
def test_pruned_network_is_built_from_its_out_channels(attributes: BackboneAttributes):
    spec = ModelConfig(stages=3, backbone_attributes=attributes)
    out_channels = {"channel_reduction_conv": 24, "stage1/paf/conv4": 40, "stage2/cmap/conv6": 8}
    if attributes is LIGHTWEIGHT:
        out_channels |= {"context_c_conv_1": 24}  # terms of a sum have equal channels
    if attributes is MOVENET:
        out_channels |= {f"stage1/conv{layer}": 24 for layer in (1, 2, 3)}
        out_channels |= {"stage2/cmap/conv5": 8}
    layers = (network := BodyPoseNetwork(TOY, spec, out_channels=out_channels)).layers()
    assert layers["stage1/paf_branch/out"].in_channels == 40
    assert layers["stage2/heat_branch/out"].in_channels == 8
    assert network.eval()(torch.zeros(1, 3, 16, 16)).pafs[-1].shape == (1, 4, 2, 2)


@pytest.mark.parametrize("size", [8, 16])
def test_maps_do_not_depend_on_the_other_images_of_a_batch(size: int):
    network = BodyPoseNetwork(TOY, ModelConfig(stages=2, backbone_attributes=LIGHTWEIGHT)).eval()
    images = torch.rand(3, 3, size, size)
    with torch.inference_mode():
        batch, alone = network(images), network(images[1:2])
    torch.testing.assert_close(batch.heatmaps[-1][1:2], alone.heatmaps[-1])
