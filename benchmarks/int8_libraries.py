"""INT8 quantization by this package, ONNX Runtime and NNCF: AP, preserved poses and time.

python -m benchmarks.int8_libraries [--model FILE --dataset_spec FILE] [--limit N] [--photos N]
    [--only NAME ...] [--files DIR] [--quick] [--json FILE]

All candidates quantize the same ONNX file for CPUs, on the same photos of the dataset's train part,
with the output layers in float. Their files are evaluated on its test part at 368 with
`adjust_network_input`, and timed alternately at 368 x 496, on one thread of ONNX Runtime and of
OpenVINO. A pose counts as preserved as in `benchmarks.int8`, in comparison with the float file on
ONNX Runtime. Without a model, a network with random weights is calibrated on synthetic people and
only timed. Candidates of NNCF are skipped if it is not installed (pip install nncf).
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quant_pre_process,
    quantize_static,
)

from bodyposenet.demo import write_drawn_dataset
from bodyposenet.evaluation.evaluator import DatasetResult, evaluate_dataset, load_test_images
from bodyposenet.exporting.int8.calibration_source import CalibrationSource
from bodyposenet.exporting.int8.cross_layer_equalization import equalize_channels
from bodyposenet.exporting.int8.quantization import QuantizationOptions, quantize
from bodyposenet.exporting.onnx import OnnxExportOptions, export_onnx
from bodyposenet.exporting.photos import fit_photos, sample_photos, select_images, split_photos
from bodyposenet.inference.engines import onnx as onnx_engine
from bodyposenet.inference.engines import openvino as openvino_engine
from bodyposenet.inference.engines.base import Engine
from bodyposenet.inference.engines.exported import INPUT
from bodyposenet.inference.engines.onnx_file import read_header
from bodyposenet.inference.predictor import Predictor
from bodyposenet.model.checkpoint import read_model
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec

from . import harness
from .int8 import create_random_network, share_preserved

nncf: Any = import_module("nncf") if find_spec("nncf") else None

_SIZE = (368, 496)
_SPEC = InferenceSpec(input_shape=(368, 368), keep_aspect_ratio_mode="adjust_network_input")
_TUNING_PHOTOS = 40
"""Number of train photos on which NNCF's accuracy control measures the AP."""
_MAX_DROP = 0.003
"""AP that NNCF's accuracy control may lose."""

_OPERATORS = ["Conv", "Relu", "Add", "MaxPool", "Mul", "Sigmoid"]
_OUTPUTS = ("paf_out", "heatmap_out")
"""Convolutions that all candidates keep in float."""
_SENSITIVE = (
    "block_1a_conv_1",
    "block_1b_dwconv_1",
    "block_1b_conv_1",
    "block_2a_dwconv_1",
    "block_2a_conv_1",
    "stage1/heat_branch/out",
    "stage1/paf_branch/out",
    "stage2/block1/conv1",
)
"""Convolutions of lightweight OpenPose that this package also keeps in float by default."""


@dataclass(frozen=True)
class Inputs:
    """What the candidates quantize, and what they measure ranges on.

    Args:
        content: Content of the float32 ONNX file.
        source: Calibration photos, for `quantize`.
        photos: The same photos, (1, H, W, 3) uint8 each, for the libraries.
        evaluate: Returns the AP of an engine on other photos of the train part.
        folder: Folder for temporary files.
    """

    content: bytes
    source: CalibrationSource
    photos: list[NDArray[np.uint8]]
    evaluate: Callable[[Engine], float]
    folder: Path


class _PhotoReader(CalibrationDataReader):
    """Photos for ONNX Runtime's calibrators, in groups that fit into memory."""

    def __init__(self, photos: list[NDArray[np.uint8]]) -> None:
        self._photos = photos
        self.set_range(0, len(photos))

    def __len__(self) -> int:
        return len(self._photos)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Select the photos that `get_next` returns."""
        self._rest = iter(self._photos[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next photo as the model's input, or None."""
        photo = next(self._rest, None)
        return None if photo is None else {INPUT: photo}


def _bodyposenet(inputs: Inputs, **options: Any) -> bytes:
    """Quantize with this package."""
    return quantize(inputs.content, inputs.source, QuantizationOptions(**options))


def _onnxruntime(
    inputs: Inputs,
    method: CalibrationMethod,
    *,
    activations: QuantType = QuantType.QUInt8,
    excluded: tuple[str, ...] = (),
    is_equalized: bool = False,
    **options: Any,
) -> bytes:
    """Quantize with ONNX Runtime, after its preprocessing."""
    content = equalize_channels(inputs.content) if is_equalized else inputs.content
    prepared, quantized = inputs.folder / "prepared.onnx", inputs.folder / "quantized.onnx"
    quant_pre_process(onnx.load_model_from_string(content), str(prepared), auto_merge=True)
    with redirect_stdout(StringIO()):
        quantize_static(
            prepared,
            quantized,
            _PhotoReader(inputs.photos),
            activation_type=activations,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=method,
            op_types_to_quantize=_OPERATORS,
            nodes_to_exclude=[*_OUTPUTS, *excluded],
            extra_options={"CalibStridedMinMax": 2, **options},
        )
    return quantized.read_bytes()


