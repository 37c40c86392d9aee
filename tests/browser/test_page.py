"""The page of `bpnet web` in headless Chromium: poses as in Python, errors, and accessibility.

Skipped if Playwright, Chromium or the package of ONNX Runtime Web is missing.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import bodyposenet
from bodyposenet import BodyPoseNetError, PoseEstimator, Poses
from bodyposenet.demo import draw_scene
from bodyposenet.exporting.web.runtime import SCRIPTS, read_runtime
from bodyposenet.exporting.web.server import address_of, open_server
from bodyposenet.inference.models import DEFAULT_MODEL_WEIGHTS

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

SIZES = ((240, 320), (300, 260), (330, 480))  # of the drawn images
TIMEOUT = 60_000  # ms


@dataclass(frozen=True)
class Site:
    """A page that is served.

    Args:
        address: Its address.
        folder: Its files.
    """

    address: str
    folder: Path


@contextmanager
def serve_page(folder: Path, **options: Any) -> Iterator[Site]:
    """Write and serve the page; the test is skipped if ONNX Runtime Web is missing."""
    try:
        read_runtime(SCRIPTS)
    except BodyPoseNetError as error:
        pytest.skip(error.what)
    bodyposenet.write_web_page(results_dir=folder, **options)
    with open_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Site(address_of(server), folder)
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    with serve_page(tmp_path_factory.mktemp("site")) as site:
        yield site


class Visit:
    """A visit of the page, with everything that the browser reports."""

    def __init__(self, browser: Any, site: Site, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(site.address)
        self.expect("#status").to_contain_text("Ready", timeout=TIMEOUT)

    def expect(self, selector: str) -> Any:
        """Return assertions on an element, which wait until they are met."""
        return sync_api.expect(self.page.locator(selector))

    def open(self, file: Path) -> None:
        """Choose a photo, and wait for its people."""
        self.page.set_input_files("#file", str(file))
        self.expect("#status").to_contain_text(f"in {file.name}", timeout=TIMEOUT)

    def download(self) -> tuple[str, str]:
        """Return the name and text of the results."""
        with self.page.expect_download() as waiting:
            self.page.click("#download")
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_text()


@pytest.fixture(scope="module")
def shared_visit(browser, site) -> Iterator[Visit]:
    visit = Visit(browser, site)
    yield visit
    visit.context.close()


@pytest.fixture
def visit(shared_visit) -> Iterator[Visit]:
    """The page with its initial settings; it is opened once, which takes seconds."""
    yield shared_visit
    shared_visit.problems.clear()
    shared_visit.page.fill("#threshold", "0.6")
    shared_visit.page.select_option("#size", "256")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scenes")
    paths = []
    for seed, shape in enumerate(SIZES):
        image, _ = draw_scene(np.random.default_rng(20 + seed), *shape)
        paths.append(folder / f"scene{seed}.png")
        cv2.imwrite(str(paths[-1]), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return paths


OPTIONS = {
    "input_shape": (256, 256),
    "keep_aspect_ratio_mode": "adjust_network_input",
    "complete_pose": False,
}
needs_opencv_5 = pytest.mark.skipif(
    cv2.__version__ < "5", reason="OpenCV 4 interpolates at 1/32 of a pixel"
)


@needs_opencv_5
def test_poses_of_the_float_model_equal_those_of_python(browser, scenes, tmp_path):
    with serve_page(tmp_path / "site", model=DEFAULT_MODEL_WEIGHTS) as site:
        visit = Visit(browser, site)
        model = bodyposenet.load(DEFAULT_MODEL_WEIGHTS, **OPTIONS)
        distances = measure_distances(visit, scenes, model)
        assert not visit.problems
        visit.context.close()
    assert distances.max() < 0.1


@needs_opencv_5
def test_poses_of_the_int8_model_equal_those_of_python(visit, site, scenes):
    """Quantization amplifies differences of rounding at uncertain keypoints."""
    distances = measure_distances(visit, scenes, bodyposenet.load(**OPTIONS))
    assert np.median(distances) < 0.2
    assert np.quantile(distances, 0.95) < 1
    assert distances.max() < 2
    assert not visit.problems
    assert all(each.startswith((site.address, "blob:")) for each in visit.requests)


def measure_distances(visit: Visit, photos: list[Path], model: PoseEstimator) -> NDArray:
    """Return the distances of the page's keypoints from those of Python in pixels.

    Number and scores of the people are asserted, and that 95 % of the keypoints are found.
    """
    distances = []
    for photo in photos:
        visit.open(photo)
        name, text = visit.download()
        assert name == "detections.json"
        document = json.loads(text)
        assert document["keypoint_names"] == list(model.skeleton.joints)
        (entry,) = document["images"]
        assert entry["full_image_path"] == photo.name
        found = confident(Poses.from_dict(entry, model.skeleton))
        expected = confident(model(photo))
        assert visit.page.inner_text("#people") == str(len(found))
        assert len(found) == len(expected) > 0
        assert found.scores == pytest.approx(expected.scores, abs=0.02)
        both = found.visible & expected.visible
        assert both.sum() >= 0.95 * expected.visible.sum()
        distances.append(np.linalg.norm(found.keypoints - expected.keypoints, axis=-1)[both])
    return np.concatenate(distances)


def confident(poses: Poses) -> Poses:
    """Return the people whom the page shows, best first."""
    order = np.argsort(-poses.scores)
    return poses[[k for k in order if poses.scores[k] >= 0.6]]


def test_drawing_equals_that_of_python(visit, scenes):
    """Except for antialiasing, and for the overlap of transparent limbs."""
    visit.open(scenes[0])
    skeleton = bodyposenet.load().skeleton
    poses = Poses.from_dict(json.loads(visit.download()[1])["images"][0], skeleton)
    address = visit.page.evaluate("document.querySelector('#canvas').toDataURL()")
    content = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
    canvas = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
    image = cv2.imread(str(scenes[0]), cv2.IMREAD_COLOR_RGB)
    expected = poses.draw(image)
    drawn = np.abs(expected.astype(int) - image).max(axis=2) > 8
    assert drawn.sum() > 500
    difference = np.abs(canvas.astype(int) - expected).max(axis=2)
    assert difference[drawn].mean() < 20
    assert difference[~drawn].mean() < 0.1


def test_settings_apply_at_once(visit, scenes):
    visit.open(scenes[0])
    assert visit.page.inner_text("#people") != "0"
    visit.page.focus("#threshold")
    visit.page.keyboard.press("End")
    visit.expect("#people").to_have_text("0")
    assert visit.page.inner_text("#score") == "1.00"
    visit.page.keyboard.press("Home")
    visit.expect("#people").not_to_have_text("0")
    before = json.loads(visit.download()[1])
    visit.page.select_option("#size", "192")
    visit.expect("#status").to_contain_text("in scene0.png", timeout=TIMEOUT)
    after = json.loads(visit.download()[1])
    assert before["inference_spec"]["input_shape"] == [256, 256]
    assert after["inference_spec"]["input_shape"] == [192, 192]
    assert after["images"] != before["images"]


def test_camera(visit):
    """Chromium's test camera shows a moving pattern without people."""
    visit.page.click("#camera")
    visit.expect("#rate").to_contain_text(".", timeout=TIMEOUT)
    visit.page.click("#stop")
    name, text = visit.download()
    assert name == "detections.jsonl"
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert len(lines) > 1 and lines[-1]["time"] > lines[0]["time"]
    assert not visit.problems


