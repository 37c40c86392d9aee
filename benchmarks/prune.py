"""Speedup of vgg pruned to 30 % of its multiply-accumulates.

python -m benchmarks.prune [--quick] [--json FILE]

Random weights; ONNX Runtime, float32, all cores, from uint8 images of 320 x 448 to maps; the
original and the pruned network are timed alternately.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bodyposenet.exporting.onnx import export_onnx
from bodyposenet.inference.engines.base import Engine
from bodyposenet.inference.models import open_engine
from bodyposenet.model.checkpoint import model_header
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.pruning.cost import compute_cost
from bodyposenet.pruning.dependency_graph import prune_channels
from bodyposenet.pruning.target_macs import find_threshold
from bodyposenet.pruning.threshold_rule import PruningOptions, rank_filters
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.network import ModelConfig
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton

from . import harness

_SIZE = (320, 448)
_SHARE = 0.3
_GRANULARITY = 16
"""Channels that ONNX Runtime's AVX-512 kernels process together."""


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Prune, export both networks, and time them."""
    torch.manual_seed(0)
    spec = ModelConfig(kernel_initializer="xavier")
    network = BodyPoseNetwork(load_skeleton(DEFAULT_POSE_CONFIGURATION), spec).eval()
    start = time.perf_counter()
    ranking = rank_filters(network, PruningOptions(granularity=_GRANULARITY))
    threshold = find_threshold(network, ranking, _SHARE)
    pruned = prune_channels(network, ranking.kept(threshold))
    search = time.perf_counter() - start
    cost, pruned_cost = compute_cost(network), compute_cost(pruned)
    images = np.random.default_rng(0).integers(0, 256, (1, *_SIZE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        engines = {
            name: _engine(Path(folder) / f"{name}.onnx", model)
            for name, model in (("whole", network), ("pruned", pruned))
        }
    seconds = harness.time_alternately(
        {name: lambda engine=engine: engine.infer(images) for name, engine in engines.items()},
        5 if arguments.quick else 21,
    )
    return {
        "macs_share": pruned_cost.macs / cost.macs,
        "time_share": seconds["pruned"] / seconds["whole"],
        "parameters_share": pruned_cost.parameters / cost.parameters,
        "whole_ms": 1e3 * seconds["whole"],
        "pruned_ms": 1e3 * seconds["pruned"],
        "search_s": search,
    }


def _engine(path: Path, network: BodyPoseNetwork) -> Engine:
    path.write_bytes(export_onnx(network, model_header(network)))
    return open_engine(InferenceSpec(), str(path), "", "onnx")


if __name__ == "__main__":
    harness.run("prune", harness.parser("prune", __doc__), measure)
