"""TensorRT's calibration cache, a text file of the ranges of tensors.

    TRT-8601-EntropyCalibration2
    input_1:0: 3c010204

Behind a tensor's name stand the bytes of a float32, the first one first: the value of one step, its
largest absolute value / 127. TAO's own caches name tensors as TensorFlow does.
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
"""First line, of the last TensorRT whose calibration is not deprecated.

TensorRT refuses caches of other algorithms than its own, so it is written for every calibration
method; `CalibrationMetadata` records the method.
"""

_KNOWN_TITLE = re.compile(r"TRT-\d+-\w+")
_LINE = re.compile(r"(.+): ?([0-9a-fA-F]{8}|0)")

_OPERATION = re.compile(r"(?:/(?:BiasAdd|Relu|Sigmoid|Tanh|concat|mul))?(?::\d+)?$")
"""Suffix of TensorFlow's name of a layer's output."""


def write_cache(path: Path, ranges: Mapping[str, Range]) -> bytes:
    """Write ranges; of each, the largest absolute value.

    Args:
        path: The file.
        ranges: By the tensor's name.

    Returns:
        What has been written.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    lines = [
        f"{name}: {struct.pack('>f', covered.largest / INT8_MAX).hex()}"
        for name, covered in ranges.items()
    ]
    content = "".join(f"{line}\n" for line in (_TITLE, *lines)).encode()
    with atomic_write(path, durable=True) as file:
        file.write(content)
    return content


def read_cache(path: Path) -> dict[str, Range]:
    """Read ranges; they are as far below 0 as above.

    Args:
        path: A cache of ours or of TensorRT's.

    Raises:
        BodyPoseNetError: It cannot be read or is no calibration cache.
    """
    try:
        title, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    except OSError as error:
        raise BodyPoseNetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise _broken(path, "it is not a text file") from error
    if not _KNOWN_TITLE.fullmatch(title.strip()):
        raise _broken(path, f"it begins with {title[:40]!r}, not with TRT-<version>-<algorithm>")
    ranges = {}
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        step = struct.unpack(">f", bytes.fromhex(found[2].zfill(8)))[0] if found else -1.0
        if found is None or not 0 <= step < float("inf"):
            raise _broken(path, f"line {number} is not a tensor and its step: {line[:60]!r}")
        ranges[found[1]] = Range(-INT8_MAX * step, INT8_MAX * step)
    return ranges


def find_tensors(ranges: Mapping[str, Range], names: Iterable[str]) -> dict[str, Range]:
    """Find the ranges of our tensors, also under the names that TensorFlow gives them.

    In TensorFlow the layer `NAME` gives `NAME:0` or, by its last operation, `NAME/Relu:0`, with the
    scopes of the graph before it. Layers without a name of their own are numbered by Keras.

    Args:
        ranges: Of a cache.
        names: Of tensors of a model of ours.

    Returns:
        Range by our name, of the tensors that the cache has.
    """
    by_layer: dict[str, Range] = {}
    for name, covered in ranges.items():
        parts = _OPERATION.sub("", name).split("/")
        for start in range(len(parts)):  # with fewer and fewer scopes
            layer = "/".join(parts[start:])
            known = by_layer.get(layer, covered)
            by_layer[layer] = max(known, covered, key=lambda each: each.largest)
    theirs = {name: ranges.get(name) or by_layer.get(_tensorflow_layer(name)) for name in names}
    return {name: covered for name, covered in theirs.items() if covered is not None}


def _tensorflow_layer(name: str) -> str:
    """Return the layer of TAO's network whose output is one of our tensors."""
    if name == "images":  # the input, its axes in torch's order
        return "input_1"
    if found := re.fullmatch(r"stage(\d+)/concat", name):
        return f"concatenate_{int(found[1]) - 1}"
    if found := re.fullmatch(r"stage(\d+)/(paf|cmap)/attention", name):
        return f"multiply_{2 * int(found[1]) - (3 if found[2] == 'paf' else 2)}"
    return name


def _broken(path: Path, problem: str) -> BodyPoseNetError:
    return BodyPoseNetError(
        f"{path}: not a calibration cache: {problem}",
        "Name another --cal_cache_file, or delete this one to calibrate again.",
    )


CALIBRATE_AGAIN = "Name another --cal_cache_file, or delete both files to calibrate again."


class CalibrationMetadata(Block):
    """Content of the metadata file.

    Args:
        model: `fingerprint` of the model.
        cache: SHA-256 of the cache, which may be replaced without this file.
        method: Calibration method.
        input_shape: Height and width of the images in pixels.
        batches: Number of batches; None in files of older versions.
        images: Number of images.
        photos: `sample_digest` of their folder; None if they came from a tensorfile.
        ranges: Lowest and highest value of every tensor.
    """

    model_config = ConfigDict(extra="ignore")  # of later versions

    model: str
    cache: str
    method: CalibrationMethod
    input_shape: tuple[PositiveInt, PositiveInt]
    batches: PositiveInt | None = None
    images: PositiveInt
    photos: str | None = None
    ranges: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        height, width = self.input_shape
        return f"{self.method}, {self.images} images of {height} x {width}"


def fingerprint(content: bytes) -> str:
    """Return the SHA-256 of a model's convolutions: their names, weights and biases.

    Args:
        content: A float32 ONNX file from `export_onnx`; its options do not change the result.
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


def write_metadata(cache: Path, metadata: CalibrationMetadata) -> None:
    """Write the metadata file beside a cache.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    write_json(_beside(cache), metadata.model_dump())


def read_metadata(cache: Path) -> CalibrationMetadata | None:
    """Read the metadata, and check that it was written for this cache.

    Args:
        cache: The calibration cache; it exists.

    Returns:
        None if there is no such file, as beside caches of TensorRT.

    Raises:
        BodyPoseNetError: The cache has been changed since, or the metadata file is damaged.
    """
    path = _beside(cache)
    if not exists(path):
        return None
    try:
        metadata = CalibrationMetadata.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BodyPoseNetError(
            f"{path}: damaged, so it is unknown how {cache} was made", CALIBRATE_AGAIN
        ) from error
    if metadata.cache != cache_digest(cache.read_bytes()):
        raise BodyPoseNetError(
            f"{cache}: changed since {path} was written for it",
            f"Delete {path} to use the cache as it is, or both to calibrate again.",
        )
    return metadata


def cache_digest(cache: bytes) -> str:
    """Return the SHA-256 of a cache's content."""
    return hashlib.sha256(cache).hexdigest()


def _beside(cache: Path) -> Path:
    return cache.with_name(f"{cache.name}.json")
