"""Lightweight OpenPose with 1/8 of the channels, with the topology and names of its public code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CHANNELS, HIDDEN, HEAT, PAF = 16, 64, 19, 38
BLOCKS = (
    (8, 1, 1), (16, 2, 1), (16, 1, 1), (32, 2, 1), (32, 1, 1), (64, 1, 1),
    (64, 1, 2), (64, 1, 1), (64, 1, 1), (64, 1, 1), (64, 1, 1),
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """A convolution of the network and its activation."""

    name: str
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    depthwise: bool = False
    activation: str = "relu"

    @property
    def padding(self) -> int:
        return self.dilation * (self.kernel // 2)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.outputs, 1 if self.depthwise else self.inputs, self.kernel, self.kernel)


def forward(apply: Callable, add: Callable, concatenate: Callable, image, is_intel: bool = True):
    """Apply the layers of the network to an image.

    Args:
        apply: Function that applies a `Layer` to a value.
        add: Function that adds two values.
        concatenate: Function that concatenates features, heatmaps and PAFs.
        image: Input of the network.
        is_intel: Whether the network is Intel's variant, else Osokin's.

    Returns:
        Heatmaps and PAFs.
    """

    def separable(x, name, inputs, outputs, stride=1, dilation=1, last=3, act="relu"):
        depthwise = Layer(f"{name}.0", inputs, inputs, 3, stride, dilation, True, act)
        return apply(Layer(f"{name}.{last}", inputs, outputs, activation=act), apply(depthwise, x))

    def heads(x, name, hidden):
        return [
            apply(
                Layer(f"{name}.{head}.1.0", hidden, maps, activation="linear"),
                apply(Layer(f"{name}.{head}.0.0", CHANNELS, hidden), x),
            )
            for head, maps in (("heatmaps", HEAT), ("pafs", PAF))
        ]

    x, inputs = apply(Layer("model.0.0", 3, 8, 3, stride=2), image), 8
    for block, (outputs, stride, dilation) in enumerate(BLOCKS, start=1):
        x, inputs = separable(x, f"model.{block}", inputs, outputs, stride, dilation), outputs
    act = "elu" if is_intel else "relu"
    x = align = apply(Layer("cpm.align.0", inputs, CHANNELS, activation=act), x)
    if is_intel:
        x = apply(Layer("cpm.reduce.0", CHANNELS, CHANNELS, activation="elu"), align)
    for block in range(3):
        x = separable(x, f"cpm.trunk.{block}", CHANNELS, CHANNELS, last=2, act="elu")
    features = x = apply(Layer("cpm.conv.0", CHANNELS, CHANNELS, 3), add(align, x))
    for layer in range(3):
        x = apply(Layer(f"initial_stage.trunk.{layer}.0", CHANNELS, CHANNELS, 3), x)
    x = concatenate(features, *heads(x, "initial_stage", HIDDEN))
    inputs = CHANNELS + HEAT + PAF
    for block in range(5):
        name = f"refinement_stages.0.trunk.{block}"
        initial = apply(Layer(f"{name}.initial.0", inputs, CHANNELS), x)
        x = apply(Layer(f"{name}.trunk.0.0", CHANNELS, CHANNELS, 3), initial)
        x = apply(Layer(f"{name}.trunk.1.0", CHANNELS, CHANNELS, 3, dilation=2), x)
        x, inputs = add(initial, x), CHANNELS
    return heads(x, "refinement_stages.0", CHANNELS)


def torch_maps(tensors: dict[str, Tensor], pixels: Tensor) -> list[Tensor]:
    """Compute the heatmaps and PAFs of RGB pixels, with tensors under the published names."""
    acts = {"relu": torch.relu, "elu": functional.elu, "linear": lambda x: x}

    def apply(layer: Layer, x: Tensor) -> Tensor:
        weight, bias = (tensors.get(f"{layer.name}.{part}") for part in ("weight", "bias"))
        groups = layer.inputs if layer.depthwise else 1
        x = functional.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, groups)
        norm = re.sub(r"\d$", lambda place: str(int(place[0]) + 1), layer.name)
        if f"{norm}.running_mean" in tensors:
            parts = ("running_mean", "running_var", "weight", "bias")
            x = functional.batch_norm(x, *(tensors[f"{norm}.{part}"] for part in parts))
        return acts[layer.activation](x)

    def concatenate(*parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1)

    is_intel = "cpm.reduce.0.weight" in tensors
    return forward(apply, torch.add, concatenate, pixels / 256 - 0.5, is_intel)


def random_tensors(is_intel: bool, norms: bool) -> dict[str, Tensor]:
    """Return weights under the published names, with Osokin's batch normalization if `norms`."""
    random, tensors = torch.Generator().manual_seed(1), {}

    def apply(layer: Layer, x: Tensor) -> Tensor:
        fan_in = layer.shape[1] * layer.kernel**2
        tensors[f"{layer.name}.weight"] = torch.randn(layer.shape, generator=random) * (
            (2 / fan_in) ** 0.5
        )
        is_residual = re.fullmatch(r"refinement_stages\.\d\.trunk\.\d\.trunk\.\d\.0", layer.name)
        has_norm = norms and (layer.name.startswith("model.") or is_residual is not None)
        if not (norms and layer.name.startswith(("model.", "cpm.trunk"))):
            tensors[f"{layer.name}.bias"] = torch.randn(layer.outputs, generator=random) * 0.1
        if has_norm:
            norm = re.sub(r"\d$", lambda place: str(int(place[0]) + 1), layer.name)
            for part in ("running_mean", "bias"):
                tensors[f"{norm}.{part}"] = torch.randn(layer.outputs, generator=random) * 0.1
            for part in ("running_var", "weight"):
                tensors[f"{norm}.{part}"] = torch.rand(layer.outputs, generator=random) + 0.5
            tensors[f"{norm}.num_batches_tracked"] = torch.tensor(7)
        return x

    forward(apply, lambda one, other: one, lambda *parts: parts[0], torch.zeros(0), is_intel)
    return tensors
