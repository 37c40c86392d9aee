"""Keypoint AP and network time of the default model, at several sizes and on every engine.

python -m benchmarks.default_model --dataset_spec FILE [--model FILE] [--rotate DEG ...]
    [--limit N] [--threads N] [--quick] [--json FILE]

Both files of the package are measured on ONNX Runtime, the INT8 file also on OpenVINO, with images
padded to three sizes and at 368 with `adjust_network_input`. --model adds the model from which they
were exported, on PyTorch. Presets, options of the inference spec and --rotate are measured with
INT8 on ONNX Runtime, options and --rotate at 368 adjusted; the time of a preset is that of a whole
photo, decoding included. --rotate rotates images and annotations counterclockwise, and evaluates
with and without `rotation_test`. Without a dataset spec nothing is measured.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np

from bodyposenet.evaluation.evaluator import evaluate_dataset, load_test_images
from bodyposenet.inference.engines.base import Engine
from bodyposenet.inference.models import (
    DEFAULT_MODEL_FOLDER,
    FLOAT16_FILE,
    INT8_FILE,
    PRESETS,
    open_engine,
)
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import read_image
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec

from . import harness
from .rotated import ANGLES, evaluate_rotated

_ADJUSTED = InferenceSpec(input_shape=(368, 368), keep_aspect_ratio_mode="adjust_network_input")
_SPECS = {
    f"{height}x{width}": InferenceSpec(
        input_shape=(height, width), keep_aspect_ratio_mode="pad_image_input"
    )
    for height, width in ((224, 320), (288, 384), (320, 448))
} | {"368_adjusted": _ADJUSTED}
"""Name of an input size -> inference spec."""
_TIMED_SHAPES = {"368_adjusted": (368, 496)}
"""Network input of a photo of 4:3, in whole cells, where it differs from `input_shape`."""
_OPTIONS = {
    "flip_int8_ap": "flip_test",
    "complete_pose_int8_ap": "complete_pose",
    "rotation_test_int8_ap": "rotation_test",
}
"""Figure -> key of the inference spec that is enabled."""
_CASES = {
    "int8": ("onnx", INT8_FILE),
    "int8_openvino": ("openvino", INT8_FILE),
    "fp16": ("onnx", FLOAT16_FILE),
}
"""Name -> engine and file."""
_QUICK_IMAGES = 20


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Evaluate and time every file at every size."""
    if arguments.dataset_spec is None:
        print("Nothing to measure: give --dataset_spec.")
        return {}
    dataset = DatasetSpec.load(arguments.dataset_spec)
    images = load_test_images(dataset, _QUICK_IMAGES if arguments.quick else arguments.limit)
    files = {
        name: (engine, str(DEFAULT_MODEL_FOLDER / file)) for name, (engine, file) in _CASES.items()
    }
    if arguments.model is not None:
        files["fp32"] = "pytorch", arguments.model
    engines: dict[str, Engine] = {
        name: open_engine(InferenceSpec(), file, engine=engine, threads=arguments.threads)
        for name, (engine, file) in files.items()
    }

    figures: dict[str, float] = {}
    for name, spec in _SPECS.items():
        for kind, engine in engines.items():
            found = evaluate_dataset(Predictor(engine, spec), dataset, images)
            figures[f"{name}_{kind}_ap"] = found.accuracy.ap
        figures |= _milliseconds(name, engines, _TIMED_SHAPES.get(name, spec.input_shape))
    presets = {
        name: Predictor(engines["int8"], InferenceSpec.load(path)) for name, path in PRESETS.items()
    }
    for name, predictor in presets.items():
        figures[f"{name}_preset_ap"] = evaluate_dataset(predictor, dataset, images).accuracy.ap
    first = images[0]
    path = dataset.images_folder("test") / first.file_name
    pixels = read_image(path, (first.height, first.width))
    figures |= {
        f"{name}_preset_ms": 1e3 * seconds
        for name, seconds in harness.time_alternately(
            {name: partial(predictor, pixels) for name, predictor in presets.items()}, 9
        ).items()
    }
    for figure, option in _OPTIONS.items():
        predictor = Predictor(engines["int8"], _ADJUSTED.model_copy(update={option: True}))
        figures[figure] = evaluate_dataset(predictor, dataset, images).accuracy.ap
    for degrees in arguments.rotate:
        for name, rotation_test in (("ap", False), ("rotation_test_ap", True)):
            spec = _ADJUSTED.model_copy(update={"rotation_test": rotation_test})
            found = evaluate_rotated(Predictor(engines["int8"], spec), dataset, images, degrees)
            figures[f"rotate{degrees}_{name}"] = found.ap
    return figures


def _milliseconds(name: str, engines: dict[str, Engine], size: tuple[int, int]) -> dict[str, float]:
    """Return the median milliseconds for one image, timing the engines alternately."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    seconds = harness.time_alternately(
        {kind: lambda engine=engine: engine.infer(pixels) for kind, engine in engines.items()}, 9
    )
    return {f"{name}_{kind}_ms": 1e3 * taken for kind, taken in seconds.items()}


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("default_model", __doc__)
    harness.add_dataset_flags(flags)
    flags.add_argument(
        "--model", metavar="FILE", help="the .tlt from which both files were exported"
    )
    flags.add_argument(
        "--rotate", type=int, nargs="+", choices=ANGLES, default=[], metavar="DEG",
        help="also evaluate on images rotated by 90, 180 or 270 degrees counterclockwise",
    )  # fmt: skip
    return flags


if __name__ == "__main__":
    harness.run("default_model", _flags(), measure)
