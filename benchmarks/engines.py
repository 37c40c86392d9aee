"""Time per image and AP of one network on PyTorch, ONNX Runtime and OpenVINO.

python -m benchmarks.engines [--model FILE --dataset_spec FILE] [--quick] [--json FILE]

From uint8 images of 320 x 448 to maps, on all cores, in float32 except for names with bf16. The
networks have random weights. With a model and a dataset spec, that model is exported, and its
keypoint AP on the test images is measured on every engine.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from bodyposenet.evaluation.evaluator import evaluate_dataset, load_test_images
from bodyposenet.exporting.onnx import export_onnx
from bodyposenet.inference.engines.base import Engine
from bodyposenet.inference.models import open_engine
from bodyposenet.inference.predictor import Predictor
from bodyposenet.model.checkpoint import read_model, save_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton

from . import harness

_SIZE = (320, 448)
_CASES = {
    "torch": ("pytorch", "fp32"),
    "onnx": ("onnx", "fp32"),
    "openvino": ("openvino", "fp32"),
    "torch_bf16": ("pytorch", "bf16"),
    "openvino_bf16": ("openvino", "bf16"),
}
_EXACT = ("torch", "onnx", "openvino")
"""Engines that must have the same AP."""


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Time the networks, and compare the AP of a model if one is given."""
    turns = 3 if arguments.quick else 11
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for architecture in ("vgg",) if arguments.quick else ("vgg", "mobilenet"):
            model = _save_random_model(folder / f"{architecture}.tlt", architecture)
            names = _EXACT if arguments.quick else _CASES
            seconds = _time(_engines(model, names), turns)
            suffix = "" if architecture == "vgg" else f"_{architecture}"
            figures[f"ort_over_torch{suffix}"] = seconds["torch"] / seconds["onnx"]
            figures |= {f"{name}_ms{suffix}": 1e3 * taken for name, taken in seconds.items()}
        if arguments.model is not None and arguments.dataset_spec is not None:
            figures |= _compare_ap(arguments, folder)
    return figures


def _save_random_model(path: Path, architecture: str) -> Path:
    """Save a network of the default skeleton with random weights."""
    torch.manual_seed(0)
    attributes = BackboneAttributes.model_validate(
        {"architecture": harness.ARCHITECTURES[architecture]}
    )
    stages = 3 if architecture == "vgg" else 2  # as in the train specs of the package
    spec = ModelConfig(backbone_attributes=attributes, stages=stages, kernel_initializer="xavier")
    save_model(path, BodyPoseNetwork(load_skeleton(DEFAULT_POSE_CONFIGURATION), spec))
    return path


def _engines(model: Path, names: Iterable[str], key: str = "") -> dict[str, Engine]:
    """Open the model on every installed engine; its ONNX file is written beside it."""
    header, network = read_model(model, key)
    exported = model.with_suffix(".onnx")
    exported.write_bytes(export_onnx(network, header))
    engines = {}
    for name in names:
        engine, precision = _CASES[name]
        if engine == "openvino" and find_spec("openvino") is None:
            print("Skipped: openvino is not installed.")
            continue
        path = model if engine == "pytorch" else exported
        spec = InferenceSpec()
        engines[name] = open_engine(spec, str(path), key, engine, precision=precision)
    return engines


def _time(engines: dict[str, Engine], turns: int) -> dict[str, float]:
    images = np.random.default_rng(0).integers(0, 256, (1, *_SIZE, 3), np.uint8)
    return harness.time_alternately(
        {name: lambda engine=engine: engine.infer(images) for name, engine in engines.items()},
        turns,
    )


def _compare_ap(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Return the AP on every engine, and the largest difference between those in float32."""
    dataset = DatasetSpec.load(arguments.dataset_spec)
    images = load_test_images(dataset, 50 if arguments.quick else arguments.limit)
    spec = InferenceSpec()
    if arguments.inference_spec is not None:
        spec = InferenceSpec.load(arguments.inference_spec)
    model = folder / "given.tlt"
    model.write_bytes(arguments.model.read_bytes())
    ap = {
        name: evaluate_dataset(Predictor(engine, spec), dataset, images).accuracy.ap
        for name, engine in _engines(model, _CASES, arguments.key).items()
    }
    exact = [ap[name] for name in _EXACT if name in ap]
    figures = {f"{name}_ap": value for name, value in ap.items()}
    return {"max_ap_difference": max(exact) - min(exact)} | figures


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("engines", __doc__)
    flags.add_argument("--model", type=Path, metavar="FILE", help="a trained model (.tlt)")
    flags.add_argument("--key", default="", help="key of the model, if it is encrypted")
    flags.add_argument(
        "--dataset_spec", metavar="FILE", help="evaluate on the test images of this dataset"
    )
    flags.add_argument("--inference_spec", metavar="FILE", help="inference spec of the evaluation")
    flags.add_argument("--limit", type=int, metavar="N", help="only the first N test images")
    return flags


if __name__ == "__main__":
    harness.run("engines", _flags(), measure)
