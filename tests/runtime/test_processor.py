"""INT8 for processors on those that add products of bytes in 16 bits."""

import numpy as np
import onnxruntime
import pytest

from bodyposenet.exporting.int8.calibration import CalibrationSource
from bodyposenet.exporting.int8.quantization import Quantization, quantized
from bodyposenet.runtime.engines import onnx, processor

EXACT = "session.x64quantprecision"


@pytest.fixture(scope="module")
def int8(exported, drawn_dataset):
    content = (exported / "model.onnx").read_bytes()
    source = CalibrationSource(drawn_dataset.folder / "test", None, None, 2, 1, (96, 128))
    return quantized(content, source, Quantization("cpu"))


@pytest.fixture(autouse=True)
def _asked_anew():
    processor.sums_bytes_in_16_bits.cache_clear()
    yield
    processor.sums_bytes_in_16_bits.cache_clear()


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
    assert processor.sums_bytes_in_16_bits() is expected


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


def test_old_processors_are_told_to_be_exact(int8, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3), np.uint8)
    on_processor(monkeypatch, "x86_64", avx512vnni=True)
    opened = sessions(monkeypatch)
    (expected,) = onnx.load("m", content=int8, on_cpu=True).infer(images)
    assert not any(opened)
    processor.sums_bytes_in_16_bits.cache_clear()
    on_processor(monkeypatch, "x86_64", avx512vnni=False)
    (found,) = onnx.load("m", content=int8, on_cpu=True).infer(images)
    assert opened[-1]
    np.testing.assert_allclose(found.heatmaps, expected.heatmaps, atol=0.05)


def test_other_files_are_opened_as_ever(exported, monkeypatch):
    monkeypatch.setattr(onnx, "sums_bytes_in_16_bits", None)  # cannot be called
    opened = sessions(monkeypatch)
    onnx.load(exported / "model.onnx", on_cpu=True)
    assert opened == [False]
