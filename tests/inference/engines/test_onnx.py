"""INT8 for processors on those that add products of bytes in 16 bits."""

import json

import numpy as np
import onnxruntime
import pytest

from bodyposenet.exporting.int8.quantization import QuantizationOptions, to_int8
from bodyposenet.exporting.int8.ranges import Range
from bodyposenet.inference.engines import onnx
from bodyposenet.inference.engines import onnx as processor

from ..exported_models import HEADER, expected_maps, write_model

EXACT = "session.x64quantprecision"

BRIGHT = np.random.default_rng(0).integers(200, 256, (1, 64, 96, 3)).astype(np.uint8)
"""Pixels near 255 times weights near 127: a sum of two such products exceeds 16 bits."""
ROUNDING = 0.03
"""Most that INT8 may change in a map of `BRIGHT`; sums cut off in 16 bits change up to 1."""


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
def _asked_anew():
    processor.int8_sums_saturate.cache_clear()
    yield
    processor.int8_sums_saturate.cache_clear()


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
def test_which_processors(monkeypatch, machine, features, expected):
    on_processor(monkeypatch, machine, **features)
    assert processor.int8_sums_saturate() is expected


def sessions(monkeypatch):
    """Of every session that is opened, whether it is told to be exact."""
    opened = []
    real = onnxruntime.InferenceSession

    def opening(model, options, **others):
        session = real(model, options, **others)
        try:
            opened.append(options.get_session_config_entry(EXACT) == "1")
        except RuntimeError:  # it was not set
            opened.append(False)
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", opening)
    return opened


def largest_error(engine):
    """Of the maps of `BRIGHT`, compared with those of the model in float."""
    (found,) = engine.infer(BRIGHT)
    maps = zip((found.heatmaps, found.pafs), expected_maps(BRIGHT[0]), strict=True)
    return max(float(np.abs(ours - expected).max()) for ours, expected in maps)


def test_old_processors_are_told_to_be_exact(int8, monkeypatch):
    on_processor(monkeypatch, "x86_64", avx512vnni=True)
    opened = sessions(monkeypatch)
    untold = largest_error(onnx.load("m", content=int8, device="cpu"))
    assert not any(opened)
    processor.int8_sums_saturate.cache_clear()
    on_processor(monkeypatch, "x86_64", avx512vnni=False)
    told = largest_error(onnx.load("m", content=int8, device="cpu"))
    assert opened[-1]
    assert told < ROUNDING
    assert told <= untold + 1e-3  # the same on a processor that is exact anyway


def test_the_maps_are_right_on_the_processor_that_is_there(int8):
    assert largest_error(onnx.load("m", content=int8, device="cpu")) < ROUNDING


def test_other_files_are_opened_as_ever(model, monkeypatch):
    monkeypatch.setattr(onnx, "int8_sums_saturate", None)  # cannot be called
    opened = sessions(monkeypatch)
    onnx.load(model, device="cpu")
    assert opened == [False]
