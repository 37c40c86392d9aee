"""Models in the file format of TAO 5, and a reference computation of their maps.

The files have the layout of `keras.models.Model.save` (Keras 2). The network is TAO's (TAO
reference, section 7.1), with few channels, as in a pruned model. Its maps are computed from the
variables by TensorFlow's rules, without any code of the package.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Variables = dict[str, np.ndarray]
"""`<layer>/<variable>:0` -> value; kernels are (rows, columns, in, out)."""

BLOCKS = ("1a", "1b", "2a", "2b", "3a", "3b", "3c", "3d", "4a", "4b", "6a")
STRIDED = ("2a", "3a", "4a")
HEATMAPS, PAFS = 19, 38


def make_model(
    stages: int = 2, *, separate: bool = False, use_bias: bool = False, seed: int = 0
) -> Variables:
    """Return a model with random weights and different numbers of channels.

    Args:
        stages: Number of stages.
        separate: Whether the branches of a stage share no layers (BpNetModel).
        use_bias: Whether the backbone has biases in addition to batch normalization.
        seed: Seed of the weights.
    """
    random = np.random.default_rng(seed)
    variables: Variables = {}

    def number(*shape: int, mean: float = 0.0, spread: float = 0.3) -> np.ndarray:
        return (mean + spread * random.standard_normal(shape)).astype(np.float32)

    def conv(name: str, inputs: int, outputs: int, size: int, bias: bool = True) -> int:
        deviation = (2 / (inputs * size * size)) ** 0.5
        variables[f"{name}/kernel:0"] = number(size, size, inputs, outputs, spread=deviation)
        if bias:
            variables[f"{name}/bias:0"] = number(outputs, spread=0.1)
        return outputs

    channels = 3
    for place, block in enumerate(BLOCKS):
        channels = conv(f"block_{block}_conv_1", channels, 8 + place % 3 * 8, 3, use_bias)
        norm = f"block_{block}_bn_1"
        variables[f"{norm}/gamma:0"] = number(channels, mean=1.0)
        variables[f"{norm}/beta:0"] = number(channels)
        variables[f"{norm}/moving_mean:0"] = number(channels)
        variables[f"{norm}/moving_variance:0"] = number(channels) ** 2 + 0.5
    features = conv("channel_reduction_conv", channels, 16, 3)
    for stage in range(1, stages + 1):
        size, count = (3, 3) if stage == 1 else (7, 5)
        inputs = features if stage == 1 else features + HEATMAPS + PAFS
        for kind, (branch, final, maps) in BRANCHES.items():
            row = f"stage{stage}/{branch}" if separate else f"stage{stage}"
            channels = inputs
            for layer in range(1, count + 1):
                channels = conv(f"{row}/conv{layer}", channels, 8 * (1 + layer % 2), size)
            head = row if separate else f"stage{stage}/{kind}"
            channels = conv(f"{head}/conv{count + 1}", channels, 24, 1)
            is_last = stage == stages > 1
            conv(final if is_last else f"stage{stage}/{branch}/out", channels, maps, 1)
    return variables


BRANCHES = {
    "paf": ("paf_branch", "paf_out", PAFS),
    "cmap": ("heat_branch", "heatmap_out", HEATMAPS),
}


def write_model(path: Path, variables: Variables, *, nested: bool = False) -> Path:
    """Write a model file.

    Args:
        path: The file.
        variables: Variables of the model.
        nested: Whether all layers lie in one layer `model_1`, as after a training with load_graph.
    """
    layers = list(dict.fromkeys(name.rpartition("/")[0] for name in variables))
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = "2.2.4", "tensorflow"
        file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": {}}).encode()
        weights = file.create_group("model_weights")
        groups = ["model_1"] if nested else layers
        weights.attrs["layer_names"] = [name.encode() for name in ("input_1", *groups)]
        weights.create_group("input_1").attrs["weight_names"] = np.zeros(0)
        for group in groups:
            names = [name for name in variables if nested or name.rpartition("/")[0] == group]
            inside = weights.create_group(group)
            inside.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                inside[name] = variables[name]
        state = file.create_group("optimizer_weights/training")
        state["block_1a_conv_1/kernel/Momentum:0"] = np.zeros((3, 3, 3, 8), np.float32)
    return path


def run_model(variables: Variables, pixels: np.ndarray) -> list[tuple[Tensor, Tensor]]:
    """Compute the heatmaps and PAFs of every stage, (N, h, w, maps).

    Args:
        variables: Variables of the model.
        pixels: (N, H, W, 3) RGB, H and W multiples of 8.
    """
    values = {name: torch.from_numpy(value) for name, value in variables.items()}

    def conv(name: str, inputs: Tensor, stride: int = 1) -> Tensor:
        kernel = values[f"{name}/kernel:0"].permute(3, 2, 0, 1)
        size = kernel.shape[-1]
        # "same" padding; if it is odd, there is one more after than before.
        total = max((inputs.shape[-1] // stride - 1) * stride + size - inputs.shape[-1], 0)
        before, after = total // 2, total - total // 2
        padded = functional.pad(inputs, (before, after, before, after))
        return functional.conv2d(padded, kernel, values.get(f"{name}/bias:0"), stride)

    def norm(name: str, inputs: Tensor) -> Tensor:
        gamma, beta, mean, variance = (
            values[f"{name}/{part}:0"].view(1, -1, 1, 1)
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (inputs - mean) / torch.sqrt(variance + 1e-3) + beta

    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 256 - 0.5
    for block in BLOCKS:
        x = conv(f"block_{block}_conv_1", x, 2 if block in STRIDED else 1)
        x = norm(f"block_{block}_bn_1", x).relu()
    features = inputs = conv("channel_reduction_conv", x).relu()
    separate = "stage1/paf_branch/conv1/kernel:0" in values
    stages = []
    for stage in range(1, 7):
        count = 3 if stage == 1 else 5
        if not any(name.startswith(f"stage{stage}/") for name in values):
            break
        maps = {}
        for kind, (branch, final, _) in BRANCHES.items():
            row = f"stage{stage}/{branch}" if separate else f"stage{stage}"
            y = inputs
            for layer in range(1, count + 1):
                y = conv(f"{row}/conv{layer}", y).relu()
            head = row if separate else f"stage{stage}/{kind}"
            y = conv(f"{head}/conv{count + 1}", y).relu()
            out = f"stage{stage}/{branch}/out"
            maps[kind] = conv(out if f"{out}/kernel:0" in values else final, y)
        stages.append((maps["cmap"].permute(0, 2, 3, 1), maps["paf"].permute(0, 2, 3, 1)))
        inputs = torch.cat([features, maps["cmap"], maps["paf"]], dim=1)
    return stages