def _nncf(inputs: Inputs, *, is_openvino: bool = False, **options: Any) -> Any:
    """Quantize with NNCF; the model it returns is one of ONNX or OpenVINO."""
    return nncf.quantize(*_nncf_inputs(inputs, is_openvino), **_nncf_options(inputs, **options))


def _nncf_accuracy_control(inputs: Inputs, *, is_openvino: bool = False) -> Any:
    """Quantize with NNCF, which returns layers to float until the AP is high enough."""

    def evaluate(model: Any, _: object) -> tuple[float, None]:
        if is_openvino:
            engine = _open_compiled(model, inputs)
        else:
            engine = onnx_engine.load("candidate", content=model.SerializeToString(), device="cpu")
        return inputs.evaluate(engine), None

    model, photos = _nncf_inputs(inputs, is_openvino)
    return nncf.quantize_with_accuracy_control(
        model, photos, photos, evaluate,
        max_drop=_MAX_DROP, drop_type=nncf.DropType.ABSOLUTE, **_nncf_options(inputs),
    )  # fmt: skip


def _nncf_inputs(inputs: Inputs, is_openvino: bool) -> tuple[Any, Any]:
    """Return the model and the photos for NNCF."""
    nncf.set_log_level(logging.ERROR)
    if is_openvino:
        return openvino.Core().read_model(inputs.content), nncf.Dataset(inputs.photos)
    photos = nncf.Dataset(inputs.photos, lambda photo: {INPUT: photo})
    return onnx.load_model_from_string(inputs.content), photos


def _nncf_options(inputs: Inputs, preset: str = "MIXED", **options: Any) -> dict[str, Any]:
    """Return the options that all candidates of NNCF share, and further ones."""
    suffixes = ("", "/WithoutBiases")  # in ONNX, in OpenVINO
    names = [name + suffix for name in _OUTPUTS for suffix in suffixes]
    return {
        "preset": nncf.QuantizationPreset[preset],
        "target_device": nncf.TargetDevice.CPU,
        "subset_size": len(inputs.photos),
        "ignored_scope": nncf.IgnoredScope(names=names, validate=False),
        **options,
    }


CANDIDATES: dict[str, Callable[[Inputs], Any]] = {
    "bodyposenet": _bodyposenet,
    "bodyposenet_strict": partial(_bodyposenet, strict=True),
    "ort_minmax": partial(_onnxruntime, method=CalibrationMethod.MinMax),
    "ort_percentile": partial(_onnxruntime, method=CalibrationMethod.Percentile),
    "ort_entropy": partial(_onnxruntime, method=CalibrationMethod.Entropy),
    "ort_equalized": partial(_onnxruntime, method=CalibrationMethod.Percentile, is_equalized=True),
    "ort_sensitive": partial(
        _onnxruntime, method=CalibrationMethod.Percentile, excluded=_SENSITIVE
    ),
    "ort_s8s8": partial(
        _onnxruntime,
        method=CalibrationMethod.Percentile,
        activations=QuantType.QInt8,
        ActivationSymmetric=True,
    ),
    "nncf_performance": partial(_nncf, preset="PERFORMANCE"),
    "nncf_mixed": _nncf,
    "nncf_bias_correction": partial(_nncf, fast_bias_correction=False),
    "nncf_accuracy_control": _nncf_accuracy_control,
    "nncf_openvino": partial(_nncf, is_openvino=True),
    "nncf_openvino_accuracy_control": partial(_nncf_accuracy_control, is_openvino=True),
}
"""Name -> function that returns the content of an ONNX file, or a model of ONNX or OpenVINO."""

_QUICK = ["bodyposenet", "ort_minmax"]


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Quantize, evaluate and time the candidates."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        inputs = _load_inputs(arguments, Path(name))
        dataset = arguments.dataset_spec and DatasetSpec.load(arguments.dataset_spec)
        images = load_test_images(dataset, arguments.limit) if dataset else []
        engines: dict[str, Engine] = {}
        expected: DatasetResult | None = None
        only = _QUICK if arguments.quick else arguments.only or list(CANDIDATES)
        for candidate, file in _files(inputs, only, arguments.files or inputs.folder):
            for runtime, engine in _open(file, inputs).items():
                engines[f"{candidate}_{runtime}"] = engine
                if not images:
                    continue
                found = evaluate_dataset(Predictor(engine, _SPEC), dataset, images)
                expected = expected or found
                figures[f"{candidate}_{runtime}_ap"] = found.accuracy.ap
                figures[f"{candidate}_{runtime}_within_2px"] = share_preserved(expected, found)
        return figures | _milliseconds(engines, 3 if arguments.quick else 31)


