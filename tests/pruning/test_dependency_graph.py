"""Tests of dependency groups, and of pruned networks, which equal ones with zeroed filters."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from bodyposenet.model.checkpoint import load_model, save_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.pruning.dependency_graph import dependency_groups, prune_channels
from bodyposenet.pruning.threshold_rule import PruningOptions, rank_filters
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig

ARM = Skeleton("arm", ("shoulder", "elbow", "wrist"), ((0, 1), (1, 2)))
CHAIN = Skeleton(
    "chain", tuple(f"joint_{n}" for n in range(23)), tuple((n, n + 1) for n in range(22))
)
OPTIONS = PruningOptions(granularity=2, min_num_filters=2)

NETWORKS = {
    "vgg": {"stages": 3},
    "pooling": {"stages": 2, "backbone_attributes": {"mtype": "pooling"}},
    "attention": {"stages": 3, "use_self_attention": True, "use_bias": False},
    "one stage": {"stages": 1},
    "lightweight": {
        "stages": 2, "backbone_attributes": {"architecture": "lightweight_openpose", "width": 0.125}
    },
    "movenet": {
        "stages": 2, "backbone_attributes": {"architecture": "movenet", "width": 0.125}
    },
    "movenet without norms": {
        "stages": 2,
        "backbone_attributes": {"architecture": "movenet", "width": 0.125, "batch_norm": False},
    },
    "lightweight attention": {
        "stages": 3, "use_self_attention": True,
        "backbone_attributes": {"architecture": "lightweight_openpose", "width": 0.125},
    },
}  # fmt: skip


def make_network(kind: str, skeleton: Skeleton = ARM) -> BodyPoseNetwork:
    """Return a small network whose weights, biases and statistics are all random."""
    torch.manual_seed(0)
    options = {"kernel_initializer": "xavier", **NETWORKS[kind]}
    attributes = BackboneAttributes.model_validate(options.pop("backbone_attributes", {}))
    spec = ModelConfig(backbone_attributes=attributes, **options)
    with torch.device("meta"):
        names = BodyPoseNetwork(skeleton, spec)
    narrow = {}
    if attributes.architecture == "vgg":
        outputs = names.outputs()
        narrow = {name: n // 8 for name, n in names.out_channels().items() if name not in outputs}
    network = BodyPoseNetwork(skeleton, spec, out_channels=narrow)
    for layer in network.layers().values():
        if isinstance(layer, nn.BatchNorm2d):
            for part in layer.state_dict().values():
                if part.is_floating_point():
                    part.uniform_(0.1, 1.5)
            continue
        if layer.bias is not None:
            nn.init.normal_(layer.bias, 0.1, 0.1)
        layer.weight.data.mul_(0.5 + 0.5 * torch.rand(len(layer.weight), 1, 1, 1))
    return network.eval()


@pytest.fixture(scope="module", params=NETWORKS)
def traced(request) -> tuple[BodyPoseNetwork, list[tuple[str, ...]]]:
    """A network of each kind and its dependency groups. Tests must not modify it."""
    network = make_network(request.param)
    return network, dependency_groups(network)


def zero_removed_filters(
    network: BodyPoseNetwork, kept: dict[str, np.ndarray], groups: list[tuple[str, ...]]
) -> None:
    """Set the removed filters to 0, in all layers of their groups."""
    layers = network.layers()
    for group in groups:
        filters = next((kept[name] for name in group if name in kept), None)
        if filters is None:
            continue
        for name in group:
            layer = layers[name]
            removed = np.setdiff1d(np.arange(len(layer.weight)), filters)
            with torch.no_grad():
                layer.weight[removed] = 0
                if layer.bias is not None:
                    layer.bias[removed] = 0


def compute_maps(network: BodyPoseNetwork) -> list[torch.Tensor]:
    images = torch.randint(0, 256, (2, 48, 40, 3), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        maps = network(network.normalize(images.to(torch.uint8)))
    return [*maps.heatmaps, *maps.pafs]


def check_pruning(
    network: BodyPoseNetwork, threshold: float, groups: list[tuple[str, ...]] | None = None
) -> BodyPoseNetwork:
    kept = rank_filters(network, OPTIONS).kept(threshold)
    pruned = prune_channels(network, kept)
    assert sum(pruned.out_channels().values()) < 0.9 * sum(network.out_channels().values())
    zero_removed_filters(network, kept, groups or dependency_groups(network))
    for ours, theirs in zip(compute_maps(pruned), compute_maps(network), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))
    return pruned


def test_pruned_network_equals_one_with_zeroed_filters(traced):
    network, groups = traced
    check_pruning(deepcopy(network), 0.8, groups)


def test_skeleton_with_many_limbs():
    check_pruning(make_network("vgg", CHAIN), 0.8)


@pytest.mark.parametrize("kind", ["attention", "lightweight", "movenet"])
def test_a_pruned_network_can_be_pruned_again(kind):
    once = check_pruning(make_network(kind), 0.8)
    check_pruning(once, 0.85)


@pytest.mark.parametrize("kind", ["attention", "lightweight", "movenet"])
def test_file_keeps_the_out_channels(kind, tmp_path):
    network = make_network(kind)
    pruned = prune_channels(network, rank_filters(network, OPTIONS).kept(0.8))
    save_model(tmp_path / "m.tlt", pruned)
    loaded = load_model(tmp_path / "m.tlt").eval()
    assert loaded.out_channels() == pruned.out_channels()
    for ours, theirs in zip(compute_maps(loaded), compute_maps(pruned), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))


def test_the_network_is_not_modified():
    network = make_network("lightweight").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    prune_channels(network, rank_filters(network, OPTIONS).kept(0.8))
    assert network.training
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_every_layer_is_in_exactly_one_group(traced):
    network, groups = traced
    assert sorted(name for group in groups for name in group) == sorted(network.layers())


def test_sums_products_and_depthwise_convolutions_join_groups():
    groups = {
        name: group
        for group in dependency_groups(make_network("lightweight attention"))
        for name in group
    }
    separable = ("block_3a_conv_1", "block_3a_bn_1", "block_3b_dwconv_1", "block_3b_dwbn_1")
    assert groups["block_3a_conv_1"] == separable
    residual = groups["stage2/block1/conv1"]
    assert residual == ("stage2/block1/conv1", "stage2/block1/conv3", "stage2/block1/bn3")
    assert groups["stage2/cmap/conv6"] == ("stage2/cmap/conv6", "stage2/cmap/attention_conv")
    assert groups["paf_out"] == ("paf_out",)


def test_levels_of_a_feature_pyramid_join_groups():
    groups = {group[0]: group for group in dependency_groups(make_network("movenet without norms"))}
    level = ("fpn_lateral32_conv", "fpn_lateral16_conv", "fpn_fuse16_dwconv")
    assert groups["fpn_lateral32_conv"] == level
    residual = ("block_10_project_conv", "block_11_project_conv", "block_12_project_conv")
    assert groups["block_10_project_conv"] == residual
