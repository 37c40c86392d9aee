"""TensorRT, trtexec and CUDA in ONNX Runtime: do they run, are they right, and how fast are they?

python -m benchmarks.gpu.deployment [--quick] [--json FILE]

Needs the extras `gpu`, `tensorrt`, `train` and `export`, and trtexec on the path. Runs the default
model at 288 x 384 on synthetic people. Every part is independent: one that cannot run prints the
reason. The figures of a part:

`..._ran`: 1 if it ran, otherwise 0
`..._equal`: share of the keypoints that are within two pixels of those of the same file on ONNX
    Runtime and the CPU
`..._ms`, `..._ms_per_image`: one image; eight images in one batch
`..._build_s`: seconds to build the engine

On a machine without a GPU all parts print the reason, which shows that the script works.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

import bodyposenet
from bodyposenet.decoding import decode
from bodyposenet.demo import draw_scene
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.bundle import BundleOptions, write_bundle
from bodyposenet.exporting.decoding_graph import DecodingGraphOptions, append_decoding
from bodyposenet.exporting.decoding_verification import compare_decoding
from bodyposenet.exporting.engine import DeviceOptions
from bodyposenet.inference.engines import onnx as onnx_engine
from bodyposenet.inference.engines.base import Engine
from bodyposenet.inference.engines.exported import PAF_SCORES, PEAKS
from bodyposenet.inference.engines.onnx_file import read_header
from bodyposenet.inference.models import DEFAULT_MODEL_WEIGHTS, open_engine
from bodyposenet.model.checkpoint import model_header, named_tensors, write_tensors
from bodyposenet.model.pretrained import build_pretrained
from bodyposenet.poses import Poses
from bodyposenet.specs.inference import InferenceSpec

from .. import harness

_SHAPE = 288, 384
_BATCH = 8
_PIXELS = 2.0
"""Maximum distance of equal keypoints."""

Part = Callable[[Path, NDArray[np.uint8], int], dict[str, float]]
"""Part of the benchmark: from a folder, images and the number of timed calls to figures."""


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Run all parts."""
    random = np.random.default_rng(0)
    images = np.stack([draw_scene(random, *_SHAPE)[0] for _ in range(_BATCH)])
    parts: dict[str, Part] = {
        "onnx_cuda": _run_cuda,
        "tensorrt_fp16": lambda *given: _export_engine("fp16", *given),
        "tensorrt_int8": lambda *given: _export_engine("int8", *given),
        "tensorrt_decoding": _run_decoding,
        "trtexec": _run_trtexec,
    }
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in parts.items():
            found = _attempt(name, part, Path(folder), images, 3 if arguments.quick else 30)
            figures |= {f"{name}_{key}": value for key, value in found.items()}
    return figures


def _attempt(
    name: str, part: Part, folder: Path, images: NDArray[np.uint8], turns: int
) -> dict[str, float]:
    """Run a part; if it fails, print the reason."""
    try:
        return {"ran": 1.0} | part(folder, images, turns)
    except Exception as error:  # the other parts shall run
        print(f"{name}: not run: {type(error).__name__}: {error}")
        return {"ran": 0.0}


def _run_cuda(folder: Path, images: NDArray[np.uint8], turns: int) -> dict[str, float]:
    """Run the default model with ONNX Runtime on the GPU."""
    path = str(DEFAULT_MODEL_WEIGHTS)
    engine = open_engine(InferenceSpec(), path, device="cuda")
    return _compare(engine, onnx_engine.load(path, device="cpu"), images, turns)


