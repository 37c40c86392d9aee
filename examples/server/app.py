"""HTTP service for pose estimation: one model, shared by a pool of threads.

    uvicorn --app-dir examples/server --factory app:create_app --timeout-keep-alive 75

Requests wait in a bounded queue. If it is full, a request is rejected immediately, so that latency
stays bounded. `README.md` describes the routes, the settings and the limits.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

import bodyposenet
from bodyposenet import BodyPoseNetError, PoseEstimator, Poses
from bodyposenet.cpu import usable_cores

PREFIX = "BPNET_SERVER_"
"""Prefix of the environment variables."""

_NO_IMAGE = BodyPoseNetError(
    "The request has no image",
    "Send the bytes of an image file as the body, or as a file of a form (multipart/form-data).",
)
_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"image": {"type": "string", "format": "binary"}},
            }
        },
    },
}
"""Request body of `/predict`, for the API documentation at `/docs`."""


class Settings(BaseModel):
    """Settings of the service; `BPNET_SERVER_QUEUE_LENGTH` sets `queue_length`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Path | None = None
    """Model file; None for the default model. The key of an encrypted file is `BPNET_KEY`."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda:0`."""
    workers: int = Field(default_factory=usable_cores, ge=1)
    """Images that are processed concurrently; default: one per core."""
    threads: int = Field(1, ge=1)
    """Threads of the network per image. 1, with a worker per core, gives the highest throughput;
    one worker with all cores gives the lowest latency."""
    queue_length: int = Field(32, ge=0)
    """Requests that wait for a worker; more are rejected."""
    timeout: float = Field(10.0, gt=0)
    """Seconds from the headers of a request to its result."""
    max_bytes: int = Field(16 * 2**20, ge=1)
    """Maximum size of a request's body in bytes."""
    score_threshold: float = Field(0.0, ge=0, le=1)
    """Minimum score of the people in a result, unless a request sets another threshold."""
    max_people: int | None = Field(None, ge=1)
    """Maximum number of people per image, unless a request sets another number."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings.

        Raises:
            BodyPoseNetError: A variable with the prefix has a wrong name or value.
        """
        values = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in environment.items()
            if name.startswith(PREFIX)
        }
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problem = error.errors()[0]
            variable = PREFIX + str(problem["loc"][0]).upper()
            known = ", ".join(PREFIX + name.upper() for name in cls.model_fields)
            raise BodyPoseNetError(
                f"{variable}: {problem['msg']}", f"Known variables: {known}."
            ) from error

    def load(self) -> PoseEstimator:
        """Load the model."""
        return bodyposenet.load(
            self.model,
            os.environ.get("BPNET_KEY"),
            device=self.device,
            threads=self.threads,
            concurrency=self.workers,
            score_threshold=self.score_threshold,
            max_people=self.max_people,
        )


