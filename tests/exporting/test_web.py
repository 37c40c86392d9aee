"""Web pages: the package of the runtime, the files of a page, its server, and preprocessing.

None of these tests needs the network: the npm package is a small one with invented files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError

import cv2
import numpy as np
import onnxruntime
import pytest

import bodyposenet
from bodyposenet import BodyPoseNetError
from bodyposenet.demo import draw_scene
from bodyposenet.exporting.web import runtime
from bodyposenet.exporting.web.model import WebModel
from bodyposenet.exporting.web.server import address_of, open_server
from bodyposenet.exporting.web.site import HEADERS, site_files, write_site
from bodyposenet.inference.engines.base import ModelDescription
from bodyposenet.inference.engines.exported import InputSignature, prepare
from bodyposenet.inference.models import DEFAULT_MODEL_FOLDER, INT8_FILE
from bodyposenet.inference.predictor import Predictor
from bodyposenet.specs.inference import InferenceSpec
from tests.exporting.decoding_maps import SKELETON, maps_model
from tests.exporting.runtime_package import FILES, write_runtime_package

RESOURCES = Path(bodyposenet.__file__).parent / "resources" / "web"


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    return write_runtime_package(tmp_path / "package.tgz", monkeypatch)


@pytest.fixture
def downloads(monkeypatch, tmp_path, package) -> list[str]:
    """The addresses that are downloaded; the cache is empty."""
    addresses = []

    def download(address: str, *, seconds: float) -> bytes:
        addresses.append(address)
        return package.read_bytes()

    monkeypatch.setattr(runtime, "download", download)
    monkeypatch.setattr(runtime, "package_cache", lambda: tmp_path / "cache" / "package.tgz")
    return addresses


def test_runtime_has_the_files_of_the_backends(package):
    assert set(runtime.read_runtime(["wasm"], package)) == set(FILES[:3])
    files = runtime.read_runtime(["wasm", "webgpu"], package)
    assert files == {name: name.encode() for name in FILES}


def test_runtime_is_downloaded_once(downloads):
    first = runtime.read_runtime(["wasm"])
    assert runtime.read_runtime(["wasm"]) == first
    assert downloads == [runtime.ADDRESS]


def test_damaged_cache_is_downloaded_again(downloads):
    runtime.package_cache().parent.mkdir()
    runtime.package_cache().write_bytes(b"half a file")
    runtime.read_runtime(["wasm"])
    assert downloads == [runtime.ADDRESS]
    runtime.read_runtime(["wasm"])
    assert len(downloads) == 1


def test_wrong_checksum_of_a_download_is_an_error(downloads, monkeypatch):
    monkeypatch.setattr(runtime, "INTEGRITY", "sha512-of-another-file")
    with pytest.raises(BodyPoseNetError) as raised:
        runtime.read_runtime(["wasm"])
    assert runtime.ADDRESS in raised.value.what
    assert "--runtime" in raised.value.remedy
    assert not runtime.package_cache().exists()


def test_offline_error_has_the_address_and_the_option(monkeypatch, tmp_path):
    def download(address: str, *, seconds: float) -> bytes:
        raise BodyPoseNetError(f"{address}: cannot be reached")

    monkeypatch.setattr(runtime, "download", download)
    monkeypatch.setattr(runtime, "package_cache", lambda: tmp_path / "missing.tgz")
    with pytest.raises(BodyPoseNetError) as raised:
        runtime.read_runtime(["wasm"])
    assert runtime.ADDRESS in raised.value.what
    assert "--runtime" in raised.value.remedy


@pytest.mark.parametrize("content", [None, b"another file"])
def test_wrong_package_is_an_error(tmp_path, content):
    path = tmp_path / "package.tgz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BodyPoseNetError) as raised:
        runtime.read_runtime(["wasm"], path)
    assert str(path) in raised.value.what
    assert runtime.ADDRESS in raised.value.remedy


@pytest.fixture(scope="module")
def default_model() -> WebModel:
    path = DEFAULT_MODEL_FOLDER / INT8_FILE
    return WebModel.read(path, path.read_bytes())


def test_decoding_is_appended_once(default_model):
    session = onnxruntime.InferenceSession(default_model.content)
    assert [output.name for output in session.get_outputs()] == ["peaks", "paf_scores"]
    again = WebModel.read(Path("model.onnx"), default_model.content)
    assert again == default_model
    assert default_model.images.fixed_shape is None
    assert default_model.images.normalizes_input


def test_model_without_images_as_input_is_an_error():
    with pytest.raises(BodyPoseNetError, match=r"maps\.onnx"):
        WebModel.read(Path("maps.onnx"), maps_model(SKELETON))


def test_site_describes_its_model(default_model, package):
    files = site_files({"wasm": default_model}, runtime.read_runtime(["wasm"], package))
    content = files["model.onnx"]
    assert content == default_model.content
    configuration = json.loads(files["model.json"])
    entry = configuration["models"]["wasm"]
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert (entry["file"], entry["bytes"]) == ("model.onnx", len(content))
    assert entry["integrity"] == f"sha256-{digest}"
    assert entry["data_type"] == "int8-cpu"
    skeleton = default_model.description.skeleton
    assert configuration["decoding"]["joints"] == list(skeleton.joints)
    assert len(configuration["colors"]) == len(skeleton.limbs)
    assert configuration["runtime"]["scripts"] == {"wasm": "ort.wasm.min.mjs"}
    assert files[configuration["example"]].startswith(b"\xff\xd8")  # JPEG


def test_site_has_the_licenses_and_the_model_card(default_model, package):
    models = {"wasm": default_model}
    files = site_files(models, runtime.read_runtime(models, package), "96 × 96")
    licenses = files["LICENSES.txt"].decode()
    assert (Path(__file__).parents[2] / "LICENSE").read_text() in licenses
    assert "Microsoft Corporation" in licenses and "Intel Corporation" in licenses
    card = json.loads(files["model.json"])["model_card"]
    assert files[card].decode("utf-8-sig") == "96 × 96"


def test_site_is_complete_and_loads_nothing_from_elsewhere(default_model, package):
    files = site_files({"wasm": default_model}, runtime.read_runtime(["wasm"], package))
    html = files["index.html"].decode()
    loaded = re.findall(r'(?:src|<link[^>]*href)="([^"]+)"', html)
    assert {"page.mjs", "page.css"} <= set(loaded) <= files.keys()
    for name, content in files.items():
        if name.endswith(".mjs") and "/" not in name:
            text = content.decode()
            imports = re.findall(r'(?:from|new URL\()\s*"\./([^"]+)"', text)
            assert all(each in files or each == "runtime/" for each in imports)
            assert "http:" not in text and "https:" not in text
    for name, value in HEADERS.items():
        assert f"{name}: {value}" in files["_headers"].decode()
    assert HEADERS["Content-Security-Policy"] in html


def test_backends_with_different_models(default_model, package):
    other = WebModel.read(Path("model.onnx"), default_model.content)
    models = {"wasm": default_model, "webgpu": other}
    files = site_files(models, runtime.read_runtime(models, package))
    configuration = json.loads(files["model.json"])
    names = {backend: each["file"] for backend, each in configuration["models"].items()}
    assert names == {"wasm": "model-wasm.onnx", "webgpu": "model-webgpu.onnx"}
    assert set(names.values()) <= files.keys()
    shared = {"wasm": default_model, "webgpu": default_model}
    assert "model.onnx" in site_files(shared, runtime.read_runtime(shared, package))


def test_server_sends_headers_and_types(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    write_site(tmp_path, {"index.html": b"<p>", "a.mjs": b"0", "runtime/b.wasm": b"1"})
    with open_server(tmp_path, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            types = {}
            for name in ("", "a.mjs", "runtime/b.wasm"):
                with urllib.request.urlopen(address_of(server) + name) as response:
                    types[name] = response.headers.get_content_type()
                    assert all(response.headers[key] == value for key, value in HEADERS.items())
            with pytest.raises(HTTPError) as raised:
                urllib.request.urlopen(address_of(server) + "missing")
            raised.value.close()
            assert raised.value.code == 404
            with pytest.raises(BodyPoseNetError, match=str(server.server_address[1])):
                open_server(tmp_path, server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
    expected = {"": "text/html", "a.mjs": "text/javascript", "runtime/b.wasm": "application/wasm"}
    assert types == expected


def test_connection_closed_by_the_browser_prints_no_traceback(tmp_path, capsys):
    write_site(tmp_path, {"large.wasm": bytes(20_000_000)})
    with open_server(tmp_path, 0) as server:
        server.daemon_threads = False  # waited for at the end
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with socket.create_connection(server.server_address) as connection:
            connection.sendall(b"GET /large.wasm HTTP/1.0\r\n\r\n")
            connection.recv(100)
        thread.join()
    assert capsys.readouterr().err == ""


RESIZE = """
import { readFileSync, writeFileSync } from "node:fs";
import { fitImage, resizeToInput, toImage, toTensorData } from MODULE;
const cases = JSON.parse(readFileSync(0, "utf8"));
const results = cases.map(({ file, width, height, size, input }) => {
  const data = new Uint8ClampedArray(readFileSync(file));
  const fit = fitImage(width, height, size, input);
  const tensor = toTensorData(resizeToInput({ data, width, height }, fit), input);
  writeFileSync(`${file}.out`, tensor.data);
  return { dims: tensor.dims, origin: toImage({ x: 0, y: 0 }, fit) };
});
console.log(JSON.stringify(results));
"""


class Case(NamedTuple):
    """An image size and the input of a model, of which the shorter side is 112 pixels."""

    height: int
    width: int
    channels_last: bool = True
    is_float: bool = False
    fixed_shape: tuple[int, int] | None = None


CASES = {
    "enlarged": Case(96, 130),
    "reduced": Case(221, 170),
    "averaged": Case(333, 517),
    "averaged_in_pairs": Case(240, 320),
    "narrow": Case(90, 301, fixed_shape=(128, 160)),
    "normalized": Case(150, 160, is_float=True),
    "channels_first": Case(150, 160, channels_last=False),
    "normalized_channels_first": Case(150, 160, channels_last=False, is_float=True),
}
SIZE = 112
DESCRIPTION = ModelDescription(SKELETON, (255.0, 256.0, 250.0), (0.5, 0.4, 0.6), 1)


@pytest.fixture(scope="module")
def network_inputs(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The results of the page's script for all cases: `dims`, `data` and `origin`."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    folder = tmp_path_factory.mktemp("inputs")
    module = json.dumps((RESOURCES / "network_input.mjs").as_uri())
    (folder / "main.mjs").write_text(RESIZE.replace("MODULE", module))
    tasks = []
    for name, case in CASES.items():
        image = draw_case(case)
        opaque = np.full(image.shape[:2], 255, np.uint8)
        np.dstack([image, opaque]).tofile(folder / name)
        tasks.append(
            {
                "file": str(folder / name), "width": case.width, "height": case.height,
                "size": SIZE,
                "input": {
                    "stride": 8, "fixed_shape": case.fixed_shape,
                    "type": "float32" if case.is_float else "uint8",
                    "channels_last": case.channels_last,
                    "image_scale": DESCRIPTION.image_scale,
                    "image_offset": DESCRIPTION.image_offset,
                },
            }
        )  # fmt: skip
    run = subprocess.run(
        [node, str(folder / "main.mjs")],
        input=json.dumps(tasks), capture_output=True, text=True, check=True,
    )  # fmt: skip
    results = dict(zip(CASES, json.loads(run.stdout), strict=True))
    for name, result in results.items():
        dtype = np.float32 if CASES[name].is_float else np.uint8
        result["data"] = np.fromfile(folder / f"{name}.out", dtype).reshape(result["dims"])
    return results


def draw_case(case: Case) -> np.ndarray:
    return draw_scene(np.random.default_rng(0), case.height, case.width)[0]


@pytest.mark.skipif(cv2.__version__ < "5", reason="OpenCV 4 interpolates at 1/32 of a pixel")
@pytest.mark.parametrize("name", CASES)
def test_network_input_equals_that_of_python(network_inputs, name):
    case, result = CASES[name], network_inputs[name]
    mode = "pad_image_input" if case.fixed_shape else "adjust_network_input"
    shape = case.fixed_shape or (SIZE, SIZE)
    spec = InferenceSpec(input_shape=shape, keep_aspect_ratio_mode=mode)
    (expected,) = Predictor(StubEngine(), spec).prepare(draw_case(case))
    signature = InputSignature("input", case.channels_last, not case.is_float, None, None)
    tensor = prepare(expected.pixels[None], DESCRIPTION, signature)
    assert result["data"].shape == tensor.shape
    difference = np.abs(result["data"].astype(float) - tensor)
    level = 1 / 250 if case.is_float else 1
    assert difference.max() <= 1.001 * level
    assert (difference > 0.1 * level).mean() < 0.001
    (origin,) = expected.to_network.inverse().apply(np.zeros((1, 2)))
    assert list(result["origin"].values()) == pytest.approx(origin.tolist())


class StubEngine:
    """An engine that is only asked for its properties."""

    skeleton = SKELETON
    stride = 8
    stages = 1
    fixed_shape = None
