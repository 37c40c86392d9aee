"""Learning rate multipliers of layers (TAO reference, section 9), and Muon."""

import pytest
import torch

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import ModelConfig
from bodyposenet.specs.optimizer import AdamW, Muon, WeightedMomentum
from bodyposenet.training.optimizer import Muon as MuonOptimizer
from bodyposenet.training.optimizer import build_optimizer, orthogonalize, set_learning_rate

SCHEDULE = {"__class_name__": "SoftstartAnnealingLearningRateSchedule"}


@pytest.fixture(scope="module")
def network():
    skeleton = Skeleton("arm", ("shoulder", "elbow", "wrist"), ((0, 1), (1, 2)))
    return BodyPoseNetwork(skeleton, ModelConfig(stages=2))


def momentum(**fields):
    return WeightedMomentum.model_validate(
        {
            "__class_name__": "WeightedMomentumOptimizer",
            "learning_rate_schedule": SCHEDULE,
            **fields,
        }
    )


def rates(network, optimizer):
    set_learning_rate(optimizer, 0.5)
    by_parameter = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    layers = network.layers()
    return {
        f"{name}/{kind}": by_parameter[id(parameter)]
        for name, layer in layers.items()
        for kind, parameter in layer.named_parameters()
        if parameter.requires_grad
    }


def test_stagewise_multipliers_follow_the_reference(network):
    actual = rates(network, build_optimizer(network, momentum(), stagewise=True))
    assert actual["block_1a_conv_1/weight"] == 0.5
    assert actual["block_1a_bn_1/weight"] == actual["block_1a_bn_1/bias"] == 0.5
    assert actual["channel_reduction_conv/bias"] == 1.0
    assert (actual["stage1/conv1/weight"], actual["stage1/conv1/bias"]) == (0.5, 1.0)
    assert (actual["stage2/conv1/weight"], actual["stage2/conv1/bias"]) == (2.0, 4.0)
    assert (actual["paf_out/weight"], actual["paf_out/bias"]) == (2.0, 4.0)


def test_grad_weights_dict_overrides_the_default_and_freezes_layers(network):
    multipliers = {"block_.*": 0.0, "heatmap_out": 3.0}
    spec = momentum(grad_weights_dict=multipliers, weight_default_value=2.0)
    actual = rates(network, build_optimizer(network, spec, stagewise=False))
    assert not [name for name in actual if name.startswith("block_")]
    assert actual["heatmap_out/bias"] == 1.5
    assert actual["paf_out/bias"] == 1.0


def test_a_frozen_layer_can_be_trained_again(network):
    frozen = {"block_.*": 0.0}
    build_optimizer(network, momentum(grad_weights_dict=frozen), stagewise=False)
    actual = rates(network, build_optimizer(network, momentum(), stagewise=False))
    assert actual["block_4b_conv_1/weight"] == 0.5


def test_frozen_batch_normalization_stays_in_evaluation_mode(network):
    multipliers = {"block_.*": 0.0, "stage1/conv1": 0.0}
    build_optimizer(network, momentum(grad_weights_dict=multipliers), stagewise=True)
    network.train()
    layers = network.layers()
    assert not layers["block_1a_bn_1"].training
    assert {name for name in layers if name.startswith("block_")} | {"stage1/conv1"} == (
        network.frozen
    )
    assert network.training and layers["stage1/conv2"].training
    spec = momentum(grad_weights_dict=multipliers, freeze_batch_norm=False)
    build_optimizer(network, spec, stagewise=True)
    assert network.train().layers()["block_1a_bn_1"].training
    assert not network.eval().layers()["block_1a_bn_1"].training


def test_freezing_all_layers_is_an_error(network):
    for fields in ({"grad_weights_dict": {".*": 0.0}}, {"weight_default_value": 0.0}):
        with pytest.raises(BodyPoseNetError, match="grad_weights_dict") as caught:
            build_optimizer(network, momentum(**fields), stagewise=False)
        assert "freeze_batch_norm" in caught.value.remedy


