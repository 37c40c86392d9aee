"""Errors of `bpnet inference` about engine files."""

import pytest

from bodyposenet.exporting.engine import EngineOptions, build_engine_file


@pytest.fixture(scope="module")
def engine(exported, tmp_path_factory):
    """An engine of OpenVINO; its key is "key"."""
    path = tmp_path_factory.mktemp("built") / "model.engine"
    content = (exported / "model.onnx").read_bytes()
    build_engine_file(content, path, EngineOptions("openvino"), "key")
    return path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-k", "other"), "wrong key"),
        (("-k", "key", "--engine", "pytorch"), "pytorch"),
        (("-k", "key", "--engine", "tensorrt"), "built by openvino"),
    ],
)
def test_errors_name_the_cause(run_bpnet, engine, drawn_dataset, tmp_path, flags, message):
    done = run_bpnet(
        "inference", "-m", engine, "--input_type", "dir",
        "--input", drawn_dataset.folder / "test", "-r", tmp_path, *flags,
    )  # fmt: skip
    assert done.code == 2
    assert message in done.err
