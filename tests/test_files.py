"""A file is the old one or the new one, never half of one."""

import errno
import json
import os

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import make_directory, read_json, replacing, write_json


def names_in(folder) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_writes_and_makes_the_folder(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    with replacing(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names_in(path.parent) == ["file"]


@pytest.mark.parametrize("durable", [False, True])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, durable):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path, durable=durable) as file:
        file.write(b"ne")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(BodyPoseNetError, match=r"file: cannot be written: No space left") as caught,
        replacing(path, durable=True) as file,
    ):
        file.write(b"new")
    assert "Free some space" in caught.value.remedy
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_only_durable_files_are_flushed_to_disk(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    with replacing(tmp_path / "picture") as file:
        file.write(b"p")
    assert not flushed
    with replacing(tmp_path / "model", durable=True) as file:
        file.write(b"m")
    assert len(flushed) == 1


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(BodyPoseNetError, match="cannot be written"):
        write_json(tmp_path / "taken" / "file.json", {})
    with pytest.raises(BodyPoseNetError, match="cannot write results there"):
        make_directory(tmp_path / "taken")


def test_json_is_text_that_people_can_read(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Zoë", "n": [1, 2.5]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "Zoë", "n": [1, 2.5]}
    assert "Zoë" in text
    assert text.endswith("}\n")


def test_json_of_others_is_read_with_or_without_a_byte_order_mark(tmp_path):
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "a.json").write_text('{"name": "Zoë"}', encoding=encoding)
        assert read_json(tmp_path / "a.json") == {"name": "Zoë"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.json:1: not valid JSON"),
        (b'{"a": 1,\n "b": }', r"a\.json:2: not valid JSON: Expecting value"),
        (b'"\x80\xff"', r"a\.json: not a text file"),
        (b"[" * 100_000, r"a\.json: the values are nested too deeply"),
        (b"9" * 6000, r"a\.json: holds a number too long"),
        (None, r"a\.json: cannot be read: No such file"),
    ],
)
def test_json_that_cannot_be_read_is_an_error_that_names_the_file(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BodyPoseNetError, match=message) as caught:
        read_json(tmp_path / "a.json", "Try another.")
    assert caught.value.remedy == "Try another."


def test_names_of_files_that_are_no_text_come_back_from_json(tmp_path):
    name = os.fsdecode(b"M\xfcller \xc3\xa4.jpg")
    write_json(tmp_path / "a.json", [name])
    assert read_json(tmp_path / "a.json") == [name]


def test_make_directory(tmp_path):
    assert make_directory(tmp_path / "a" / "b").is_dir()
    assert make_directory(tmp_path / "a" / "b").is_dir()
    assert names_in(tmp_path / "a" / "b") == []
