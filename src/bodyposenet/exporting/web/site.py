"""The files of a web page that runs a model."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np

from bodyposenet.demo import draw_scene
from bodyposenet.exporting.web.model import WebModel
from bodyposenet.exporting.web.runtime import SCRIPTS, VERSION, Backend
from bodyposenet.files import atomic_write
from bodyposenet.poses import DEFAULT_SCORE_THRESHOLD

SIZES = (192, 256, 320, 368)
"""Choices for the shorter side of the network input, in pixels."""

DEFAULT_SIZE = 256

_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "connect-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'"
)

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Content-Security-Policy": _POLICY,
}
"""HTTP headers of the page. Browsers allow threads only with the first two."""

_MODEL_CARD = "MODEL_CARD.txt"

_EXAMPLE = "example.jpg"
_EXAMPLE_SEED = 7
_EXAMPLE_SIZE = (480, 640)


def site_files(
    models: Mapping[Backend, WebModel],
    runtime: Mapping[str, bytes],
    model_card: str | None = None,
) -> dict[str, bytes]:
    """Create the files of a page.

    Args:
        models: Model by backend; all have the same skeleton and input. Backends may share one.
        runtime: Files of `read_runtime` for these backends.
        model_card: Text about the model, to which the page links.

    Returns:
        Path, relative to the folder of the page -> content.
    """
    resources = files("bodyposenet") / "resources"
    page = {
        entry.name: entry.read_bytes()
        for entry in (*(resources / "web").iterdir(), resources / "clients" / "bodypose.mjs")
        if entry.is_file()
    }
    html = Template(page["index.html"].decode()).substitute(policy=_POLICY)
    headers = "/*\n" + "".join(f"  {name}: {value}\n" for name, value in HEADERS.items())
    names: dict[Backend, str] = {backend: _model_name(models, backend) for backend in models}
    configuration = _configuration(models, names)
    if model_card is not None:
        configuration["model_card"] = _MODEL_CARD
        # With a byte order mark, as servers do not send the encoding of text files.
        page[_MODEL_CARD] = model_card.encode("utf-8-sig")
    return {
        **page,
        "index.html": html.encode(),
        "_headers": headers.encode(),
        "model.json": json.dumps(configuration, indent=2).encode() + b"\n",
        _EXAMPLE: _draw_example(),
        **{names[backend]: model.content for backend, model in models.items()},
        **{f"runtime/{name}": content for name, content in runtime.items()},
    }


def write_site(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write the files of a page; other files in the folder are kept.

    Raises:
        BodyPoseNetError: A file cannot be written.
    """
    for name, part in content.items():
        with atomic_write(folder / name) as file:
            file.write(part)


def _model_name(models: Mapping[Backend, WebModel], backend: Backend) -> str:
    """Return the file name of a model; it contains the backend if there are several models."""
    is_shared = len({id(model) for model in models.values()}) == 1
    return "model.onnx" if is_shared else f"model-{backend}.onnx"


def _configuration(
    models: Mapping[Backend, WebModel], names: Mapping[Backend, str]
) -> dict[str, Any]:
    """Return the content of model.json, which the scripts read."""
    model = next(iter(models.values()))
    description, images = model.description, model.images
    return {
        "models": {
            backend: {
                "file": names[backend],
                "integrity": _integrity(each.content),
                "bytes": len(each.content),
                "data_type": each.description.data_type,
            }
            for backend, each in models.items()
        },
        "runtime": {
            "version": VERSION,
            "scripts": {backend: SCRIPTS[backend] for backend in models},
        },
        "input": {
            "name": images.name,
            "type": "uint8" if images.normalizes_input else "float32",
            "channels_last": images.channels_last,
            "fixed_shape": images.fixed_shape,
            "image_scale": description.image_scale,
            "image_offset": description.image_offset,
            "stride": description.stride,
        },
        "decoding": model.decoding,
        "skeleton": description.skeleton.to_pose_configuration(),
        "colors": description.skeleton.colors,
        "sizes": SIZES,
        "default_size": DEFAULT_SIZE,
        "score_threshold": DEFAULT_SCORE_THRESHOLD,
        "example": _EXAMPLE,
    }


def _integrity(content: bytes) -> str:
    """Return the checksum of a file in the form that `fetch` expects."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}"


def _draw_example() -> bytes:
    """Draw people, as a JPEG file."""
    image, _ = draw_scene(np.random.default_rng(_EXAMPLE_SEED), *_EXAMPLE_SIZE)
    _, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return content.tobytes()
