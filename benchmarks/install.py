"""Inference-only install: size on disk, import time, and time to the first pose.

python -m benchmarks.install [--quick] [--json FILE]

pip installs this repository, without extras, into a new virtual environment, which requires a
package index. The time to the first pose is the duration of a separate process: cold, with
compilation of the decoder, and warm, from the cache. The model is lightweight OpenPose with random
weights, as ONNX.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import cv2
import numpy as np
import torch

from bodyposenet.demo.scene import draw_scene
from bodyposenet.exporting.onnx import export_onnx
from bodyposenet.model.checkpoint import model_header
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION, load_skeleton

from . import harness

_ROOT = Path(__file__).parents[1]
_FIRST_POSE = """
import bodyposenet
model = bodyposenet.load("model.onnx", input_shape=(320, 448), heatmap_threshold=0.0)
model("people.jpg")
"""
"""With a threshold of 0, random maps have peaks, so that the whole decoder runs."""


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Install the package, then time processes in the new environment."""
    turns = 3 if arguments.quick else 9
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = folder / "environment"
        venv.create(environment, with_pip=True)
        python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        before = _size_mb(environment)
        if not _install(python):
            return {}
        size = _size_mb(environment) - before
        _write_model(folder / "model.onnx", width=0.25 if arguments.quick else 1.0)
        image, _ = draw_scene(np.random.default_rng(0), 480, 640)
        cv2.imwrite(str(folder / "people.jpg"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

        def run(code: str) -> None:
            subprocess.run([python, "-I", "-c", code], cwd=folder, check=True)

        start = time.perf_counter()
        run(_FIRST_POSE)
        cold = time.perf_counter() - start
        codes = {"nothing": "", "import": "import bodyposenet", "pose": _FIRST_POSE}
        seconds = harness.time_alternately(
            {name: lambda code=code: run(code) for name, code in codes.items()}, turns
        )
    return {
        "size_mb": size,
        "import_ms": 1000 * (seconds["import"] - seconds["nothing"]),
        "first_pose_cold_s": cold,
        "first_pose_warm_s": seconds["pose"],
    }


def _install(python: Path) -> bool:
    """Install the package without extras; print the reason and return False on failure."""
    command = [python, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install = subprocess.run(
        [*command, "-c", _ROOT / "constraints.txt", _ROOT], stderr=subprocess.PIPE, text=True
    )
    if install.returncode:
        print(f"skipped: pip cannot install here:\n{install.stderr.strip()}")
    return not install.returncode


def _size_mb(folder: Path) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 2**20


def _write_model(path: Path, width: float) -> None:
    torch.manual_seed(0)
    attributes = BackboneAttributes(architecture="lightweight_openpose", width=width)
    skeleton = load_skeleton(DEFAULT_POSE_CONFIGURATION)
    network = BodyPoseNetwork(skeleton, ModelConfig(stages=2, backbone_attributes=attributes))
    path.write_bytes(export_onnx(network, model_header(network)))


if __name__ == "__main__":
    harness.run("install", harness.parser("install", __doc__), measure)
