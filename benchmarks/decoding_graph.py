"""Decoding inside the model (`export --with_decoding`), compared with decoding of its maps.

python -m benchmarks.decoding_graph [--images DIR] [--height N] [--quick] [--json FILE]

From a uint8 image to people with the default model, on one thread: the network and `decode()`,
compared with the network with decoding inside and the assignment of the Python client. Both are
timed alternately on each image. A ratio is the median over the images of the ratio of an image's
median times. `_crowded` refers to images in which `decode()` detects six people or more.
"""

from __future__ import annotations

import argparse
import json
import runpy
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import bodyposenet
from bodyposenet.decoding import decode
from bodyposenet.demo import draw_scene
from bodyposenet.encryption import METADATA_KEY
from bodyposenet.exporting.decoding_graph import append_decoding
from bodyposenet.exporting.photos import read_folder
from bodyposenet.geometry import Affine
from bodyposenet.inference.engines import onnx as onnx_engine
from bodyposenet.inference.engines.base import Engine
from bodyposenet.inference.engines.exported import INPUT, PAF_SCORES, PEAKS
from bodyposenet.types import PAD_VALUE

from . import harness

_FOLDER = Path(bodyposenet.__file__).parent / "resources" / "default_model"
_MODELS = {"int8": "default-int8.onnx", "fp16": "default-fp16.onnx"}
_CLIENT = Path(bodyposenet.__file__).parent / "resources" / "clients" / "bodypose.py"
_CROWD = 6

Image = NDArray[np.uint8]
Run = Callable[[Image], Sequence[NDArray[np.float32]]]


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Time both ways with every model on every runtime."""
    images = list(_read_images(arguments))
    figures: dict[str, float] = {"images": len(images)}
    for model, name in _MODELS.items():
        if arguments.quick and model != "int8":
            continue
        content = (_FOLDER / name).read_bytes()
        for runtime in ("onnx", "openvino"):
            if find_spec("openvino") is None and runtime == "openvino":
                print("Skipped: openvino is not installed.")
                continue
            engine, run = _open(runtime, content)
            turns = 3 if arguments.quick else 7
            measured = _compare(engine, run, _skeleton(content), images, turns)
            figures |= {f"{key}_{model}_{runtime}": value for key, value in measured.items()}
    return figures


def _read_images(arguments: argparse.Namespace) -> Iterator[Image]:
    """Yield photos of a folder, or synthetic images, all of the same height."""
    limit, height = 8 if arguments.quick else arguments.limit, arguments.height
    if arguments.images is None:
        random = np.random.default_rng(0)
        for _ in range(limit):
            yield draw_scene(random, height, height * 4 // 3 // 8 * 8)[0]
        return
    for photo in read_folder(arguments.images, max_count=limit):
        scale = height / photo.shape[0]
        width = max(8, round(scale * photo.shape[1] / 8) * 8)
        yield Affine.resize(width / photo.shape[1], scale).warp(
            photo, height, width, outside=PAD_VALUE
        )


def _skeleton(content: bytes) -> dict:
    """Return the entry `decoding` of the header of a model with decoding inside."""
    session = onnxruntime.InferenceSession(append_decoding(content))
    return json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])["decoding"]


def _open(runtime: str, content: bytes) -> tuple[Engine, Run]:
    """Return the model as an engine, and a function that runs it with decoding inside."""
    decoding = append_decoding(content)
    if runtime == "onnx":
        session = onnx_engine.open_session("model", threads=1, content=decoding, device="cpu")
        engine = onnx_engine.load("model", threads=1, content=content, device="cpu")
        outputs = [PEAKS, PAF_SCORES]
        return engine, lambda image: [
            np.asarray(array) for array in session.run(outputs, {INPUT: image[None]})
        ]
    import openvino

    from bodyposenet.inference.engines import openvino as openvino_engine

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 1,
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(decoding), "CPU", options).create_infer_request()

    def run(image: Image) -> Sequence[NDArray[np.float32]]:
        found = request.infer([image[None]])
        return found[PEAKS], found[PAF_SCORES]

    return openvino_engine.load("model", threads=1, content=content), run


def _compare(
    engine: Engine, run: Run, skeleton: dict, images: Sequence[Image], turns: int
) -> dict[str, float]:
    """Time both ways on all images; return the ratios and median times."""
    assemble = runpy.run_path(str(_CLIENT))["assemble"]
    ratios, crowded, milliseconds = [], [], []
    for image in images:
        (maps,), (peaks, paf_scores) = engine.infer(image[None]), run(image)
        people = len(decode(maps, engine.skeleton))
        if len(assemble(peaks[0], paf_scores[0], skeleton)[1]) != people:
            print(f"{people} people; decoding inside the model detects another number")

        def decoded_inside(image: Image = image) -> object:
            peaks, paf_scores = run(image)
            return assemble(peaks[0], paf_scores[0], skeleton)

        seconds = harness.time_alternately(
            {
                "maps": lambda image=image: decode(engine.infer(image[None])[0], engine.skeleton),
                "inside": decoded_inside,
                "decoder": lambda maps=maps: decode(maps, engine.skeleton),
                "client": lambda outputs=(peaks[0], paf_scores[0]): assemble(*outputs, skeleton),
            },
            turns,
        )
        ratio = seconds["inside"] / seconds["maps"]
        ratios.append(ratio)
        if people >= _CROWD:
            crowded.append(ratio)
        milliseconds.append(seconds)
    figures = {"ratio": median(ratios), "ratio_90_percent": float(np.percentile(ratios, 90))}
    if crowded:
        figures |= {"crowded": len(crowded), "ratio_crowded": median(crowded)}
    for name in ("maps", "inside", "decoder", "client"):
        figures[f"{name}_ms"] = 1e3 * median(seconds[name] for seconds in milliseconds)
    return figures


def _flags() -> argparse.ArgumentParser:
    flags = harness.parser("decoding_graph", __doc__)
    flags.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of photos; default: synthetic images"
    )
    flags.add_argument(
        "--height",
        type=int,
        default=256,
        metavar="N",
        help="height of the network input; default: 256",
    )
    flags.add_argument(
        "--limit", type=int, default=40, metavar="N", help="number of images; default: 40"
    )
    return flags


if __name__ == "__main__":
    harness.run("decoding_graph", _flags(), measure)
