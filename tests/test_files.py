"""Atomic writing, checks of paths, and JSON."""

import errno
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import (
    atomic_folder,
    atomic_write,
    exists,
    is_file,
    is_folder,
    make_directory,
    read_json,
    refuse_existing,
    remove_stale_files,
    write_json,
)


def names_in(folder) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_atomic_write_creates_the_folder(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    with atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert names_in(path.parent) == ["file"]


@pytest.mark.parametrize("durable", [False, True])
def test_old_file_is_kept_after_an_error(tmp_path, durable):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path, durable=durable) as file:
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
        pytest.raises(BodyPoseNetError, match=r"file: .*No space left") as caught,
        atomic_write(path, durable=True) as file,
    ):
        file.write(b"new")
    assert "Free some space" in caught.value.remedy
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_only_durable_files_are_flushed_to_disk(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    with atomic_write(tmp_path / "picture") as file:
        file.write(b"p")
    assert not flushed
    with atomic_write(tmp_path / "model", durable=True) as file:
        file.write(b"m")
    assert len(flushed) == 1


def test_temporary_names_are_unpredictable(tmp_path):
    """Otherwise, another user could create a link with that name, and its target be overwritten."""
    names = set()
    for _ in range(2):
        with atomic_write(tmp_path / "file") as file:
            names.add(Path(file.name).name)
    assert len(names) == 2
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".file.tmp").symlink_to(victim)
    write_json(tmp_path / "file", {})
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "file").is_symlink()


def test_existing_temporary_file_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "planted").symlink_to(tmp_path / "victim")
    monkeypatch.setattr("bodyposenet.files.temporary_name", lambda path: tmp_path / "planted")
    with pytest.raises(BodyPoseNetError, match="File exists"), atomic_write(tmp_path / "file"):
        pass
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_file_names_of_maximum_length(tmp_path):
    for name in ("n" * 255, "ä" * 127):
        write_json(tmp_path / name, {})
        assert (tmp_path / name).exists()


def test_concurrent_writers_leave_one_complete_file(tmp_path):
    def write(number: int) -> None:
        with atomic_write(tmp_path / "file") as file:
            for _ in range(100):
                file.write(bytes([number]) * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(20)))
    content = (tmp_path / "file").read_bytes()
    assert content == content[:1] * 100_000
    assert names_in(tmp_path) == ["file"]


def test_symbolic_links_are_kept(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "file").symlink_to(tmp_path / "disk" / "real")
    for text in ("new", "newer"):  # at first, its target does not exist
        write_json(tmp_path / "file", text)
        assert (tmp_path / "file").is_symlink()
        assert read_json(tmp_path / "disk" / "real") == text
    assert names_in(tmp_path / "disk") == ["real"]


