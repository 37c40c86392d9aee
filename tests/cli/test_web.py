"""`bpnet web`, with a package of the runtime that has invented files."""

import json
import socket
import threading
import urllib.request
from http.server import ThreadingHTTPServer

import pytest

from bodyposenet.exporting.web.server import address_of
from bodyposenet.inference.engines.onnx_file import write_etlt
from bodyposenet.inference.models import DEFAULT_MODEL_FOLDER, INT8_FILE
from tests.exporting.runtime_package import write_runtime_package

DEFAULT_INT8 = DEFAULT_MODEL_FOLDER / INT8_FILE


@pytest.fixture
def package(tmp_path, monkeypatch):
    return write_runtime_package(tmp_path / "package.tgz", monkeypatch)


def test_page_of_the_default_model(run_bpnet, tmp_path, package):
    site = tmp_path / "site"
    run = run_bpnet("web", "-o", site, "--runtime", package)
    assert run.code == 0, run.err
    assert str(site) in run.out
    configuration = json.loads((site / "model.json").read_text())
    types = {backend: each["data_type"] for backend, each in configuration["models"].items()}
    assert types == {"wasm": "int8-cpu", "webgpu": "fp16"}
    for entry in configuration["models"].values():
        assert (site / entry["file"]).stat().st_size == entry["bytes"]
    assert "Intel" in (site / configuration["model_card"]).read_text(encoding="utf-8-sig")
    for script in configuration["runtime"]["scripts"].values():
        assert (site / "runtime" / script).exists()


def test_sealed_int8_model_is_for_cpus_only(run_bpnet, tmp_path, package):
    model, site = tmp_path / "model.etlt", tmp_path / "site"
    write_etlt(model, DEFAULT_INT8.read_bytes(), "key")
    command = ["web", "-m", model, "-k", "key", "-o", site, "--runtime", package]
    run = run_bpnet(*command)
    assert run.code == 0, run.err
    assert "plain" in run.err
    assert list(json.loads((site / "model.json").read_text())["models"]) == ["wasm"]
    assert not (site / "runtime" / "ort.jspi.min.mjs").exists()

    (site / "model.json").write_text("{}")
    refused = run_bpnet(*command)
    assert refused.code == 2
    assert str(site) in refused.err and "--overwrite" in refused.err
    assert run_bpnet(*command, "--overwrite").code == 0
    assert json.loads((site / "model.json").read_text())["models"]


def test_page_is_served_until_an_interrupt(run_bpnet, tmp_path, package, monkeypatch):
    """The page can be loaded while the server runs; an interrupt is no error."""
    monkeypatch.setenv("no_proxy", "*")
    loaded = []

    def load_page(server):
        thread = threading.Thread(target=lambda: [server.handle_request() for _ in range(2)])
        thread.start()
        for name in ("index.html", "model.json"):
            with urllib.request.urlopen(address_of(server) + name) as response:
                loaded.append(response.read())
        thread.join()
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", load_page)
    site = tmp_path / "site"
    run = run_bpnet("web", "-o", site, "--no-webgpu", "--runtime", package, "--serve", "0")
    assert run.code == 0, run.err
    assert "http://127.0.0.1:" in run.out
    assert loaded == [(site / name).read_bytes() for name in ("index.html", "model.json")]


def test_port_in_use_is_an_error_without_files(run_bpnet, tmp_path, package):
    site = tmp_path / "site"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        run = run_bpnet("web", "-o", site, "--runtime", package, "--serve", port)
    assert run.code == 2
    assert str(port) in run.err
    assert not site.exists()


@pytest.mark.parametrize("name", ["missing.onnx", "model.tlt", "notes.txt", "damaged.onnx"])
def test_other_files_are_errors(run_bpnet, tmp_path, name, package):
    model, site = tmp_path / name, tmp_path / "site"
    if name != "missing.onnx":
        model.write_bytes(b"no model")
    run = run_bpnet("web", "-m", model, "-o", site, "--runtime", package)
    assert run.code == 2
    assert name in run.err
    assert not site.exists()


def test_presets_are_errors(run_bpnet, tmp_path, package):
    run = run_bpnet("web", "-m", "fast", "-o", tmp_path / "site", "--runtime", package)
    assert run.code == 2
    assert "fast: a preset" in run.err
    assert not (tmp_path / "site").exists()
