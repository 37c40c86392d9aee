"""Tests of encrypted ONNX files (.etlt)."""

import json

import pytest

from bodyposenet.encryption import read_container, write_container
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.engines.onnx_file import read_etlt, write_etlt
from bodyposenet.inference.models import open_engine
from bodyposenet.specs.inference import InferenceSpec

from ..exported_models import HEADER, check_maps, images, write_model


@pytest.fixture
def sealed(tmp_path):
    """An .etlt file with the key `key`, and the content of its ONNX file."""
    path = write_model(tmp_path / "m.onnx", metadata={"bodyposenet": json.dumps(HEADER)})
    write_etlt(tmp_path / "m.etlt", path.read_bytes(), "key")
    return tmp_path / "m.etlt", path.read_bytes()


def test_the_content_round_trips_and_the_header_is_readable(sealed):
    path, content = sealed
    assert read_etlt(path, "key") == content
    assert content[:999] not in path.read_bytes()
    write_etlt(path, content)
    assert read_container(path)[0] == HEADER | {"kind": "onnx"}


@pytest.mark.parametrize("engine", ["auto", "onnx", "openvino"])
def test_engines_run_an_encrypted_file(sealed, engine):
    opened = open_engine(InferenceSpec(), str(sealed[0]), "key", engine, threads=1)
    check_maps(opened, images(2, 16, 24))


def test_a_model_without_a_header_can_be_encrypted(tmp_path):
    content = write_model(tmp_path / "m.onnx").read_bytes()
    write_etlt(tmp_path / "m.etlt", content, "key")
    with pytest.raises(BodyPoseNetError, match=r"m\.etlt: .*joints"):
        open_engine(InferenceSpec(), str(tmp_path / "m.etlt"), "key")


@pytest.mark.parametrize(
    ("key", "message"), [("other", "wrong key"), ("", "the file is sealed")], ids=["other", "none"]
)
def test_a_wrong_or_missing_key_is_an_error(sealed, key, message):
    with pytest.raises(BodyPoseNetError, match=rf"m\.etlt: {message}"):
        open_engine(InferenceSpec(), str(sealed[0]), key)


def test_other_files_are_refused(sealed):
    path, _ = sealed
    write_container(path, {"kind": "model"}, b"")
    with pytest.raises(BodyPoseNetError, match=r"not an encrypted ONNX file.* model"):
        open_engine(InferenceSpec(), str(path))
    path.write_bytes(b"\x00\x00\x00\x00" + bytes(range(200)))
    with pytest.raises(BodyPoseNetError, match="not a file of bodyposenet") as error:
        open_engine(InferenceSpec(), str(path), "nvidia_tlt")
    assert "NVIDIA's own" in error.value.remedy


@pytest.mark.parametrize("size", [0, 7, 100, -9])
def test_content_that_is_not_onnx_is_refused(sealed, tmp_path, size):
    content = sealed[1][:size] or b"no model"
    with pytest.raises(BodyPoseNetError, match=r"n\.etlt: not an ONNX file, or damaged"):
        write_etlt(tmp_path / "n.etlt", content, "key")
    assert not (tmp_path / "n.etlt").exists()


def test_pytorch_cannot_run_an_onnx_file(sealed):
    with pytest.raises(BodyPoseNetError, match=r"pytorch .*\.etlt"):
        open_engine(InferenceSpec(), str(sealed[0]), "key", "pytorch")
