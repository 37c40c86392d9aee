"""Tests of INT8 models on processors whose sums saturate at 16 bits."""

import json

import numpy as np
import onnxruntime
import pytest

from bodyposenet.exporting.int8.quantization import QuantizationOptions, to_int8
from bodyposenet.exporting.int8.ranges import Range
from bodyposenet.inference.engines import onnx

from ..exported_models import HEADER, expected_maps, write_model

AVOID_SATURATION = "session.x64quantprecision"

BRIGHT = np.random.default_rng(0).integers(200, 256, (1, 64, 96, 3)).astype(np.uint8)
"""Pixels near 255 times weights near 127: a sum of two such products exceeds 16 bits."""
ROUNDING = 0.03
"""Maximum change of the maps of `BRIGHT` by INT8; saturated sums change them by up to 1."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("processor") / "m.onnx"
    return write_model(path, metadata={"bodyposenet": json.dumps(HEADER)})


@pytest.fixture(scope="module")
def int8(model):
    ranges = {"cells": Range(-0.5, 0.5), "heatmaps": Range(-4.0, 4.0), "fields": Range(-4.0, 4.0)}
    quantization = QuantizationOptions("cpu", float_outputs=False, strict=True)
    return to_int8(model.read_bytes(), ranges, quantization)


@pytest.fixture(autouse=True)
def _clear_cache():
    onnx.int8_sums_saturate.cache_clear()
    yield
    onnx.int8_sums_saturate.cache_clear()


def on_processor(monkeypatch, machine, **features):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: features)


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [
        ("x86_64", {"avx2": True, "avx512vnni": False}, True),
        ("AMD64", {"avx2": True, "avxvnni": True}, False),
        ("x86_64", {"avx512vnni": True}, False),
        ("aarch64", {}, False),
    ],
)
def test_which_processors_saturate(monkeypatch, machine, features, expected):
    on_processor(monkeypatch, machine, **features)
    assert onnx.int8_sums_saturate() is expected


def record_sessions(monkeypatch):
    """Record for every opened session whether it avoids saturation."""
    opened = []
    real = onnxruntime.InferenceSession

    def open_session(model, options, **others):
        session = real(model, options, **others)
        try:
            opened.append(options.get_session_config_entry(AVOID_SATURATION) == "1")
        except RuntimeError:  # the option was not set
            opened.append(False)
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    return opened


def largest_error(engine):
    """Return the largest error of the maps of `BRIGHT`, compared with those of the float model."""
    (maps,) = engine.infer(BRIGHT)
    pairs = zip((maps.heatmaps, maps.pafs), expected_maps(BRIGHT[0]), strict=True)
    return max(float(np.abs(values - expected).max()) for values, expected in pairs)


def test_saturation_is_avoided_on_old_processors(int8, monkeypatch):
    on_processor(monkeypatch, "x86_64", avx512vnni=True)
    opened = record_sessions(monkeypatch)
    plain = largest_error(onnx.load("m", content=int8, device="cpu"))
    assert not any(opened)
    onnx.int8_sums_saturate.cache_clear()
    on_processor(monkeypatch, "x86_64", avx512vnni=False)
    exact = largest_error(onnx.load("m", content=int8, device="cpu"))
    assert opened[-1]
    assert exact < ROUNDING
    assert exact <= plain + 1e-3  # equal on a processor whose sums do not saturate


@pytest.mark.parametrize("has_vnni", [False, True])
def test_openvino_warns_about_old_processors(int8, monkeypatch, caplog, has_vnni):
    openvino = pytest.importorskip("bodyposenet.inference.engines.openvino")
    on_processor(monkeypatch, "x86_64", avx512vnni=has_vnni)
    openvino.load("m.onnx", content=int8)
    assert ("m.onnx" in caplog.text and "VNNI" in caplog.text) is not has_vnni


def test_the_maps_are_accurate_on_this_processor(int8):
    assert largest_error(onnx.load("m", content=int8, device="cpu")) < ROUNDING


def test_other_files_are_opened_without_the_option(model, monkeypatch):
    monkeypatch.setattr(onnx, "int8_sums_saturate", None)  # must not be called
    opened = record_sessions(monkeypatch)
    onnx.load(model, device="cpu")
    assert opened == [False]
