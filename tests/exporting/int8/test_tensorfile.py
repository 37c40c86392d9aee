"""Tests of tensorfiles: TAO's layout, streaming, and files that cannot be used."""

import sys
import weakref

import h5py
import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.int8.tensorfile import (
    TensorfileInfo,
    read_tensorfile,
    read_tensorfile_info,
    write_tensorfile,
)

SHAPE = 16, 24


def batches(count=3, dtype=np.float32):
    random = np.random.default_rng(0)
    return [random.normal(size=(2, *SHAPE, 3)).astype(dtype) for _ in range(count)]


def test_layout_is_that_of_tao(tmp_path):
    write_tensorfile(tmp_path / "cal.tensorfile", iter(batches()))
    with h5py.File(tmp_path / "cal.tensorfile") as file:
        assert file.attrs["count"] == 3
        assert tuple(file.attrs["shape"]) == (2, *SHAPE, 3)
        stored = file["_tensorfile_array_key__2"]["_tensorfile_array_key_"]
        assert (stored.dtype, stored.compression) == (np.float32, "gzip")
        np.testing.assert_array_equal(stored[:], batches()[2])


def test_written_batches_are_read(tmp_path):
    write_tensorfile(tmp_path / "cal.tensorfile", iter(batches()))
    found = list(read_tensorfile(tmp_path / "cal.tensorfile", 2, SHAPE))
    np.testing.assert_array_equal(found, batches()[:2])


def test_photos_and_requested_batches_are_stored(tmp_path):
    """Three batches were asked for, but the photos of one of them were held back."""
    photos = []

    def stream():
        for number, batch in enumerate(batches(2)):
            photos.append(f"{number:064x}")
            yield batch

    path = tmp_path / "cal.tensorfile"
    write_tensorfile(path, stream(), requested=(3, 2), photos=photos)
    info = read_tensorfile_info(path)
    assert info == TensorfileInfo(2, (2, *SHAPE, 3), (3, 2), tuple(photos))
    assert len(list(read_tensorfile(path, 3, SHAPE))) == 2
    with pytest.raises(BodyPoseNetError, match=r"cal\.tensorfile.* 2 batches.* 4 "):
        next(read_tensorfile(path, 4, SHAPE))


def test_files_of_tao_have_neither(tmp_path):
    write_tensorfile(tmp_path / "tao", batches())
    assert read_tensorfile_info(tmp_path / "tao") == TensorfileInfo(3, (2, *SHAPE, 3), (3, 2), None)


def test_float64_of_tao_is_read(tmp_path):
    with h5py.File(tmp_path / "tao", "w") as file:
        file.attrs["count"], file.attrs["shape"] = 1, (2, *SHAPE, 3)
        group = file.create_group("_tensorfile_array_key__0")
        group.create_dataset("_tensorfile_array_key_", data=batches(1, np.float64)[0])
    (found,) = read_tensorfile(tmp_path / "tao", 1, SHAPE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, batches(1)[0], rtol=1e-6)


def test_batches_are_written_one_by_one(tmp_path):
    made, alive = [], []

    def stream():
        for _ in range(6):
            batch = np.zeros((2, *SHAPE, 3), np.float32)
            made.append(weakref.ref(batch))
            alive.append(sum(each() is not None for each in made))
            yield batch

    write_tensorfile(tmp_path / "cal.tensorfile", stream())
    assert len(alive) == 6
    assert max(alive) <= 2  # a batch is kept until the next one is there


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_truncated_file_is_an_error(tmp_path, keep):
    path = tmp_path / "cal.tensorfile"
    write_tensorfile(path, iter(batches()))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(BodyPoseNetError, match=r"cal\.tensorfile"):
        list(read_tensorfile(path, 3, SHAPE))


@pytest.mark.parametrize(
    ("count", "shape", "message"),
    [(4, SHAPE, r"3 batches.* 4 "), (3, (24, 16), r"\(2, 16, 24, 3\).*\(N, 24, 16, 3\)")],
)
def test_another_size_is_an_error(tmp_path, count, shape, message):
    write_tensorfile(tmp_path / "cal.tensorfile", iter(batches()))
    with pytest.raises(BodyPoseNetError, match=message):
        list(read_tensorfile(tmp_path / "cal.tensorfile", count, shape))


def test_other_hdf5_file_is_an_error(tmp_path):
    with h5py.File(tmp_path / "other", "w") as file:
        file["_tensorfile_array_key__0"] = 1.0
    with pytest.raises(BodyPoseNetError, match="other"):
        list(read_tensorfile(tmp_path / "other", 1, SHAPE))


def test_failure_leaves_no_file(tmp_path):
    def failing():
        yield batches(1)[0]
        raise BodyPoseNetError("a photo is missing")

    with pytest.raises(BodyPoseNetError, match="a photo is missing"):
        write_tensorfile(tmp_path / "cal.tensorfile", failing())
    assert not list(tmp_path.iterdir())


def test_missing_h5py_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError) as error:  # the command line names the extra
        write_tensorfile(tmp_path / "cal.tensorfile", iter(batches()))
    assert error.value.name == "h5py"
