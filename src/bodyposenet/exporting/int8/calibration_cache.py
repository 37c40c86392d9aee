"""TensorRT's calibration cache, a text file with the range of each tensor, and its metadata.

    TRT-8601-EntropyCalibration2
    input_1:0: 3c010204

The number after a tensor's name is its scale, the largest absolute value / 127, as a big-endian
float32 in hexadecimal. TAO's own caches use TensorFlow's names of the tensors. The metadata, which
TensorRT's format has no place for (model, images, method), is in a JSON file beside the cache.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx
from onnx import numpy_helper
from pydantic import ConfigDict, ValidationError

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.int8.ranges import INT8_MAX, CalibrationMethod, Range
from bodyposenet.files import atomic_write, exists, write_json
from bodyposenet.specs.loading import Block
from bodyposenet.specs.number_types import PositiveInt

_TITLE = "TRT-8601-EntropyCalibration2"
"""First line, from the last TensorRT whose calibration is not deprecated.

It is the same for all calibration methods, because TensorRT only reads caches of its own
algorithms; the method is in `CalibrationMetadata`.
"""

_TITLE_PATTERN = re.compile(r"TRT-\d+-\w+")
_LINE = re.compile(r"(.+): ?([0-9a-fA-F]{8}|0)")

_OPERATION = re.compile(r"(?:/(?:BiasAdd|Relu|Sigmoid|Tanh|concat|mul))?(?::\d+)?$")
"""Suffix of a tensor's name in TensorFlow, after the name of its layer."""

CALIBRATE_AGAIN = "Give another --cal_cache_file, or delete both files to calibrate again."
"""Remedy for a cache that cannot be used."""


class CalibrationMetadata(Block):
    """Content of the metadata file.

    Args:
        model: `fingerprint` of the model.
        cache: SHA-256 of the cache, to detect that the cache was replaced without this file.
        method: Calibration method.
        input_shape: Height and width of the images in pixels.
        batches: Number of batches; None in files of older versions.
        images: Number of images.
        requested_batches: Number of batches that was asked for. There are fewer if photos were
            held back for the comparison. None in files of older versions.
        batch_size: Images per batch that were asked for; None in files of older versions.
        photos: `sample_digest` of their folder; None if they came from a tensorfile.
        photo_digests: SHA-256 of each photo; None in files of older versions, and if a tensorfile
            of TAO was used.
        tensorfile: SHA-256 of the tensorfile; None if there was none.
        ranges: Lowest and highest value of every tensor.
    """

    model_config = ConfigDict(extra="ignore")  # keys of later versions

    model: str
    cache: str
    method: CalibrationMethod
    input_shape: tuple[PositiveInt, PositiveInt]
    batches: PositiveInt | None = None
    images: PositiveInt
    requested_batches: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    photos: str | None = None
    photo_digests: tuple[str, ...] | None = None
    tensorfile: str | None = None
    ranges: dict[str, tuple[float, float]]

    @property
    def requested_images(self) -> int | None:
        """Number of images that were asked for, if they came from a folder."""
        if self.requested_batches is None or self.batch_size is None:
            return None
        return self.requested_batches * self.batch_size

    def __str__(self) -> str:
        height, width = self.input_shape
        return f"{self.method}, {self.images} images of {height} x {width}"


