"""Tests of examples/server: results, limits, metrics."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import httpx
import numpy as np
import pytest
import uvicorn

from bodyposenet import BodyPoseNetError, Poses
from bodyposenet.skeleton import Skeleton
from examples.server import load_test
from examples.server.app import Settings, create_app

ROW = Skeleton("row", ("left", "right"), ((0, 1),))


@dataclass
class BrightestPixelModel:
    """Fake model that detects one person, at the brightest pixel of each half of an image.

    Attributes:
        gate: Event that images wait for.
        active: Number of images being processed.
        max_active: Maximum of `active`.
        closed: Whether the model was closed.
        limits: Keyword arguments of each call.
        lock: Lock of the attributes.
    """

    gate: threading.Event = field(default_factory=threading.Event)
    active: int = 0
    max_active: int = 0
    closed: bool = False
    limits: list[dict] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, image, **limits) -> Poses:
        if not isinstance(image, bytes):
            return Poses.empty(ROW)
        with self.lock:
            self.active += 1
            self.max_active = max(self.max_active, self.active)
            self.limits.append(limits)
        try:
            self.gate.wait(30)
            return self.find(image)
        finally:
            with self.lock:
                self.active -= 1

    def find(self, image: bytes) -> Poses:
        gray = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)
        if gray is None:
            raise BodyPoseNetError("not an image", "send another")
        middle = gray.shape[1] // 2
        left, right = (
            np.unravel_index(half.argmax(), half.shape)[::-1]
            for half in np.split(gray, [middle], 1)
        )
        points = np.array([[left, np.add(right, (middle, 0))]], np.float32)
        return Poses(points, np.ones((1, 2)), np.ones(1), ROW)

    def close(self) -> None:
        self.closed = True


def brightest_pixel_model() -> BrightestPixelModel:
    """Return a model that does not wait."""
    model = BrightestPixelModel()
    model.gate.set()
    return model


@contextmanager
def serving(load, **settings) -> Iterator[httpx.Client]:
    """Run a service in a thread, and yield a client of it.

    Args:
        load: Function from the settings to a model, or a model.
        **settings: Settings of the service.
    """
    is_model = isinstance(load, BrightestPixelModel)
    app = create_app(Settings(**settings), (lambda _: load) if is_model else load)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def photo(x: int = 10, y: int = 20) -> bytes:
    """Return a dark image with bright pixels at (x, y) and (x + 40, y)."""
    pixels = np.zeros((48, 80, 3), np.uint8)
    pixels[y, [x, x + 40]] = 255
    return cv2.imencode(".png", pixels)[1].tobytes()


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name)))


def wait_for(condition) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the condition was not met within 10 seconds")


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(brightest_pixel_model(), max_bytes=20_000) as client:
        yield client


def test_a_body_and_a_form_have_the_same_result(client):
    body = client.post("/predict", content=photo())
    form = client.post("/predict", files={"image": ("a.png", photo())}, data={"note": "hi"})
    assert body.status_code == form.status_code == 200
    assert (
        body.json()
        == form.json()
        == {
            "joints": ["left", "right"],
            "boxes": [[10, 20, 50, 20]],
            "keypoints": [[[10, 20], [50, 20]]],
            "keypoint_scores": [[1, 1]],
            "scores": [1],
        }
    )
    assert Poses.from_dict(body.json(), ROW).to_dict().items() <= body.json().items()


def test_limits_are_passed_to_the_model():
    model = brightest_pixel_model()
    with serving(model) as client:
        client.post("/predict", content=photo())
        client.post("/predict?score_threshold=.5&max_people=2", content=photo())
        assert model.limits == [{}, {"score_threshold": 0.5, "max_people": 2}]
        for wrong in ("score_threshold=2", "max_people=0", "max_people=many"):
            assert client.post(f"/predict?{wrong}", content=photo()).status_code == 422
    assert model.closed


@pytest.mark.parametrize(
    "request_",
    [
        {"content": b"no image"},
        {"content": b""},
        {"data": {"image": "text"}},
        {"files": {"image": ("a.png", b"")}},
        {"files": {"image": ("a.png", b"no image")}},
    ],
    ids=["text", "nothing", "a form without a file", "an empty file", "a file of text"],
)
def test_a_body_that_is_not_an_image_is_an_error_with_a_remedy(client, request_):
    response = client.post("/predict", **request_)
    assert response.status_code == 422
    assert response.json()["detail"] and response.json()["remedy"]


def test_a_malformed_form_is_an_error(client):
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/predict", content=b"no form", headers=headers).status_code in (400, 422)
    files = [("image", ("a.png", photo())), ("image", ("b.png", photo()))]
    assert client.post("/predict", files=files).status_code == 400


def test_large_bodies_are_rejected_with_and_without_content_length(client):
    large = bytes(20_001)
    chunks = (bytes(3000) for _ in range(7))
    responses = [
        client.post("/predict", content=large),
        client.post("/predict", content=chunks),
        client.post("/predict", files={"image": ("a.png", large)}),
    ]
    assert [response.status_code for response in responses] == [413] * 3
    assert all("20,000" in response.json()["detail"] for response in responses)
    assert client.post("/predict", content=bytes(20_000)).status_code == 422


def test_concurrent_requests_have_their_own_results():
    model = brightest_pixel_model()
    with serving(model, workers=3, queue_length=200) as client, ThreadPoolExecutor(20) as pool:
        places = [(x, y) for x in range(0, 40, 4) for y in range(0, 48, 4)]
        responses = pool.map(lambda place: client.post("/predict", content=photo(*place)), places)
        found = [response.json()["keypoints"][0][0] for response in responses]
    assert found == [list(place) for place in places]
    assert 1 <= model.max_active <= 3


def test_concurrent_results_of_the_default_model_equal_sequential_ones():
    images, settings = load_test.draw_images(3), {"workers": 2, "queue_length": 20}
    model = Settings(**settings).load()
    expected = [model(image).to_dict() for image in images]
    assert any(each["scores"] for each in expected)
    with serving(lambda _: model, **settings) as client, ThreadPoolExecutor(15) as pool:
        responses = pool.map(lambda image: client.post("/predict", content=image), 5 * images)
        results = [response.json() for response in responses]
    for number, result in enumerate(results):
        assert expected[number % 3].items() <= result.items()
    with pytest.raises(BodyPoseNetError):  # the service has closed it
        model(images[0])


def test_a_full_queue_rejects_immediately():
    model = BrightestPixelModel()
    with serving(model, workers=1, queue_length=2) as client, ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(client.post, "/predict", content=photo()) for _ in range(3)]
        wait_for(lambda: client.get("/health").json()["pending"] == 3)
        rejected = client.post("/predict", content=photo())
        assert rejected.status_code == 503
        assert int(rejected.headers["Retry-After"]) >= 1
        assert client.get("/health").json() | {"version": ""} == {
            "status": "ok", "version": "", "pending": 3, "capacity": 3,
        }  # fmt: skip
        model.gate.set()
        assert [each.result().status_code for each in waiting] == [200] * 3
        wait_for(lambda: client.get("/health").json()["pending"] == 0)
        assert client.post("/predict", content=photo()).status_code == 200
    assert model.max_active == 1


def test_rejected_large_bodies_get_a_response():
    model = BrightestPixelModel()
    with serving(model, workers=1, queue_length=0, max_bytes=1_000_000) as client:
        for size in (1_200_000, 4_000_000):
            chunks = (bytes(100_000) for _ in range(size // 100_000))
            assert client.post("/predict", content=bytes(size)).status_code == 413
            assert client.post("/predict", content=chunks).status_code == 413
        with ThreadPoolExecutor(20) as pool:
            waiting = pool.submit(client.post, "/predict", content=photo())
            wait_for(lambda: client.get("/health").json()["pending"] == 1)
            rejected = pool.map(
                lambda _: client.post("/predict", content=bytes(400_000)), range(60)
            )
            assert [response.status_code for response in rejected] == [503] * 60
            model.gate.set()
            assert waiting.result().status_code == 200


def test_expect_continue_is_rejected_before_the_body():
    head = (
        b"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n"
    )
    with (
        serving(brightest_pixel_model(), max_bytes=100) as client,
        socket.create_connection((client.base_url.host, client.base_url.port)) as connection,
    ):
        connection.settimeout(10)
        connection.sendall(head)
        assert connection.recv(1000).split()[1] == b"413"


def test_timeouts_are_errors_and_remove_waiting_requests():
    model = BrightestPixelModel()
    with serving(model, workers=1, timeout=0.3) as client, ThreadPoolExecutor(3) as pool:
        requests = [pool.submit(client.post, "/predict", content=photo()) for _ in range(3)]
        assert [each.result().status_code for each in requests] == [504] * 3
        assert client.get("/health").json()["pending"] == 1  # a thread cannot be interrupted
        model.gate.set()
        wait_for(lambda: client.get("/health").json()["pending"] == 0)
        assert len(model.limits) == 1
        assert client.post("/predict", content=photo()).status_code == 200


def test_a_body_that_does_not_arrive_is_an_error():
    with serving(brightest_pixel_model(), timeout=0.3) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"
            )
            assert connection.recv(1000).split()[1] == b"408"
        with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"
            )
        wait_for(lambda: client.get("/health").json()["pending"] == 0)
        assert client.post("/predict", content=photo()).status_code == 200


def test_metrics_count_requests_people_and_inferences():
    with serving(brightest_pixel_model(), max_bytes=20_000) as client:
        for content in (photo(), photo(), b"no image", bytes(30_000)):
            client.post("/predict", content=content)
        client.get("/health")
        for status, count in (("200", 2), ("422", 1), ("413", 1)):
            assert metric(client, f'bodyposenet_requests_total{{status="{status}"}}') == count
        assert metric(client, "bodyposenet_people_total") == 2
        assert metric(client, "bodyposenet_inference_seconds_count") == 2
        assert metric(client, "bodyposenet_request_seconds_count") == 4
        assert metric(client, "bodyposenet_pending_requests") == 0
        assert metric(client, "process_resident_memory_bytes") > 1e6


def test_the_api_documentation_lists_both_kinds_of_body(client):
    assert client.get("/docs").status_code == 200
    operation = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert set(operation["requestBody"]["content"]) == {"image/*", "multipart/form-data"}
    assert {each["name"] for each in operation["parameters"]} == {"score_threshold", "max_people"}


def test_settings_come_from_the_environment():
    environment = {
        "BPNET_SERVER_MODEL": "model.onnx", "BPNET_SERVER_WORKERS": "4",
        "BPNET_SERVER_TIMEOUT": "2.5", "PATH": "/bin",
    }  # fmt: skip
    settings = Settings.from_environment(environment)
    assert str(settings.model) == "model.onnx"
    assert (settings.workers, settings.timeout) == (4, 2.5)
    assert Settings.from_environment({}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BPNET_SERVER_WORKERS", "0"),
        ("BPNET_SERVER_TIMEOUT", "soon"),
        ("BPNET_SERVER_WORKER", "2"),
    ],
)
def test_wrong_settings_name_the_variable(variable, value):
    with pytest.raises(BodyPoseNetError) as error:
        Settings.from_environment({variable: value})
    assert variable in error.value.what
    assert "BPNET_SERVER_QUEUE_LENGTH" in error.value.remedy


def test_the_load_test_compares_results(capsys):
    images = [photo(x) for x in range(5)]
    with serving(brightest_pixel_model(), workers=2, queue_length=2) as client:
        assert load_test.run(str(client.base_url), images, requests=30, at_once=10) == 0
    out = capsys.readouterr().out
    assert "30, 10 concurrent" in out and "0 of 30 results differ" in out


def test_the_load_test_finds_results_that_differ():
    class Inconsistent(BrightestPixelModel):
        def find(self, image):
            poses = super().find(image)
            return Poses(poses.keypoints + len(self.limits), np.ones((1, 2)), np.ones(1), ROW)

    model = Inconsistent()
    model.gate.set()
    with serving(model) as client:
        assert load_test.run(str(client.base_url), [photo()], requests=4, at_once=2) == 4


def test_the_images_of_the_load_test_are_images():
    sizes = [
        cv2.imdecode(np.frombuffer(each, np.uint8), 1).shape for each in load_test.draw_images(2)
    ]
    assert sizes == [(240, 320, 3), (480, 640, 3)]