def test_camera_that_is_not_allowed(visit):
    visit.page.evaluate(
        """() => {
            navigator.mediaDevices.getUserMedia = async () => {
                throw new DOMException("denied", "NotAllowedError");
            };
        }"""
    )
    visit.page.click("#camera")
    visit.expect("#error").to_contain_text("not allowed")
    visit.page.evaluate("delete navigator.mediaDevices.getUserMedia")


def test_video(visit, scenes, tmp_path):
    film = tmp_path / "film.webm"
    image = cv2.imread(str(scenes[0]))
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"VP90"), 5, image.shape[1::-1])
    if not writer.isOpened():
        pytest.skip("OpenCV cannot write WebM")
    for _ in range(10):
        writer.write(image)
    writer.release()
    visit.page.set_input_files("#file", str(film))
    visit.expect("#rate").to_contain_text(".", timeout=TIMEOUT)
    visit.expect("#play").to_have_text("Play", timeout=TIMEOUT)  # at the end of the video
    lines = [json.loads(line) for line in visit.download()[1].splitlines()]
    assert all(line["scores"][0] > 0.6 for line in lines)
    assert not visit.problems


def test_unsupported_file_is_an_error_on_the_page(visit, scenes, tmp_path):
    for name, content in (("notes.txt", b"text"), ("broken.png", scenes[0].read_bytes()[:100])):
        file = tmp_path / name
        file.write_bytes(content)
        visit.page.set_input_files("#file", str(file))
        visit.expect("#error").to_contain_text(name)
    visit.open(scenes[0])
    visit.expect("#error").to_be_hidden()


