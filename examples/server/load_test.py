"""Load test of the service: concurrent and sequential requests must have the same results.

    python examples/server/load_test.py

It starts the service on a free port, with settings from the environment, or uses a running one
(`--url`). A rejected request (503) is repeated after the seconds in `Retry-After`. The exit code is
1 if a result differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import httpx
import numpy as np

from bodyposenet.demo import draw_scene

_SIZES = ((240, 320), (480, 640), (640, 427), (375, 500), (720, 1280))
"""Sizes of the synthetic images."""
_START_SECONDS = 120
_REQUEST_SECONDS = 300


@dataclass
class Responses:
    """Responses of the service.

    Attributes:
        bodies: Result of each request.
        latencies: Seconds of each request, including repetitions.
        rejections: Number of requests that were rejected and repeated.
        seconds: Seconds from the first request to the last result.
    """

    bodies: list[bytes] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    rejections: int = 0
    seconds: float = 0.0


async def send_all(url: str, images: Sequence[bytes], requests: int, at_once: int) -> Responses:
    """Send requests with the given images, repeated in order.

    Args:
        url: Address of the service.
        images: Contents of image files.
        requests: Number of requests.
        at_once: Number of concurrent requests.

    Raises:
        httpx.HTTPError: The service cannot be reached, or returns an error.
    """
    responses = Responses([b""] * requests, [0.0] * requests)
    free = asyncio.Semaphore(at_once)
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(
        base_url=url, limits=limits, timeout=_REQUEST_SECONDS, trust_env=False
    ) as client:

        async def send(number: int) -> None:
            async with free:
                start = time.perf_counter()
                responses.bodies[number] = await _predict(
                    client, images[number % len(images)], responses
                )
                responses.latencies[number] = time.perf_counter() - start

        start = time.perf_counter()
        await asyncio.gather(*map(send, range(requests)))
        responses.seconds = time.perf_counter() - start
    return responses


async def _predict(client: httpx.AsyncClient, image: bytes, responses: Responses) -> bytes:
    while True:
        response = await client.post("/predict", content=image)
        if response.status_code != 503:
            return response.raise_for_status().content
        responses.rejections += 1
        await asyncio.sleep(float(response.headers["Retry-After"]))


def draw_images(count: int) -> list[bytes]:
    """Draw scenes with people, as JPEG files."""
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng, *_SIZES[number % len(_SIZES)])[0] for number in range(count)]
    return [cv2.imencode(".jpg", scene[..., ::-1])[1].tobytes() for scene in scenes]


@contextmanager
def running_service() -> Iterator[str]:
    """Start the service on a free port, and yield its address once it is healthy."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "uvicorn", "--app-dir", str(Path(__file__).parent),
        "--factory", "app:create_app", "--port", str(port), "--log-level", "warning",
        "--timeout-keep-alive", "75",
    ]  # fmt: skip
    process = subprocess.Popen(command, env=os.environ)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(10 * _START_SECONDS):
        if process.poll() is not None:
            raise SystemExit(f"The service ended with exit code {process.returncode}.")
        try:
            httpx.get(f"{url}/health", trust_env=False).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise SystemExit(f"The service is not healthy after {_START_SECONDS} seconds.")


def report(name: str, responses: Responses) -> None:
    """Print one row of the table."""
    median, high, longest = np.percentile(responses.latencies, [50, 95, 100])
    rate = len(responses.bodies) / responses.seconds
    print(
        f"{name:<26} {rate:9.1f} {median:9.2f} {high:9.2f} {longest:9.2f} {responses.rejections:9}",
        flush=True,
    )


def run(url: str, images: Sequence[bytes], requests: int, at_once: int) -> int:
    """Send sequential, then concurrent requests, compare their results, and print a table.

    Returns:
        The number of results that differ.
    """
    title = ("requests/s", "median s", "95 % s", "longest s", "rejected")
    print(f"{'':<26} " + " ".join(f"{word:>9}" for word in title))
    sequential = asyncio.run(send_all(url, images, len(images), at_once=1))
    report(f"{len(images)}, sequential", sequential)
    concurrent = asyncio.run(send_all(url, images, requests, at_once))
    report(f"{requests}, {at_once} concurrent", concurrent)
    expected = [sequential.bodies[number % len(images)] for number in range(requests)]
    different = sum(map(bytes.__ne__, concurrent.bodies, expected))
    people = sum(len(json.loads(body)["scores"]) for body in sequential.bodies)
    print(f"{people} people in {len(images)} images; {different} of {requests} results differ")
    return different


def main() -> int:
    """Run the load test."""
    parser = argparse.ArgumentParser(description="Load test of the service.")
    parser.add_argument("--url", help="Address of a running service.")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="Folder of JPEG files; default: synthetic images.",
    )
    parser.add_argument(
        "--requests", type=int, default=200, metavar="N", help="Number of requests; default: 200."
    )
    parser.add_argument(
        "--at_once", type=int, default=200, metavar="N", help="Concurrent requests; default: 200."
    )
    arguments = parser.parse_args()
    if arguments.images:
        images = [path.read_bytes() for path in sorted(arguments.images.glob("*.jpg"))]
    else:
        images = draw_images(20)
    if arguments.url:
        return 1 if run(arguments.url, images, arguments.requests, arguments.at_once) else 0
    with running_service() as url:
        return 1 if run(url, images, arguments.requests, arguments.at_once) else 0


if __name__ == "__main__":
    raise SystemExit(main())
