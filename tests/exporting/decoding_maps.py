"""Maps for tests of decoding: models without a network that decode them, and maps to decode."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

import bodyposenet
from bodyposenet.encryption import METADATA_KEY
from bodyposenet.exporting.decoding_graph import DecodingGraphOptions, append_decoding
from bodyposenet.geometry import Affine
from bodyposenet.inference.engines.exported import HEATMAPS, PAFS
from bodyposenet.media.images import read_image
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import PAD_VALUE, Maps

SKELETON = load_skeleton("bpnet_18joints.json")
PHOTO_HEIGHT = 256
DEFAULT_MODELS = Path(bodyposenet.__file__).parent / "resources" / "default_model"


def header(skeleton: Skeleton, sigma: float = 7.0) -> dict:
    """Return the header of a model whose maps are channels first."""
    return {
        "skeleton": skeleton.to_pose_configuration(),
        "normalization": {"image_scale": [256.0] * 3, "image_offset": [0.5] * 3},
        "network": {"stages": 1},
        "stride": 8,
        "heatmap_sigma": sigma,
        "form": {"channels_last": False},
    }


def maps_model(skeleton: Skeleton, sigma: float = 7.0) -> bytes:
    """Return a model whose outputs are its inputs: heatmaps and PAFs, channels first."""
    names = {HEATMAPS: skeleton.heatmap_channels, PAFS: skeleton.paf_channels}

    def tensor(name: str, channels: int) -> onnx.ValueInfoProto:
        shape = ["batch", channels, "rows", "columns"]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [helper.make_node("Identity", [f"in/{name}"], [name]) for name in names],
        "maps",
        [tensor(f"in/{name}", channels) for name, channels in names.items()],
        [tensor(name, channels) for name, channels in names.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(header(skeleton, sigma))})
    return model.SerializeToString()


def decoding_model(
    skeleton: Skeleton, options: DecodingGraphOptions | None = None, sigma: float = 7.0
) -> bytes:
    """Return a model that decodes its inputs, heatmaps and PAFs, to peaks and PAF scores."""
    return append_decoding(maps_model(skeleton, sigma), options)


def decoding_header(model: bytes) -> dict:
    """Return the entry `decoding` of a model's header."""
    (entry,) = onnx.load_model_from_string(model).metadata_props
    return json.loads(entry.value)["decoding"]


def stack(*images: Maps) -> dict[str, np.ndarray]:
    """Return the inputs of a `decoding_model` for a batch of maps."""
    return {
        f"in/{HEATMAPS}": np.stack([maps.heatmaps for maps in images]),
        f"in/{PAFS}": np.stack([maps.pafs for maps in images]),
    }


def onnx_session(model: bytes) -> onnxruntime.InferenceSession:
    """Open a model in ONNX Runtime on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def drawn_maps(count: int = 10) -> tuple[Maps, ...]:
    """Return maps of 1 to `count` people, with a little noise, of various sizes."""
    from benchmarks.synthetic_maps import make_synthetic_maps

    random = np.random.default_rng(0)
    return tuple(
        make_synthetic_maps(random, SKELETON, people, (24 + 2 * people, 40), noise=0.01)
        for people in range(1, count + 1)
    )


@cache
def photo_maps(shared: Path, count: int = 50) -> tuple[Maps, ...]:
    """Return maps of the default model for photos; half of them have the most people."""
    from bodyposenet.inference.engines import onnx as engine

    folder = shared / "data" / "coco-person"
    content = json.loads((folder / "annotations" / "person_keypoints_val.json").read_text())
    people = {image["id"]: 0 for image in content["images"]}
    for annotation in content["annotations"]:
        people[annotation["image_id"]] += annotation["num_keypoints"] > 0
    images = sorted(content["images"], key=lambda image: -people[image["id"]])
    crowded, step = count // 2, len(images) // count
    chosen = images[:crowded] + images[crowded::step][: count - crowded]
    model = engine.load(DEFAULT_MODELS / "default-fp16.onnx", threads=1)
    found = []
    for image in chosen:
        pixels = read_image(folder / "images" / image["file_name"])
        scale = PHOTO_HEIGHT / len(pixels)
        width = max(8, round(pixels.shape[1] * scale / 8) * 8)
        warped = Affine.resize(scale).warp(pixels, PHOTO_HEIGHT, width, outside=PAD_VALUE)
        found += model.infer(warped[None])
    return tuple(found)
