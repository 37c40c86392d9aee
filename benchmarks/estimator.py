"""Memory, threads and throughput of a model in a long-running program (`bodyposenet.load`).

python -m benchmarks.estimator [--quick] [--json FILE]

`frames_growth_mb`: growth of the resident memory between the first 300 and the last of 3,000
frames of an iterator. `reload_growth_mb`: growth between the first 10 and 50 more cycles of load,
inference and close; `threads_left`: growth of the number of threads over the same cycles. Each is
measured in a new process, on the default model at 128 x 128.

`images_per_s_*`: calls of one image each, from 1, 2 and 8 threads that share a model at its default
size, with `concurrency` 1, 2 and 8. Images are synthetic, 480 x 640 pixels. Memory is measured on
Linux only.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

import bodyposenet
from bodyposenet.demo.scene import draw_scene

from . import harness

_SMALL = (128, 128)
_SCENES = 16
_CALLERS = (1, 2, 8)
Engine = Literal["onnx", "openvino"]


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Measure the memory of both engines, then the throughput of calls from several threads."""
    frames, reloads, turns = (300, 10, 2) if arguments.quick else (3000, 50, 5)
    figures: dict[str, float] = {}
    engines: tuple[Engine, ...] = ("onnx", "openvino")
    for engine in engines:
        growth, total = _in_new_process(_feed_frames, engine, frames)
        figures |= {f"{engine}_frames_growth_mb": growth, f"{engine}_frames_mb": total}
        growth, threads = _in_new_process(_reload, engine, reloads)
        figures |= {f"{engine}_reload_growth_mb": growth, f"{engine}_threads_left": threads}
    return figures | _throughput(turns, 8 if arguments.quick else 24)


def _in_new_process(
    function: Callable[[Engine, int], tuple[float, float]], engine: Engine, count: int
) -> tuple[float, float]:
    """Call a function in a new process, where no other measurement has allocated memory."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, engine, count).result()


def _feed_frames(engine: Engine, count: int) -> tuple[float, float]:
    """Return the MB that an iterator of frames adds after the first tenth, and the final MB."""
    frames = _scenes()
    with bodyposenet.load(engine=engine, input_shape=_SMALL) as model:
        results = model(frames[number % _SCENES] for number in range(count))
        for _ in range(count // 10):
            next(results)
        before = _resident()
        for _ in results:
            pass
        return _resident() - before, _resident()


def _reload(engine: Engine, count: int) -> tuple[float, float]:
    """Return the MB and threads that cycles of load and close add after the first cycles."""
    (frame, *_) = _scenes()

    def use(times: int) -> tuple[float, int]:
        for _ in range(times):
            with bodyposenet.load(engine=engine, input_shape=_SMALL) as model:
                model([frame, frame])
        gc.collect()
        time.sleep(0.5)  # for threads that are still ending
        return _resident(), len(list(Path("/proc/self/task").iterdir()))

    memory, threads = use(10)
    later_memory, later_threads = use(count)
    return later_memory - memory, later_threads - threads


def _throughput(turns: int, count: int) -> dict[str, float]:
    """Return images/s of calls from several threads; the cases alternate."""
    scenes = _scenes()
    seconds: dict[str, list[float]] = {}
    models = {
        concurrency: bodyposenet.load(engine="onnx", concurrency=concurrency)
        for concurrency in (1, 2, 8)
    }
    for _ in range(turns):
        for concurrency, model in models.items():
            for callers in _CALLERS:
                chosen = [scenes[number % _SCENES] for number in range(count)]
                with ThreadPoolExecutor(callers) as pool:
                    list(pool.map(model, chosen[:callers]))
                    start = time.perf_counter()
                    list(pool.map(model, chosen))
                    key = f"images_per_s_{callers}_callers_concurrency_{concurrency}"
                    seconds.setdefault(key, []).append(time.perf_counter() - start)
    for model in models.values():
        model.close()
    return {key: count / median(values) for key, values in seconds.items()}


def _scenes() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [draw_scene(random, 480, 640)[0] for _ in range(_SCENES)]


def _resident() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    harness.run("estimator", harness.parser("estimator", __doc__), measure)
