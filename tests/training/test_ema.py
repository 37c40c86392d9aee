"""ExponentialMovingAverage: the formula of the average."""

import torch

from bodyposenet.model.checkpoint import named_tensors
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.training.ema import ExponentialMovingAverage

ARM = Skeleton("arm", ("shoulder", "elbow", "wrist"), ((0, 1), (1, 2)))
TINY = ModelConfig(
    backbone_attributes=BackboneAttributes(architecture="lightweight_openpose", width=0.125),
    stages=1,
)


def test_ema_follows_its_formula():
    network = BodyPoseNetwork(ARM, TINY)
    average = ExponentialMovingAverage(network, 0.5)
    name = "block_1a_conv_1.weight"
    before = named_tensors(network)[name].clone()
    named_tensors(network)[name].add_(1)
    average.update(0)  # a decay of 1/10 in the first step
    assert torch.allclose(named_tensors(average.network)[name], before + 0.9)
    average.update(1000)  # the decay itself in later steps
    assert torch.allclose(named_tensors(average.network)[name], before + 0.95)