def test_other_exceptions_are_unchanged(tmp_path):
    for error in (OSError(errno.ENOSPC, "another disk"), ValueError("no number")):
        with pytest.raises(type(error)) as caught, atomic_write(tmp_path / "file"):
            raise error
        assert caught.value is error
    assert names_in(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_while_writing_names_the_file():
    for size in (1, 1_000_000):  # the flush fails, or the write
        with (
            pytest.raises(BodyPoseNetError, match=r"/dev/full: .*No space left"),
            atomic_write("/dev/full") as file,
        ):
            file.write(bytes(size))


def test_missing_folder_is_not_created_without_make_folder(tmp_path):
    with (
        pytest.raises(BodyPoseNetError, match=r"5\.png: "),
        atomic_write(tmp_path / "gone" / "5.png", make_folder=False),
    ):
        pass
    assert names_in(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="this system has no /dev/stdout")
def test_devices_are_written_directly(tmp_path):
    code = (
        "from bodyposenet.files import write_json\n"
        "print('before', flush=True)\n"
        "write_json('/dev/stdout', [1], indent=None)\n"
        "write_json('/dev/null', [2])\n"
        "print('after')\n"
    )
    command = [sys.executable, "-c", code]
    piped = subprocess.run(command, capture_output=True, check=True).stdout
    with open(tmp_path / "out", "wb") as file:
        subprocess.run(command, stdout=file, check=True)
    assert piped == (tmp_path / "out").read_bytes() == b"before\n[1]\nafter\n"
    assert names_in(tmp_path) == ["out"]
    assert not Path("/dev/null").is_file()


def test_file_in_place_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(BodyPoseNetError, match=r"taken.file\.json: "):
        write_json(tmp_path / "taken" / "file.json", {})
    with pytest.raises(BodyPoseNetError, match=r"taken: "):
        make_directory(tmp_path / "taken")


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "new" / "folder"
    for name in ("a.txt", "b.txt"):
        with atomic_folder(target) as folder:
            (folder / name).touch()
        assert names_in(target) == [name]
    assert names_in(target.parent) == ["folder"]


def test_the_old_folder_is_kept_after_an_error(tmp_path):
    target = tmp_path / "folder"
    target.mkdir()
    (target / "a.txt").touch()
    with pytest.raises(BodyPoseNetError) as raised, atomic_folder(target) as folder:
        raise BodyPoseNetError(f"{folder / 'b.txt'}: cannot be written")
    assert str(target / "b.txt") in raised.value.what
    assert names_in(tmp_path) == ["folder"]
    assert names_in(target) == ["a.txt"]


def test_temporary_folders_of_killed_runs_are_removed(tmp_path):
    killed = atomic_folder(tmp_path / "folder")
    folder = killed.__enter__()
    (folder / "a.txt").touch()
    assert remove_stale_files(tmp_path) == 0
    os.utime(folder, (0, 0))
    assert remove_stale_files(tmp_path) == 1
    assert names_in(tmp_path) == []


def test_json_is_readable_text(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Zoë", "n": [1, 2.5]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "Zoë", "n": [1, 2.5]}
    assert "Zoë" in text
    assert text.endswith("}\n")


def test_json_is_read_with_or_without_byte_order_mark(tmp_path):
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
        (b"9" * 6000, r"a\.json.*number"),
        (None, r"a\.json: cannot be read: No such file"),
    ],
)
def test_json_that_cannot_be_read_is_an_error_that_names_the_file(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BodyPoseNetError, match=message) as caught:
        read_json(tmp_path / "a.json", "Try another.")
    assert caught.value.remedy == "Try another."


def test_invalid_utf8_in_file_names_survives_json(tmp_path):
    name = os.fsdecode(b"M\xfcller \xc3\xa4.jpg")
    write_json(tmp_path / "a.json", [name])
    assert read_json(tmp_path / "a.json") == [name]


def test_exists_is_file_and_is_folder(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert exists(tmp_path)
    assert is_folder(tmp_path)
    assert not is_file(tmp_path)
    assert exists(tmp_path / "file")
    assert is_file(tmp_path / "file")
    assert not is_folder(tmp_path / "file")
    for name in ("lost", "n" * 300, "n/" * 5000, "file/below", "loop", "null\0"):
        assert not exists(tmp_path / name)
        assert not is_file(str(tmp_path / name))
        assert not is_folder(tmp_path / name)
        refuse_existing(tmp_path / name, overwrite=False)


def test_missing_permission_is_an_error(tmp_path, monkeypatch):
    def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "stat", refuse)
    for check in (exists, is_file, is_folder):
        with pytest.raises(BodyPoseNetError, match=r"model\.tlt: .*Permission denied"):
            check(tmp_path / "model.tlt")


@pytest.mark.parametrize("name", ["n" * 300, "null\0"])
def test_invalid_folder_names_are_errors(tmp_path, name):
    with pytest.raises(BodyPoseNetError, match=f"{name}: "):
        make_directory(tmp_path / name)


def test_make_directory(tmp_path):
    assert make_directory(tmp_path / "a" / "b").is_dir()
    assert make_directory(tmp_path / "a" / "b").is_dir()
    assert names_in(tmp_path / "a" / "b") == []