def write_cache(path: Path, ranges: Mapping[str, Range]) -> bytes:
    """Write a calibration cache; of each range, only the largest absolute value is kept.

    Args:
        path: The file.
        ranges: Range by the name of the tensor.

    Returns:
        Content of the file.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    lines = [
        f"{name}: {struct.pack('>f', value_range.largest / INT8_MAX).hex()}"
        for name, value_range in ranges.items()
    ]
    content = "".join(f"{line}\n" for line in (_TITLE, *lines)).encode()
    with atomic_write(path, durable=True) as file:
        file.write(content)
    return content


def read_cache(path: Path) -> dict[str, Range]:
    """Read a calibration cache of this package or of TensorRT.

    Args:
        path: The file.

    Returns:
        Range by the name of the tensor; the ranges are symmetric.

    Raises:
        BodyPoseNetError: The file cannot be read or is not a calibration cache.
    """
    try:
        title, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    except OSError as error:
        raise BodyPoseNetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise _broken(path, "it is not a text file") from error
    if not _TITLE_PATTERN.fullmatch(title.strip()):
        raise _broken(path, f"its first line is {title[:40]!r}, expected TRT-<version>-<algorithm>")
    ranges = {}
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        scale = struct.unpack(">f", bytes.fromhex(found[2].zfill(8)))[0] if found else -1.0
        if found is None or not 0 <= scale < float("inf"):
            raise _broken(path, f"line {number} is not a tensor with its scale: {line[:60]!r}")
        ranges[found[1]] = Range(-INT8_MAX * scale, INT8_MAX * scale)
    return ranges


def find_tensors(ranges: Mapping[str, Range], names: Iterable[str]) -> dict[str, Range]:
    """Find the ranges of an ONNX file's tensors in a cache, also by their names in TensorFlow.

    In TensorFlow, the output of the layer `NAME` is called `NAME:0` or, after its last operation,
    `NAME/Relu:0`, and may be preceded by scopes of the graph. Keras numbers layers that have no
    name.

    Args:
        ranges: Ranges of a cache, by the names in it.
        names: Names of tensors in a file of `export_onnx`.

    Returns:
        Range by the name in the ONNX file, of the tensors that the cache contains.
    """
    by_layer: dict[str, Range] = {}
    for name, value_range in ranges.items():
        parts = _OPERATION.sub("", name).split("/")
        for start in range(len(parts)):  # with ever fewer scopes
            layer = "/".join(parts[start:])
            by_layer[layer] = max(
                by_layer.get(layer, value_range), value_range, key=lambda each: each.largest
            )
    found = {name: ranges.get(name) or by_layer.get(_tensorflow_layer(name)) for name in names}
    return {name: value_range for name, value_range in found.items() if value_range is not None}


def write_metadata(cache: Path, metadata: CalibrationMetadata) -> None:
    """Write the metadata file beside a cache.

    Args:
        cache: The calibration cache.
        metadata: Its metadata.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    write_json(_metadata_path(cache), metadata.model_dump())


def read_metadata(cache: Path) -> CalibrationMetadata | None:
    """Read the metadata, and check that it was written for this cache.

    Args:
        cache: An existing calibration cache.

    Returns:
        None if there is no metadata file, as beside caches that TensorRT wrote.

    Raises:
        BodyPoseNetError: The cache has been changed since the metadata was written, or the metadata
            file is damaged.
    """
    path = _metadata_path(cache)
    if not exists(path):
        return None
    try:
        metadata = CalibrationMetadata.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BodyPoseNetError(
            f"{path}: damaged, so that {cache} cannot be checked", CALIBRATE_AGAIN
        ) from error
    if metadata.cache != cache_digest(cache.read_bytes()):
        raise BodyPoseNetError(
            f"{cache}: changed since {path} was written for it",
            f"Delete {path} to use the cache as it is, or both to calibrate again.",
        )
    return metadata


def fingerprint(content: bytes) -> str:
    """Return the SHA-256 of a model's convolutions: their names, weights and biases.

    Args:
        content: Content of a float32 ONNX file from `export_onnx`. The result does not depend on
            the export options.
    """
    graph = onnx.load_model_from_string(content).graph
    numbers = {tensor.name: tensor for tensor in graph.initializer}
    digest = hashlib.sha256()
    for node in graph.node:
        if node.op_type == "Conv":
            digest.update(node.name.encode())
            for name in node.input[1:]:
                digest.update(numpy_helper.to_array(numbers[name]).tobytes())
    return digest.hexdigest()


def cache_digest(cache: bytes) -> str:
    """Return the SHA-256 of a cache's content."""
    return hashlib.sha256(cache).hexdigest()


def _tensorflow_layer(name: str) -> str:
    """Return the layer of TAO's network that computes a tensor of the ONNX file."""
    if name == "images":  # the input, transposed to PyTorch's order of axes
        return "input_1"
    if found := re.fullmatch(r"stage(\d+)/concat", name):
        return f"concatenate_{int(found[1]) - 1}"
    if found := re.fullmatch(r"stage(\d+)/(paf|cmap)/attention", name):
        return f"multiply_{2 * int(found[1]) - (3 if found[2] == 'paf' else 2)}"
    return name


def _broken(path: Path, problem: str) -> BodyPoseNetError:
    """Return the error for a file that is not a calibration cache."""
    return BodyPoseNetError(
        f"{path}: not a calibration cache: {problem}",
        "Give another --cal_cache_file, or delete this one to calibrate again.",
    )


def _metadata_path(cache: Path) -> Path:
    """Return the path of a cache's metadata file."""
    return cache.with_name(f"{cache.name}.json")