def test_size_can_be_changed_while_a_large_photo_is_opened(visit, tmp_path):
    photo = tmp_path / "large.jpg"
    image, _ = draw_scene(np.random.default_rng(20), 240, 320)
    image = cv2.resize(image, (4800, 3600), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(photo), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    visit.page.set_input_files("#file", str(photo))
    visit.page.select_option("#size", "192")
    visit.expect("#status").to_contain_text(f"in {photo.name}", timeout=TIMEOUT)
    document = json.loads(visit.download()[1])
    assert document["images"][0]["full_image_path"] == photo.name
    assert document["inference_spec"]["input_shape"] == [192, 192]
    model = bodyposenet.load(**OPTIONS | {"input_shape": (192, 192)})
    found = confident(Poses.from_dict(document["images"][0], model.skeleton))
    expected = confident(model(photo))
    assert len(found) == len(expected) > 0
    distances = np.abs(found.keypoints - expected.keypoints)[found.visible & expected.visible]
    assert np.median(distances) < 0.25 * 3600 / 192  # of a network pixel


def test_source_that_was_opened_last_is_shown(visit, scenes, tmp_path):
    """Whatever was requested before, also if that fails later."""
    text = tmp_path / "notes.txt"
    text.write_text("text")
    for file in (scenes[0], text, scenes[1]):
        visit.page.set_input_files("#file", str(file))
    visit.page.click("#camera")
    visit.open(scenes[2])
    visit.expect("#error").to_be_hidden()
    visit.expect("#stop").to_be_hidden()
    assert visit.page.get_attribute("#canvas", "aria-label").startswith(scenes[2].name)
    assert not visit.problems


def test_first_of_several_dropped_files_is_shown(visit):
    visit.page.evaluate(
        """async () => {
            const photo = await (await fetch("example.jpg")).blob();
            const dataTransfer = new DataTransfer();
            for (const name of ["<b>.jpg", "other.jpg"]) {
                dataTransfer.items.add(new File([photo], name, { type: photo.type }));
            }
            document.dispatchEvent(new DragEvent("drop", { dataTransfer }));
        }"""
    )
    visit.expect("#status").to_contain_text("in <b>.jpg", timeout=TIMEOUT)
    visit.expect("#error").to_contain_text("<b>.jpg")
    assert visit.page.locator("b").count() == 0


def test_narrow_image_is_an_error_that_names_it(visit, tmp_path):
    """Marked as an error of the image, so that the page stays on its backend."""
    photo = tmp_path / "narrow.png"
    cv2.imwrite(str(photo), np.zeros((10, 400, 3), np.uint8))
    visit.page.set_input_files("#file", str(photo))
    visit.expect("#error").to_contain_text(photo.name)
    visit.expect("#error").to_contain_text("400")
    name = visit.page.evaluate(
        """async () => {
            const { Detector } = await import("./detector.mjs");
            const config = await (await fetch("model.json")).json();
            const detector = await Detector.open(config, "wasm");
            const image = await createImageBitmap(new ImageData(400, 10));
            return detector.detect(image, 256).catch(({ name }) => name);
        }"""
    )
    assert name == "ImageError"


def test_missing_model_is_an_error_on_the_page(browser, site):
    page = browser.new_page()
    page.route("**/*.onnx", lambda route: route.fulfill(status=404))
    page.goto(site.address)
    error = sync_api.expect(page.locator("#error"))
    error.to_contain_text("model-wasm.onnx", timeout=TIMEOUT)
    assert page.locator("#file").is_disabled()
    page.close()


def test_keyboard_reaches_every_control(visit, scenes):
    visit.open(scenes[0])
    visit.page.focus("#file")
    reached = []
    for _ in range(7):
        reached.append(visit.page.evaluate("document.activeElement.id"))
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate(outline) != "none"
    assert reached == ["file", "camera", "example", "download", "threshold", "size", "backend"]
    visit.page.focus("#example")
    visit.page.keyboard.press("Enter")
    visit.expect("#status").to_contain_text("in example.jpg", timeout=TIMEOUT)


def test_controls_have_names(visit):
    for control in ("file", "camera", "example", "threshold", "size", "backend"):
        assert visit.page.locator(f"#{control}").evaluate(
            "(each) => Boolean(each.labels?.[0]?.textContent.trim() || each.textContent.trim())"
        ), control


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screen_and_contrast(browser, site, scenes, scheme):
    size = {"width": 360, "height": 640}
    visit = Visit(browser, site, viewport=size, color_scheme=scheme)
    visit.open(scenes[2])
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    colors = {
        name: visit.page.evaluate(
            f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')"
        )
        for name in ("paper", "panel", "ink", "strong", "alert", "line")
    }
    for background in ("paper", "panel"):
        for text in ("ink", "strong", "alert"):
            assert contrast(colors[text], colors[background]) >= 4.5
        assert contrast(colors["line"], colors[background]) >= 3  # borders of controls
    visit.context.close()


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colors as #rrggbb (WCAG 2.2)."""
    bright, dark = sorted(map(luminance, (first, second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    channels = np.array([int(color.strip()[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