def _export_engine(
    data_type: Literal["fp16", "int8"], folder: Path, images: NDArray[np.uint8], turns: int
) -> dict[str, float]:
    """Export the default model with a TensorRT engine, and run the engine."""
    photos = folder / "photos"
    if not photos.exists():
        _write_inputs(folder, photos, images)
    output = folder / f"{data_type}.onnx"
    calibration = {"cal_image_dir": photos, "batches": _BATCH, "allow_loss": True}
    start = time.perf_counter()
    result = bodyposenet.export(
        model=folder / "model.tlt", output_file=output, input_dims=(*_SHAPE, 3),
        data_type=data_type, engine_file=output.with_suffix(".engine"),
        engine_runtime="tensorrt", max_batch_size=_BATCH, opt_batch_size=_BATCH,
        **(calibration if data_type == "int8" else {}),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    engine = open_engine(InferenceSpec(), str(result.engine))
    figures = _compare(engine, onnx_engine.load(output, device="cpu"), images, turns)
    return {"export_s": seconds} | figures


def _write_inputs(folder: Path, photos: Path, images: NDArray[np.uint8]) -> None:
    """Write the default model as `model.tlt`, and the images for the calibration."""
    network, _ = build_pretrained(DEFAULT_MODEL_WEIGHTS)
    write_tensors(folder / "model.tlt", model_header(network), named_tensors(network))
    photos.mkdir()
    for number, image in enumerate(images):
        cv2.imwrite(str(photos / f"{number}.png"), image[..., ::-1])


def _compare(
    engine: Engine, reference: Engine, images: NDArray[np.uint8], turns: int
) -> dict[str, float]:
    """Compare the poses of an engine with those of a reference, and time it."""
    found, expected = (
        [decode(maps, each.skeleton) for maps in each.infer(images)] for each in (engine, reference)
    )
    seconds = harness.time_alternately(
        {"one": lambda: engine.infer(images[:1]), "batch": lambda: engine.infer(images)}, turns
    )
    return {
        "equal": _equal_share(found, expected),
        "ms": 1e3 * seconds["one"],
        "ms_per_image": 1e3 * seconds["batch"] / len(images),
    }


def _equal_share(found: Sequence[Poses], expected: Sequence[Poses]) -> float:
    """Return the share of the expected keypoints that have a found one of the same joint nearby."""
    total = equal = 0
    for poses, references in zip(found, expected, strict=True):
        gaps = np.linalg.norm(references.keypoints[:, None] - poses.keypoints[None], axis=3)
        total += int(np.isfinite(references.keypoints[..., 0]).sum())
        equal += int((gaps <= _PIXELS).any(axis=1).sum())
    return equal / total


def _static_decoding() -> bytes:
    """Return the default model with decoding whose tensors have the same sizes for all images."""
    options = DecodingGraphOptions(static_shapes=True)
    return append_decoding(DEFAULT_MODEL_WEIGHTS.read_bytes(), options)


def _run_decoding(folder: Path, images: NDArray[np.uint8], turns: int) -> dict[str, float]:
    """Build a model with decoding by TensorRT, and compare its peaks and PAF scores."""
    from bodyposenet.inference.engines import tensorrt

    content = _static_decoding()
    start = time.perf_counter()
    _, body = tensorrt.build(
        "decoding", content, json.loads(read_header("decoding", content) or ""),
        shape=_SHAPE, opt_batch_size=_BATCH, max_batch_size=_BATCH, workspace=2 * 2**30,
        timing_cache=None,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    plan = tensorrt.Plan("decoding", body, 0)
    reference = onnx_engine.load(DEFAULT_MODEL_WEIGHTS, device="cpu")
    outputs, total, equal = plan.run(images), 0, 0
    for maps, peaks, scores in zip(
        reference.infer(images), outputs[PEAKS], outputs[PAF_SCORES], strict=True
    ):
        counts = compare_decoding(
            maps, reference.skeleton, peaks, scores, DecodingGraphOptions(), pixels=_PIXELS,
            score=0.05,
        )  # fmt: skip
        total, equal = total + counts[0], equal + counts[1]
    times = harness.time_alternately(
        {"one": lambda: plan.run(images[:1]), "batch": lambda: plan.run(images)}, turns
    )
    return {
        "build_s": seconds,
        "equal": equal / total,
        "ms": 1e3 * times["one"],
        "ms_per_image": 1e3 * times["batch"] / len(images),
    }


def _run_trtexec(folder: Path, images: NDArray[np.uint8], turns: int) -> dict[str, float]:
    """Run the script of a deployment bundle, which builds an engine and measures it."""
    if shutil.which("trtexec") is None:
        raise BodyPoseNetError("trtexec: not found", "Add TensorRT's bin folder to PATH.")
    bundle = folder / "bundle"
    device = DeviceOptions(_SHAPE, opt_batch_size=_BATCH, max_batch_size=_BATCH)
    write_bundle(bundle, folder / "decoded.onnx", _static_decoding(), BundleOptions(device))
    start = time.perf_counter()
    done = subprocess.run(
        ["sh", str(bundle / "trtexec.sh")], capture_output=True, text=True, env=os.environ
    )
    print(done.stdout[-3000:])
    if done.returncode:
        raise BodyPoseNetError(f"trtexec failed: {done.stdout[-500:]} {done.stderr[-500:]}", "")
    return {"build_s": time.perf_counter() - start}


if __name__ == "__main__":
    harness.run("gpu.deployment", harness.parser("gpu.deployment", __doc__), measure)
