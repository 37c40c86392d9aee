"""Frames per second of the page of `bpnet web` in headless Chromium, and the size of its files.

python -m benchmarks.browser [--quick] [--json FILE] [--model FILE] [--photos FOLDER]

A drawn scene of 480 x 640 pixels is processed repeatedly, from the image to its people, on the CPU
(WebAssembly): with threads, as on a server with the headers of the file `_headers`, and on one
thread, as on a server without them. `_cpu_ms` is the CPU time of the browser per frame, which
other load on the machine hardly affects. With --photos, the poses in these photos are compared with
those of Python: distances of the keypoints of all people with the default minimum score. Needs
Playwright. Without Chromium only the files are measured; without internet access at the first run,
nothing is.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bodyposenet
from bodyposenet import PoseEstimator, Poses
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.web.runtime import SCRIPTS, read_runtime
from bodyposenet.exporting.web.server import address_of, open_server
from bodyposenet.exporting.web.site import DEFAULT_SIZE, HEADERS
from bodyposenet.poses import DEFAULT_SCORE_THRESHOLD

from . import harness

_SIZES = (256, 320)

_OPEN = """async () => {
    const { Detector } = await import("./detector.mjs");
    const load = async (file) => (await fetch(file)).json();
    const start = performance.now();
    window.detector = await Detector.open(await load("model.json"), "wasm");
    window.image = await createImageBitmap(await (await fetch("example.jpg")).blob());
    return { threads: detector.threads, milliseconds: performance.now() - start };
}"""
_DETECT = """async (size) => {
    const result = await detector.detect(image, size);
    window.image = result.bitmap;
    return result.milliseconds;
}"""
_DETECT_PHOTO = """async ([name, content, size]) => {
    const { openFile } = await import("./sources.mjs");
    const { toDetections } = await import("./results.mjs");
    const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
    const { bitmap } = await (await openFile(new File([bytes], name))).nextFrame();
    const { people } = await detector.detect(bitmap, size);
    const config = await (await fetch("model.json")).json();
    return JSON.parse(toDetections(name, people, size, config)).images[0];
}"""


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Write a page, and time its detector with and without threads."""
    from playwright.sync_api import sync_playwright

    try:
        read_runtime(SCRIPTS)
    except BodyPoseNetError as error:
        print(error.what)
        return {}
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        bodyposenet.write_web_page(model=arguments.model, results_dir=folder)
        figures = _measure_files(folder)
        if arguments.chromium is None:
            print("Chromium is not installed")
            return figures
        browser = playwright.chromium.launch(
            executable_path=arguments.chromium, args=["--no-sandbox"]
        )
        with _serve(folder) as address:
            for is_isolated in (True, False):
                page = browser.new_page()
                if not is_isolated:
                    page.route("**/*", _without_headers)
                page.goto(address + "LICENSES.txt")  # index.html would open the model, too
                opened = page.evaluate(_OPEN)
                prefix = f"threads_{opened['threads']}"
                figures[f"{prefix}_open_ms"] = opened["milliseconds"]
                for size in _SIZES:
                    figures |= _measure_frames(
                        page, size, f"{prefix}_{size}", 5 if arguments.quick else 30
                    )
                if is_isolated and arguments.photos is not None:
                    figures |= _compare_poses(page, arguments.model, arguments.photos)
                page.close()
        browser.close()
    return figures


def _measure_files(folder: Path) -> dict[str, float]:
    """Return the sizes of the files in MB, and of the runtimes also compressed with gzip."""
    figures = {"site_mb": 0.0}
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        content = file.read_bytes()
        figures["site_mb"] += len(content) / 1e6
        if file.suffix in (".onnx", ".wasm"):
            figures[f"{file.name}_mb"] = len(content) / 1e6
            figures[f"{file.name}_gzip_mb"] = len(gzip.compress(content, 6)) / 1e6
    return figures


def _measure_frames(page: Any, size: int, prefix: str, count: int) -> dict[str, float]:
    """Process frames at an input size, after two to warm up."""
    for _ in range(2):
        page.evaluate(_DETECT, size)
    cpu, milliseconds = _cpu_seconds(os.getpid()), []
    for _ in range(count):
        milliseconds.append(page.evaluate(_DETECT, size))
    cpu = _cpu_seconds(os.getpid()) - cpu
    return {
        f"{prefix}_frames_per_s": 1000 / median(milliseconds),
        f"{prefix}_best_ms": min(milliseconds),
        f"{prefix}_cpu_ms": 1000 * cpu / count,
    }


def _compare_poses(page: Any, model: str, folder: Path) -> dict[str, float]:
    """Compare the poses in the photos of a folder with those of Python."""
    estimator = bodyposenet.load(
        None if model == "default" else model,
        input_shape=(DEFAULT_SIZE, DEFAULT_SIZE),
        keep_aspect_ratio_mode="adjust_network_input",
        complete_pose=False,
    )
    photos = sorted(folder.glob("*.jpg"))
    distances = np.concatenate([_distances(page, estimator, photo) for photo in photos])
    return {
        "photos": len(photos),
        "keypoints": len(distances),
        "keypoints_within_1_px": float(np.mean(distances < 1)),
        "keypoints_missing": float(np.mean(np.isinf(distances))),
        "distance_median": float(np.median(distances)),
        "distance_max": float(distances[np.isfinite(distances)].max()),
    }


def _distances(page: Any, estimator: PoseEstimator, photo: Path) -> NDArray[np.float64]:
    """Return the distance of each of Python's keypoints in pixels; infinite for missing ones."""
    content = base64.b64encode(photo.read_bytes()).decode()
    entry = page.evaluate(_DETECT_PHOTO, [photo.name, content, DEFAULT_SIZE])
    found = Poses.from_dict(entry, estimator.skeleton)
    expected = estimator(photo)
    result: list[NDArray[np.float64]] = [np.empty(0)]
    for person in np.flatnonzero(expected.scores >= DEFAULT_SCORE_THRESHOLD):
        visible = expected.visible[person]
        offsets = np.abs(found.keypoints - expected.keypoints[person]).max(axis=2)
        offsets = np.where(found.visible, offsets, np.inf)[:, visible]
        nearest = min(offsets, key=np.median, default=np.full(visible.sum(), np.inf))
        result.append(nearest)
    return np.concatenate(result)


@contextmanager
def _serve(folder: Path) -> Iterator[str]:
    """Serve a folder within the context; yields the address."""
    with open_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield address_of(server)
        finally:
            server.shutdown()
            thread.join()


def _without_headers(route: Any) -> None:
    """Respond without the headers that allow threads."""
    response = route.fetch()
    names = {name.lower() for name in HEADERS}
    headers = {name: value for name, value in response.headers.items() if name not in names}
    route.fulfill(response=response, headers=headers)


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of the descendants of a process, which are the browser's processes."""
    total = 0.0
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            times = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:13]
            total += sum(map(int, times)) / os.sysconf("SC_CLK_TCK") + _cpu_seconds(int(child))
    return total


if __name__ == "__main__":
    flags = harness.parser("browser", __doc__)
    flags.add_argument("--model", default="default", help="see bpnet web", metavar="FILE")
    flags.add_argument(
        "--photos", type=Path, help="compare the poses in these photos (.jpg)", metavar="FOLDER"
    )
    flags.add_argument(
        "--chromium", default=shutil.which("chromium"), help="the browser", metavar="FILE"
    )
    harness.run("browser", flags, measure)