def test_all_layers_frozen_without_freeze_batch_norm_have_rate_0(network):
    spec = momentum(grad_weights_dict={".*": 0.0}, freeze_batch_norm=False)
    assert set(rates(network, build_optimizer(network, spec, stagewise=False)).values()) == {0.0}


def test_a_pattern_that_matches_no_layer_is_an_error(network):
    with pytest.raises(BodyPoseNetError, match="blok_1a") as caught:
        build_optimizer(
            network, momentum(grad_weights_dict={"blok_1a_conv_1": 0.1}), stagewise=False
        )
    assert "block_1a_conv_1" in caught.value.remedy


def test_multiplying_the_rate_equals_multiplying_the_gradient_before_momentum():
    """TAO multiplies gradients: v = m v + c g, w = w - lr v."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([{"params": [weight], "multiplier": 4.0}], lr=0.0, momentum=0.9)
    expected, velocity = 1.0, 0.0
    for gradient in (1.0, -0.5, 2.0):
        set_learning_rate(optimizer, 0.1)
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        velocity = 0.9 * velocity + 4.0 * gradient
        expected -= 0.1 * velocity
        assert weight.item() == pytest.approx(expected)


def test_adamw_decays_kernels_only(network):
    spec = AdamW.model_validate(
        {"__class_name__": "AdamW", "learning_rate_schedule": SCHEDULE, "weight_decay": 0.3}
    )
    optimizer = build_optimizer(network, spec, stagewise=False)
    for group in optimizer.param_groups:
        dimensions = {parameter.ndim for parameter in group["params"]}
        assert dimensions == ({4} if group["weight_decay"] else {1})


def test_muon_updates_the_kernels_of_hidden_layers(network):
    spec = Muon.model_validate({"__class_name__": "Muon", "learning_rate_schedule": SCHEDULE})
    optimizer = build_optimizer(network, spec, stagewise=False)
    stepped = {id(p) for g in optimizer.param_groups if "momentum" in g for p in g["params"]}
    names = {
        f"{name}/{kind}"
        for name, layer in network.layers().items()
        for kind, parameter in layer.named_parameters()
        if id(parameter) in stepped
    }
    assert {"block_1a_conv_1/weight", "stage1/conv1/weight", "stage2/paf/conv6/weight"} <= names
    assert not [name for name in names if "out" in name or "bn" in name or "bias" in name]


@pytest.mark.parametrize("shape", [(16, 16), (8, 72), (72, 8), (1, 9)])
def test_orthogonalize_makes_singular_values_about_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalize(matrix)
    assert result.dtype == torch.float32
    values = (left.T @ result @ right.T).diagonal()
    assert values.min() > 0.6 and values.max() < 1.3
    assert torch.linalg.svdvals(result).max() < 1.3  # nothing in other directions


def test_the_orthogonalized_zero_matrix_is_zero():
    assert not orthogonalize(torch.zeros(3, 5)).any()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_updates_a_kernel_as_torch_updates_its_matrix(layout):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(6, 4, 3, 3, generator=generator)
    kernel = torch.nn.Parameter(start.to(memory_format=layout))
    matrix = torch.nn.Parameter(start.flatten(1).clone())
    group = {"params": [kernel], "momentum": 0.95, "lr": 0.1, "weight_decay": 0.3}
    ours = MuonOptimizer([group], (0.9, 0.999))
    theirs = torch.optim.Muon(
        [matrix], lr=0.1, weight_decay=0.3, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        kernel.grad = torch.randn(6, 4, 3, 3, generator=generator)
        matrix.grad = kernel.grad.flatten(1)
        ours.step()
        theirs.step()
        torch.testing.assert_close(kernel.flatten(1), matrix, rtol=0.02, atol=0.02)


def test_groups_without_momentum_are_updated_by_adamw():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    groups = [
        {"params": [parameter], "lr": 0.1, "weight_decay": 0.0} for parameter in (ours, theirs)
    ]
    optimizers = [
        MuonOptimizer(groups[:1], (0.9, 0.99)),
        torch.optim.AdamW(groups[1:], betas=(0.9, 0.99)),
    ]
    for _ in range(3):
        ours.grad = torch.randn(5)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