def _files(inputs: Inputs, only: list[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and file of the float model and of the candidates; existing files are used."""
    float_file = inputs.folder / "float.onnx"
    float_file.write_bytes(inputs.content)
    yield "float", float_file
    for name in only:
        existing = [path for path in folder.glob(f"{name}.*") if path.suffix in (".onnx", ".xml")]
        if existing:
            yield name, existing[0]
        elif name.startswith("nncf") and nncf is None:
            print(f"{name}: skipped, because NNCF is not installed (pip install nncf)")
        else:
            start = time.perf_counter()
            result = CANDIDATES[name](inputs)
            print(f"{name}: quantized in {time.perf_counter() - start:.0f} s", flush=True)
            yield name, _save(result, folder / name)


def _save(result: Any, stem: Path) -> Path:
    """Save the result of a candidate; return the file."""
    if isinstance(result, openvino.Model):
        file = stem.with_suffix(".xml")
        openvino.save_model(result, file, compress_to_fp16=False)
        return file
    file = stem.with_suffix(".onnx")
    file.write_bytes(result if isinstance(result, bytes) else result.SerializeToString())
    return file


def _open(file: Path, inputs: Inputs) -> dict[str, Engine]:
    """Open an ONNX file on both runtimes, or an OpenVINO file on OpenVINO."""
    if file.suffix == ".xml":
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        return {"openvino": _open_compiled(openvino.compile_model(file, "CPU", options), inputs)}
    return {
        "onnx": onnx_engine.load(file, threads=1, device="cpu"),
        "openvino": openvino_engine.load(file, threads=1),
    }


def _open_compiled(compiled: openvino.CompiledModel, inputs: Inputs) -> Engine:
    """Open a compiled model with the header of the float model."""
    name, model_header = "candidate", json.loads(read_header("candidate", inputs.content) or "{}")
    header, _ = openvino_engine.build(name, inputs.content, model_header)
    body = compiled.export_model().getvalue()
    return openvino_engine.load_built(name, header, body, threads=1)


def _load_inputs(arguments: argparse.Namespace, folder: Path) -> Inputs:
    """Export the network, and choose photos for the calibration."""
    if arguments.model is None:
        photos, count = folder / "test", 2
        write_drawn_dataset(folder, train_images=1, test_images=count, size=256, seed=0)
        header, network = create_random_network("mobilenet")
        evaluate = _return_zero
    else:
        photos, count = folder / "photos", arguments.photos
        evaluate = _select_photos(DatasetSpec.load(arguments.dataset_spec), photos, count)
        header, network = read_model(arguments.model, arguments.key)
    content = export_onnx(network, header, OnnxExportOptions(normalizes_input=True))
    engine = onnx_engine.load("model", content=content, device="cpu")
    sampled = sample_photos(photos, split_photos(photos, count), count)
    fitted = fit_photos((photo.pixels for photo in sampled), engine, _SIZE)
    source = CalibrationSource(photos, None, None, count, 1, _SIZE)
    return Inputs(content, source, [photo[None] for photo in fitted], evaluate, folder)


def _return_zero(_: Engine) -> float:
    """Return the AP of networks with random weights."""
    return 0.0


def _select_photos(dataset: DatasetSpec, folder: Path, count: int) -> Callable[[Engine], float]:
    """Copy train photos to a folder; return a function that measures the AP on others."""
    image_dir = dataset.images_folder("train")
    others = select_images(dataset.annotations("train"), image_dir, folder, count).comparison
    spec = dataset.model_copy(update={"test_data": dataset.train_data})
    names = {path.relative_to(image_dir).as_posix() for path in others[:_TUNING_PHOTOS]}
    images = [image for image in load_test_images(spec) if image.file_name in names]

    def evaluate(engine: Engine) -> float:
        return evaluate_dataset(Predictor(engine, _SPEC), spec, images).accuracy.ap

    return evaluate


def _milliseconds(engines: dict[str, Engine], turns: int) -> dict[str, float]:
    """Return the median milliseconds for one image, timing all engines alternately."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, *_SIZE, 3), np.uint8)
    seconds = harness.time_alternately(
        {name: lambda engine=engine: engine.infer(pixels) for name, engine in engines.items()},
        turns,
    )
    return {f"{name}_ms": 1e3 * taken for name, taken in seconds.items()}


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("int8_libraries", __doc__)
    flags.add_argument("--model", type=Path, metavar="FILE", help="a trained model (.tlt)")
    flags.add_argument("--key", default="", help="key of the model, if it is encrypted")
    flags.add_argument(
        "--dataset_spec", type=Path, metavar="FILE", help="photos for calibration and evaluation"
    )
    flags.add_argument(
        "--limit", type=int, metavar="N", help="only the first N test images; 0: only times"
    )
    flags.add_argument(
        "--photos", type=int, default=64, metavar="N", help="calibration photos, an even number"
    )
    flags.add_argument(
        "--only", nargs="+", choices=CANDIDATES, metavar="NAME", help="only these candidates"
    )
    flags.add_argument(
        "--files", type=Path, metavar="DIR", help="keep the files here, and use those that exist"
    )
    return flags


if __name__ == "__main__":
    harness.run("int8_libraries", _flags(), measure)
