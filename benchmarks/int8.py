"""INT8 on CPUs: speedup over float32, and loss of keypoint AP.

python -m benchmarks.int8 [--model FILE --dataset_spec FILE --images DIR] [--threads N] [--quick]
    [--json FILE]

ONNX Runtime, from uint8 images of 320 x 448 to maps. The networks have random weights and are
calibrated on synthetic people. With a model, a dataset spec and a folder of calibration photos, the
model's keypoint AP on the test images is measured in float32 and in INT8 for both targets. A person
counts as preserved if INT8 detects more than half of the keypoints within 2 pixels.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bodyposenet.demo import write_drawn_dataset
from bodyposenet.evaluation.evaluator import DatasetResult, evaluate_dataset, load_test_images
from bodyposenet.exporting.int8.calibration_source import CalibrationSource
from bodyposenet.exporting.int8.quantization import QuantizationOptions, quantize
from bodyposenet.exporting.onnx import export_onnx
from bodyposenet.inference.engines import onnx
from bodyposenet.inference.predictor import Predictor
from bodyposenet.model.checkpoint import model_header, read_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton

from . import harness

_SIZE = (320, 448)
_STAGES = {"vgg": 3, "mobilenet": 2}
"""As in the train specs of the package."""
_TARGETS = {"": QuantizationOptions("cpu"), "_tensorrt": QuantizationOptions("tensorrt")}
"""Suffix of a figure -> quantization."""
_PIXELS = 2.0


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Time the networks, and compare the AP of a model if one is given."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = 2 if arguments.quick else 8
        write_drawn_dataset(folder, train_images=1, test_images=images, size=256, seed=0)
        source = CalibrationSource(folder / "test", None, None, images, 1, _SIZE)
        for architecture in _STAGES:
            header, network = create_random_network(architecture)
            content = export_onnx(network, header)
            turns = (3 if architecture == "vgg" else 7) if arguments.quick else 15
            figures |= _time(architecture, content, source, turns, arguments.threads)
    if None not in (arguments.model, arguments.dataset_spec, arguments.images):
        figures |= _compare_ap(arguments)
    return figures


def create_random_network(architecture: str) -> tuple[dict[str, Any], BodyPoseNetwork]:
    """Create a network of the default skeleton with random weights; also return its header.

    Args:
        architecture: Key of `harness.ARCHITECTURES`.
    """
    torch.manual_seed(0)
    attributes = BackboneAttributes.model_validate(
        {"architecture": harness.ARCHITECTURES[architecture]}
    )
    spec = ModelConfig(
        backbone_attributes=attributes,
        stages=_STAGES[architecture],
        kernel_initializer="xavier",
    )
    network = BodyPoseNetwork(load_skeleton(DEFAULT_POSE_CONFIGURATION), spec)
    return model_header(network), network


def _time(
    architecture: str, content: bytes, source: CalibrationSource, turns: int, threads: int
) -> dict[str, float]:
    images = np.random.default_rng(0).integers(0, 256, (1, *_SIZE, 3), np.uint8)
    files = {"fp32": content, "int8": quantize(content, source, _TARGETS[""])}
    engines = {
        name: onnx.load(name, content=file, threads=threads, device="cpu")
        for name, file in files.items()
    }
    seconds = harness.time_alternately(
        {name: lambda engine=engine: engine.infer(images) for name, engine in engines.items()},
        turns,
    )
    return {
        f"speedup_{architecture}": seconds["fp32"] / seconds["int8"],
        f"fp32_{architecture}_ms": 1e3 * seconds["fp32"],
        f"int8_{architecture}_ms": 1e3 * seconds["int8"],
    }


def _compare_ap(arguments: argparse.Namespace) -> dict[str, float]:
    """Return the AP in float32, the share that INT8 loses, and the share of people preserved."""
    header, network = read_model(arguments.model, arguments.key)
    content = export_onnx(network, header)
    spec = InferenceSpec(input_shape=_SIZE, keep_aspect_ratio_mode="pad_image_input")
    dataset = DatasetSpec.load(arguments.dataset_spec)
    images = load_test_images(dataset, 40 if arguments.quick else arguments.limit)
    count = 20 if arguments.quick else 100
    source = CalibrationSource(arguments.images, None, None, count, 1, _SIZE)

    def evaluate(file: bytes) -> DatasetResult:
        engine = onnx.load("the model", content=file, threads=arguments.threads, device="cpu")
        return evaluate_dataset(Predictor(engine, spec), dataset, images)

    expected = evaluate(content)
    figures = {"ap_fp32": expected.accuracy.ap}
    for suffix, quantization in _TARGETS.items():
        found = evaluate(quantize(content, source, quantization))
        figures |= {
            f"ap_share_lost{suffix}": 1 - found.accuracy.ap / max(expected.accuracy.ap, 1e-9),
            f"poses_within_2px{suffix}": share_preserved(expected, found),
        }
    return figures


def share_preserved(expected: DatasetResult, found: DatasetResult) -> float:
    """Return the share of people detected in float32 that INT8 preserves."""
    people = same = 0
    for entry, other in zip(expected.images, found.images, strict=True):
        first, second = _keypoints(entry), _keypoints(other)
        near = np.linalg.norm(first[:, None] - second[None], axis=3) <= _PIXELS
        best = near.sum(axis=2).max(axis=1, initial=0)
        people += len(first)
        same += int((2 * best > np.isfinite(first[..., 0]).sum(axis=1)).sum())
    return same / max(people, 1)


def _keypoints(entry: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the keypoints of an entry of detections.json, (N, K, 2), NaN for missing joints."""
    people = len(entry["scores"])
    points = np.array(entry["keypoints"], np.float64).reshape(people, -1 if people else 1, 2)
    points[~points.any(axis=2)] = np.nan
    return points


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("int8", __doc__)
    flags.add_argument("--model", type=Path, metavar="FILE", help="a trained model (.tlt)")
    flags.add_argument("--key", default="", help="key of the model, if it is encrypted")
    flags.add_argument(
        "--dataset_spec", metavar="FILE", help="evaluate on the test images of this dataset"
    )
    flags.add_argument("--images", type=Path, metavar="DIR", help="folder of calibration photos")
    flags.add_argument("--limit", type=int, metavar="N", help="only the first N test images")
    flags.add_argument("--threads", type=int, default=1, metavar="N", help="threads; default: 1")
    return flags


if __name__ == "__main__":
    harness.run("int8", _flags(), measure)
