"""Metadata of a calibration cache: the model that its ranges belong to, and how it was calibrated.

It is stored beside the cache as `<cache>.json`. Without it, ranges of another model with the same
layers would go unnoticed, and the lowest value of a tensor would be lost.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx import numpy_helper
from pydantic import ConfigDict, ValidationError

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.int8.ranges import Method
from bodyposenet.files import exists, write_json
from bodyposenet.specs.loading import Block
from bodyposenet.specs.numbers import Count

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
    method: Method
    input_shape: tuple[Count, Count]
    batches: Count | None = None
    images: Count
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
    if metadata.cache != digest_of(cache.read_bytes()):
        raise BodyPoseNetError(
            f"{cache}: changed since {path} was written for it",
            f"Delete {path} to use the cache as it is, or both to calibrate again.",
        )
    return metadata


def digest_of(cache: bytes) -> str:
    """Return the SHA-256 of a cache's content."""
    return hashlib.sha256(cache).hexdigest()


def _beside(cache: Path) -> Path:
    return cache.with_name(f"{cache.name}.json")
