"""Sealed files: closed without the key, and every damage told."""

import logging
from pathlib import Path

import pytest

from bodyposenet import sealing
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.sealing import read_container, write_container

HEADER = {"kind": "model", "names": ["a", "ß"], "epoch": 3, "nested": {"b": 1.5, "a": None}}
BODY = bytes(range(256)) * 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.tlt"


@pytest.mark.parametrize("key", ["", "nvidia_tlt", "ключ"])
@pytest.mark.parametrize("body", [b"", BODY])
def test_what_is_written_is_read(path: Path, key: str, body: bytes):
    write_container(path, HEADER, body, key)
    assert read_container(path, key) == (HEADER, body)


def test_plain_files_are_the_same_bytes(path: Path):
    write_container(path, HEADER, BODY)
    first = path.read_bytes()
    write_container(path, dict(reversed(HEADER.items())), BODY)
    assert path.read_bytes() == first


def test_sealed_files_hide_the_body_and_differ(path: Path):
    write_container(path, HEADER, BODY, "key")
    first = path.read_bytes()
    write_container(path, HEADER, BODY, "key")
    assert path.read_bytes() != first
    assert BODY[:32] not in first


def test_a_plain_file_opens_with_any_key(path: Path, caplog: pytest.LogCaptureFixture):
    write_container(path, HEADER, BODY)
    with caplog.at_level(logging.DEBUG, "bodyposenet"):
        assert read_container(path, "key") == (HEADER, BODY)


def test_wrong_and_missing_keys_are_told_apart(path: Path):
    write_container(path, HEADER, BODY, "right")
    with pytest.raises(BodyPoseNetError, match="wrong key"):
        read_container(path, "wrong")
    with pytest.raises(BodyPoseNetError, match="sealed"):
        read_container(path)


@pytest.mark.parametrize("key", ["", "key"])
def test_every_truncation_is_an_error(path: Path, key: str):
    write_container(path, {"a": 1}, b"body", key)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BodyPoseNetError, match=r"cut short|empty"):
            read_container(path, key)


@pytest.mark.parametrize("key", ["", "key"])
def test_every_flipped_byte_is_an_error(path: Path, key: str):
    write_container(path, {"a": 1}, b"body", key)
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 0x04
        path.write_bytes(flipped)
        with pytest.raises(BodyPoseNetError):
            read_container(path, key)


def test_a_longer_file_is_an_error(path: Path):
    write_container(path, HEADER, BODY)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BodyPoseNetError, match="damaged"):
        read_container(path)


def test_the_header_of_a_sealed_file_is_authenticated(path: Path, monkeypatch: pytest.MonkeyPatch):
    """An edited header must not pass, not even with a corrected checksum."""
    monkeypatch.setattr(sealing, "_digest", lambda *parts: bytes(32))
    write_container(path, HEADER, BODY, "key")
    path.write_bytes(path.read_bytes().replace(b'"epoch":3', b'"epoch":4'))
    with pytest.raises(BodyPoseNetError, match="wrong key"):
        read_container(path, "key")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\x89HDF\r\n\x1a\nrest", "pretrained_weights"),
        (b"\x07\x00\x00\x00input_1 something sealed by NVIDIA", "NVIDIA"),
    ],
)
def test_foreign_files_are_named(path: Path, content: bytes, message: str):
    path.write_bytes(content)
    with pytest.raises(BodyPoseNetError) as error:
        read_container(path)
    assert message in str(error.value)


def test_a_newer_format_asks_for_an_update(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sealing, "FORMAT_VERSION", 2)
    write_container(path, HEADER, BODY)
    monkeypatch.undo()
    with pytest.raises(BodyPoseNetError, match="newer"):
        read_container(path)


def test_missing_files_and_folders_are_errors(tmp_path: Path):
    with pytest.raises(BodyPoseNetError, match="cannot be read"):
        read_container(tmp_path / "nothing.tlt")
    with pytest.raises(BodyPoseNetError, match="cannot be read"):
        read_container(tmp_path)