class Metrics:
    """Prometheus metrics of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "bodyposenet_requests", "Requests to /predict", ["status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "bodyposenet_request_seconds",
            "Seconds from the headers of a request to its response",
            registry=self.registry,
        )
        self.inference_seconds = Histogram(
            "bodyposenet_inference_seconds",
            "Seconds to decode an image and detect the people",
            registry=self.registry,
        )
        self.pending = Gauge(
            "bodyposenet_pending_requests",
            "Requests that are waiting or being processed",
            registry=self.registry,
        )
        self.people = Counter("bodyposenet_people", "People detected", registry=self.registry)


class Service:
    """A model, the threads that share it, and the pending requests.

    `_infer` runs in a thread, everything else in the event loop.

    Args:
        model: The model.
        settings: The limits.
    """

    def __init__(self, model: PoseEstimator, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.pending = 0
        self._model = model
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="inference")
        self._seconds = 0.0  # moving average of the seconds per inference

    async def predict(self, request: Request, limits: Mapping[str, Any]) -> Poses:
        """Detect the people in the image of a request.

        Args:
            request: The request; its body is read.
            limits: `score_threshold` and `max_people`, if the request sets them.

        Raises:
            HTTPException: 503 if the queue is full, 413 if the body is too large, 408 if it does
                not arrive in time, 504 if there is no result in time.
            BodyPoseNetError: The body is not an image.
        """
        self._enter()
        work: Future[Poses] | None = None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.settings.timeout):
                content = await read_image(request, self.settings.max_bytes)
                work = self._pool.submit(self._infer, content, limits)
                # A timeout removes the work from the queue.
                return await asyncio.wrap_future(work)
        except TimeoutError as error:
            seconds = f"{self.settings.timeout:g} seconds"
            if work is None:
                raise HTTPException(408, f"The image did not arrive within {seconds}") from error
            raise HTTPException(504, f"No result within {seconds}") from error
        except ClientDisconnect as error:
            raise HTTPException(400, "The connection was closed") from error
        finally:
            if work is None:
                self._leave()
            else:  # a thread cannot be interrupted: it counts as pending until it is done
                work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))

    def close(self) -> None:
        """Wait for the running inferences, drop the waiting ones, and close the model."""
        self._pool.shutdown(cancel_futures=True)
        self._model.close()

    def _enter(self) -> None:
        """Count a pending request, or raise 503 if the queue is full."""
        if self.pending >= self.settings.workers + self.settings.queue_length:
            seconds = math.ceil(self._seconds * self.pending / self.settings.workers)
            raise HTTPException(
                503, "Too many requests are waiting", {"Retry-After": str(max(seconds, 1))}
            )
        self.pending += 1
        self.metrics.pending.set(self.pending)

    def _leave(self) -> None:
        self.pending -= 1
        self.metrics.pending.set(self.pending)

    def _infer(self, content: bytes, limits: Mapping[str, Any]) -> Poses:
        start = time.perf_counter()
        poses = self._model(content, **limits)
        seconds = time.perf_counter() - start
        self._seconds += (seconds - self._seconds) * (0.1 if self._seconds else 1.0)
        self.metrics.inference_seconds.observe(seconds)
        self.metrics.people.inc(len(poses))
        return poses


async def read_image(request: Request, max_bytes: int) -> bytes:
    """Read the image of a request: its body, or the first file of a form.

    Raises:
        HTTPException: 413 if the body has more than `max_bytes`, regardless of its header; 400 if
            the form is invalid.
        BodyPoseNetError: The request has no image.
    """
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise HTTPException(413, f"The body has {int(stated):,} bytes; at most {max_bytes:,}")
    limited = Request(request.scope, _limit(request.receive, max_bytes))
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        try:
            async with limited.form(max_files=1) as form:
                files = (field for field in form.values() if isinstance(field, UploadFile))
                file = next(files, None)
                content = await file.read() if file is not None else b""
        except FormParserError as error:
            raise HTTPException(400, f"Invalid form: {error}") from error
    else:
        content = await limited.body()
    if not content:
        raise _NO_IMAGE
    return content


def _limit(receive: Receive, max_bytes: int) -> Receive:
    """Wrap `receive`, and raise an error once the bodies exceed `max_bytes` in total."""
    left = max_bytes

    async def limited() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, f"The body has more than {max_bytes:,} bytes")
        return message

    return limited


def create_app(
    settings: Settings | None = None, load: Callable[[Settings], PoseEstimator] = Settings.load
) -> FastAPI:
    """Build the application.

    Args:
        settings: The settings; None to read them from the environment.
        load: Function that loads the model when the application starts.
    """
    settings = settings or Settings.from_environment()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        model = load(settings)
        model(np.zeros((64, 64, 3), np.uint8))  # compile the decoder before the first request
        app.state.service = service = Service(model, settings)
        yield
        service.close()

    app = FastAPI(title="bodyposenet", version=bodyposenet.__version__, lifespan=lifespan)
    app.add_exception_handler(BodyPoseNetError, _explain)
    app.middleware("http")(_measure)
    app.get("/health")(health)
    app.get("/metrics")(metrics)
    app.post("/predict", openapi_extra={"requestBody": _BODY})(predict)
    return app


async def predict(
    request: Request,
    score_threshold: Annotated[float | None, Query(ge=0, le=1)] = None,
    max_people: Annotated[int | None, Query(ge=1)] = None,
) -> dict[str, Any]:
    """Detect the people in an image; the response contains the lists of `Poses.to_dict`."""
    given = {"score_threshold": score_threshold, "max_people": max_people}
    limits = {name: value for name, value in given.items() if value is not None}
    poses = await request.app.state.service.predict(request, limits)
    boxes = np.nan_to_num(poses.boxes).astype(float).round(3).tolist()
    return {"joints": poses.skeleton.joints, "boxes": boxes, **poses.to_dict()}


async def health(request: Request) -> dict[str, Any]:
    """Report that the model is loaded, and the number of pending requests."""
    service = request.app.state.service
    return {
        "status": "ok",
        "version": bodyposenet.__version__,
        "pending": service.pending,
        "capacity": service.settings.workers + service.settings.queue_length,
    }


async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    registry = request.app.state.service.metrics.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


async def _explain(request: Request, error: Exception) -> JSONResponse:
    """Convert an error that the caller can fix to a response."""
    assert isinstance(error, BodyPoseNetError)
    return JSONResponse({"detail": error.what, "remedy": error.remedy}, 422)


async def _measure(request: Request, respond: Callable[..., Any]) -> Response:
    """Count and time requests to `/predict`."""
    if request.url.path != "/predict":
        return await respond(request)
    values, start, status = request.app.state.service.metrics, time.perf_counter(), 500
    try:
        response = await respond(request)
        status = response.status_code
        return response
    finally:
        values.requests.labels(status).inc()
        values.request_seconds.observe(time.perf_counter() - start)
