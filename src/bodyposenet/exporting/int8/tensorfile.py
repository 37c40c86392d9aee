"""TAO's tensorfile of calibration images (HDF5, TAO reference, section 14.3).

    attributes: count (number of batches), shape (of a batch)
    _tensorfile_array_key__<i>/_tensorfile_array_key_: batch i, (B, H, W, 3), normalized RGB

and, in files of this package, the attribute `requested` and the dataset `photos`, which TAO does
not read (see `TensorfileInfo`).

Batches are read and written one by one, so the file may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write

_KEY = "_tensorfile_array_key_"
_REQUESTED = "requested"
_PHOTOS = "photos"
_DIGEST_BYTES = 32
_REMEDY = "Give another --cal_data_file, or delete this one to write it again."


@dataclass(frozen=True)
class TensorfileInfo:
    """Description of a tensorfile.

    Args:
        batches: Number of batches.
        shape: (B, H, W, 3), the shape of the first batch; the last one may have fewer images.
        requested: Number of batches, and images per batch, that were asked for when it was
            written. There are fewer if photos were held back for the comparison.
        photos: SHA-256 of each photo; None in files of TAO.
    """

    batches: int
    shape: tuple[int, ...]
    requested: tuple[int, int]
    photos: tuple[str, ...] | None

    @property
    def batch_size(self) -> int:
        """Images per batch that were asked for."""
        return self.requested[1]


def write_tensorfile(
    path: Path,
    batches: Iterable[NDArray[np.float32]],
    requested: tuple[int, int] | None = None,
    photos: Sequence[str] | None = None,
) -> None:
    """Write a tensorfile.

    Args:
        path: The file.
        batches: (B, H, W, 3) float32, normalized RGB.
        requested: See `TensorfileInfo`; None if all images were written.
        photos: See `TensorfileInfo`. The list may grow while the batches are read.

    Raises:
        BodyPoseNetError: The file cannot be written.
        ModuleNotFoundError: h5py is not installed.
    """
    import h5py

    try:
        with atomic_write(path, durable=True) as file, h5py.File(file.name, "w") as tensors:
            count = 0
            for count, batch in enumerate(batches, start=1):
                if count == 1:
                    tensors.attrs["shape"] = batch.shape
                group = tensors.create_group(f"{_KEY}_{count - 1}")
                group.create_dataset(_KEY, data=batch.astype(np.float32), compression="gzip")
            tensors.attrs["count"] = count
            if requested is not None:
                tensors.attrs[_REQUESTED] = requested
            if photos is not None:
                digests = [list(bytes.fromhex(photo)) for photo in photos]
                tensors.create_dataset(_PHOTOS, data=np.array(digests, np.uint8))
    except (OSError, RuntimeError) as error:  # h5py raises both if the disk is full
        raise BodyPoseNetError(
            f"{path}: cannot be written: {error}",
            "Free some space or give another --cal_data_file.",
        ) from error


def read_tensorfile_info(path: Path) -> TensorfileInfo:
    """Read the description of a tensorfile.

    Args:
        path: A tensorfile of this package or of TAO.

    Raises:
        BodyPoseNetError: The file is not a tensorfile, or is truncated.
        ModuleNotFoundError: h5py is not installed.
    """
    with _open(path) as tensors:
        batches = sum(str(name).startswith(_KEY) for name in tensors)
        shape = tuple(int(side) for side in tensors[f"{_KEY}_0/{_KEY}"].shape) or (0,)
        photos = tensors.get(_PHOTOS)
        digests = None if photos is None else _read_digests(photos, batches * shape[0])
        count, size = tensors.attrs.get(_REQUESTED, (batches, shape[0]))
        return TensorfileInfo(batches, shape, (int(count), int(size)), digests)


def read_tensorfile(
    path: Path, count: int, shape: tuple[int, int]
) -> Iterator[NDArray[np.float32]]:
    """Read the first batches of a tensorfile.

    Args:
        path: A tensorfile of this package (float32) or of TAO (float64).
        count: Number of batches. If as many were requested when the file was written, and photos
            were held back, all batches of the file are read.
        shape: Height and width that the images must have, in pixels.

    Returns:
        (B, H, W, 3) float32 each, normalized RGB.

    Raises:
        BodyPoseNetError: The file is not a tensorfile or is truncated, has fewer batches, or has
            images of another size.
        ModuleNotFoundError: h5py is not installed.
    """
    info = read_tensorfile_info(path)
    if max(info.batches, info.requested[0]) < count:
        raise BodyPoseNetError(
            f"{path}: found {info.batches} batches, but {count} are needed for calibration",
            "Lower --batches, or delete the file to write it again.",
        )
    with _open(path) as tensors:
        for index in range(min(count, info.batches)):
            yield _read_batch(path, index, tensors[f"{_KEY}_{index}/{_KEY}"], shape)


def _read_digests(photos: Any, max_count: int) -> tuple[str, ...]:
    """Read the digests of photos.

    Raises:
        ValueError: The shape or type is wrong.
    """
    if photos.ndim != 2 or photos.shape[1] != _DIGEST_BYTES or photos.dtype != np.uint8:
        raise ValueError("not SHA-256 digests")
    if len(photos) > max_count:
        raise ValueError("more digests than images")
    return tuple(row.tobytes().hex() for row in photos[:])


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a tensorfile, and translate the errors of h5py (context manager)."""
    import h5py

    try:
        with h5py.File(path, "r") as tensors:
            yield tensors
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        # h5py raises these for missing or unexpected objects.
        raise BodyPoseNetError(f"{path}: not a tensorfile, or truncated", _REMEDY) from error


def _read_batch(path: Path, index: int, stored: Any, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Read a batch as float32, and check its shape and values."""
    if len(stored.shape) != 4 or stored.shape[1:] != (*shape, 3):
        raise BodyPoseNetError(
            f"{path}: batch {index} has the shape {stored.shape}, but --input_dims requires "
            f"(N, {shape[0]}, {shape[1]}, 3)",
            _REMEDY,
        )
    batch = stored[:].astype(np.float32)
    if not np.isfinite(batch).all():
        raise BodyPoseNetError(f"{path}: batch {index} holds values that are not finite", _REMEDY)
    return batch
