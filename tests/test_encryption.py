"""Container files: encryption, and detection of damage."""

import os
import pickle
from pathlib import Path

import pytest

from bodyposenet import encryption
from bodyposenet.encryption import SealedKey, read_container, write_container
from bodyposenet.errors import BodyPoseNetError

HEADER = {"kind": "model", "names": ["a", "ß"], "epoch": 3, "nested": {"b": 1.5, "a": None}}
BODY = bytes(range(256)) * 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.tlt"


@pytest.mark.parametrize("key", ["", "nvidia_tlt", "ключ", os.fsdecode(b"\xff\x00\xaa")])
@pytest.mark.parametrize("body", [b"", BODY])
def test_written_files_can_be_read(path: Path, key: str, body: bytes):
    write_container(path, HEADER, body, key)
    assert read_container(path, key) == (HEADER, body)


def test_plain_files_are_deterministic(path: Path):
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


def test_a_plain_file_opens_with_any_key_and_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
):
    write_container(path, HEADER, BODY)
    assert read_container(path, "") == (HEADER, BODY)
    assert not caplog.records
    assert read_container(path, "key") == (HEADER, BODY)
    assert "model.tlt" in caplog.text
    assert "--require_sealed" in caplog.text


def test_sealed_key_rejects_plain_files(path: Path):
    write_container(path, HEADER, BODY, "key")
    required = pickle.loads(pickle.dumps(SealedKey("key")))  # as it is sent to other processes
    assert read_container(path, required) == (HEADER, BODY)
    write_container(path, HEADER, BODY)
    with pytest.raises(BodyPoseNetError, match=r"model\.tlt"):
        read_container(path, required)


def forge(path: Path, encoded: bytes, body: bytes = b"") -> None:
    """Write a file with a given header and body, and the right checksum."""
    prelude = encryption._PRELUDE.pack(encryption.MAGIC, 1, len(encoded), len(body))
    path.write_bytes(prelude + encryption._digest(prelude, encoded, body) + encoded + body)


@pytest.mark.parametrize(
    "encoded",
    [
        b"", b"{", b"{}", b"[]", b"null", b'"null"', b"\xff{}", b'{"header": 1e-320}',
        b'{"header": null}', b'{"header": {}, "seal": []}', b'{"header": {}, "seal": {}}',
        b'{"header": {}, "seal": {"nonce": "xy", "salt": "00"}}',
        b'{"header": {}, "seal": {"nonce": 1, "salt": []}}',
        b'{"header": ' + b"[" * 100_000, b'{"header": {"a": ' + b'{"a": ' * 900 + b"1" + b"}" * 902,
        b'{"header": {"a": "\\ud800"}}', b'{"header": {"a": ' + b"9" * 5000 + b"}}",
    ],
)  # fmt: skip
def test_invalid_headers_are_errors(path: Path, encoded: bytes):
    forge(path, encoded)
    for key in ("", "key"):
        with pytest.raises(BodyPoseNetError, match=r"model\.tlt.*header"):
            read_container(path, key)


@pytest.mark.parametrize(("header", "body"), [(2**32 - 1, 0), (2, 2**64 - 1), (2, 2**40)])
def test_lengths_beyond_the_file_allocate_no_memory(path: Path, header: int, body: int):
    path.write_bytes(encryption._PRELUDE.pack(encryption.MAGIC, 1, header, body) + bytes(40))
    with pytest.raises(BodyPoseNetError, match="truncated"):
        read_container(path)


def test_header_of_many_megabytes_is_rejected(path: Path):
    forge(path, b'{"header": {"a": "' + b"a" * 2**24 + b'"}}')
    with pytest.raises(BodyPoseNetError, match="damaged"):
        read_container(path)


def test_wrong_and_missing_keys_have_different_errors(path: Path):
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
        with pytest.raises(BodyPoseNetError, match=r"truncated|empty"):
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
    """A changed header is detected even if the checksum is corrected."""
    monkeypatch.setattr(encryption, "_digest", lambda *parts: bytes(32))
    write_container(path, HEADER, BODY, "key")
    path.write_bytes(path.read_bytes().replace(b'"epoch":3', b'"epoch":4'))
    with pytest.raises(BodyPoseNetError, match="wrong key"):
        read_container(path, "key")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\x89HDF\r\n\x1a\nrest", "hdf5"),
        (b"\x07\x00\x00\x00input_1 something sealed by NVIDIA", "NVIDIA"),
    ],
)
def test_errors_name_the_format_of_foreign_files(path: Path, content: bytes, message: str):
    path.write_bytes(content)
    with pytest.raises(BodyPoseNetError) as error:
        read_container(path)
    assert message in str(error.value)


def test_newer_format_version_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encryption, "FORMAT_VERSION", 2)
    write_container(path, HEADER, BODY)
    monkeypatch.undo()
    with pytest.raises(BodyPoseNetError, match="newer"):
        read_container(path)


def test_missing_files_and_folders_are_errors(tmp_path: Path):
    with pytest.raises(BodyPoseNetError, match="cannot be read"):
        read_container(tmp_path / "nothing.tlt")
    with pytest.raises(BodyPoseNetError, match="cannot be read"):
        read_container(tmp_path)
