"""Time from `import bodyposenet` to the first pose of the default model, in a new process.

python -m benchmarks.first_pose [--quick] [--json FILE]

`cold`: the decoder is compiled, as in the first process after an installation; `warm`: it is loaded
from the cache. `cpu` is the CPU time of all threads. The image is synthetic, 480 x 640 pixels.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from bodyposenet.demo.scene import draw_scene

from . import harness

_FIRST_POSE = """
import time
wall, cpu = time.perf_counter(), time.process_time()
import bodyposenet
model = bodyposenet.load(mode="{mode}")
assert len(model("{image}")), "no person was detected"
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Time processes with an empty and with a filled cache, alternately."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        image = Path(name, "people.png")
        scene, _ = draw_scene(np.random.default_rng(0), 480, 640)
        cv2.imwrite(str(image), cv2.cvtColor(scene, cv2.COLOR_RGB2BGR))
        for turn in range(2 if arguments.quick else 9):
            for mode in ("accurate", "tao"):
                cache = Path(name, f"{mode}_{turn}")
                code = _FIRST_POSE.format(mode=mode, image=image.as_posix())
                for state in ("cold", "warm"):
                    wall, cpu = _run(code, cache)
                    seconds.setdefault(f"{mode}_{state}_cpu_s", []).append(cpu)
                    seconds.setdefault(f"{mode}_{state}_s", []).append(wall)
    return {key: median(values) for key, values in seconds.items()}


def _run(code: str, cache: Path) -> tuple[float, float]:
    """Run a process and return the wall-clock and CPU seconds that it prints."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    wall, cpu = map(float, run.stdout.split())
    return wall, cpu


if __name__ == "__main__":
    harness.run("first_pose", harness.parser("first_pose", __doc__), measure)
