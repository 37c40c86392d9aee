"""The default model at three sizes: keypoint AP and ms of the network, on every engine.

python -m benchmarks.default_model --dataset_spec FILE [--model FILE] [--limit N] [--threads N]
    [--quick] [--json FILE]

Both files of the package on ONNX Runtime, that in INT8 also on OpenVINO, images padded to the size;
with the model that they were exported from, that one on PyTorch as well. The flip test is at the
last size, in INT8. Without a dataset spec nothing is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bodyposenet.evaluation.dataset import evaluate_dataset, load_test_images
from bodyposenet.runtime.default_model import FOLDER, ON_CPU, ON_GPU
from bodyposenet.runtime.engines.protocol import Engine
from bodyposenet.runtime.models import open_engine
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec

from . import harness

_SIZES = ((224, 320), (288, 384), (320, 448))
_RIVALS = {
    "int8": ("onnx", ON_CPU),
    "int8_openvino": ("openvino", ON_CPU),
    "fp16": ("onnx", ON_GPU),
}
"""Name -> engine and file."""
_QUICK_IMAGES = 20


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Evaluate and time every file at every size."""
    if arguments.dataset_spec is None:
        print("nothing to measure: give --dataset_spec")
        return {}
    dataset = DatasetSpec.load(arguments.dataset_spec)
    images = load_test_images(dataset, _QUICK_IMAGES if arguments.quick else arguments.limit)
    files = {name: (engine, str(FOLDER / file)) for name, (engine, file) in _RIVALS.items()}
    if arguments.model is not None:
        files["fp32"] = "pytorch", arguments.model
    engines: dict[str, Engine] = {
        name: open_engine(InferenceSpec(), file, engine=engine, threads=arguments.threads)
        for name, (engine, file) in files.items()
    }

    def ap(engine: Engine, size: tuple[int, int], flip_test: bool = False) -> float:
        spec = InferenceSpec(
            input_shape=size, keep_aspect_ratio_mode="pad_image_input", flip_test=flip_test
        )
        return evaluate_dataset(Predictor(engine, spec), dataset, images).accuracy.ap

    figures: dict[str, float] = {}
    for size in _SIZES:
        name = f"{size[0]}x{size[1]}"
        figures |= {f"{name}_{kind}_ap": ap(engine, size) for kind, engine in engines.items()}
        figures |= _milliseconds(name, engines, size)
    figures["flip_int8_ap"] = ap(engines["int8"], _SIZES[-1], flip_test=True)
    return figures


def _milliseconds(name: str, engines: dict[str, Engine], size: tuple[int, int]) -> dict[str, float]:
    """Of one image, the engines in turn."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    seconds = harness.take_turns(
        {kind: lambda engine=engine: engine.infer(pixels) for kind, engine in engines.items()}, 9
    )
    return {f"{name}_{kind}_ms": 1e3 * taken for kind, taken in seconds.items()}


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("default_model", __doc__)
    flags.add_argument("--dataset_spec", type=Path, metavar="FILE", help="whose test images count")
    flags.add_argument("--model", metavar="FILE", help="the .tlt of the two files")
    flags.add_argument("--limit", type=int, metavar="N", help="only the first N test images")
    flags.add_argument("--threads", type=int, metavar="N", help="of the network; all by default")
    return flags


if __name__ == "__main__":
    harness.run("default_model", _flags(), measure)
