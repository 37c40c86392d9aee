"""Corrupted and truncated model files are reported as errors that name the file."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.engine import EngineOptions, build_engine_file
from bodyposenet.inference.engines.onnx_file import write_etlt
from bodyposenet.inference.models import open_engine
from bodyposenet.specs.inference import InferenceSpec

from ..inference.exported_models import HEADER, write_model

WITH_CHECKSUM = pytest.mark.parametrize("name", ["m.etlt", "m.engine"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a model as `m.onnx`, `m.etlt` and `m.engine`, unencrypted, as encryption is slow."""
    folder = tmp_path_factory.mktemp("models")
    metadata = {"bodyposenet": json.dumps(HEADER)}
    content = write_model(folder / "m.onnx", metadata=metadata).read_bytes()
    write_etlt(folder / "m.etlt", content)
    build_engine_file(content, folder / "m.engine", EngineOptions("openvino"))
    return folder


def open_damaged(folder, name, content):
    path = folder / f"damaged_{name}"
    path.write_bytes(content)
    with pytest.raises(BodyPoseNetError, match=f"damaged_{name}: ."):
        open_engine(InferenceSpec(), str(path))


@WITH_CHECKSUM
@settings(max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_corrupted_byte_is_an_error(folder, name, share, change):
    content = bytearray((folder / name).read_bytes())
    content[int(share * len(content))] ^= change
    open_damaged(folder, name, bytes(content))


@pytest.mark.parametrize("name", ["m.onnx", "m.etlt", "m.engine"])
@settings(max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_an_error(folder, name, share):
    content = (folder / name).read_bytes()
    open_damaged(folder, name, content[: int(share * len(content))])


@pytest.mark.parametrize("name", ["m.tlt", "m.onnx", "m.etlt", "m.engine"])
def test_files_of_another_format_are_errors(folder, name):
    for other in {"m.onnx", "m.etlt", "m.engine"} - {name}:
        open_damaged(folder, name, (folder / other).read_bytes())
