"""Origin of a calibration cache: the model that its ranges are of, and how they were measured.

It lies beside the cache as `<cache>.json`. Without it, ranges of another model with the same layers
would go unnoticed, and the lowest value of a tensor would be lost.
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


class Origin(Block):
    """Where the ranges of a calibration cache come from.

    Args:
        model: `fingerprint` of the model.
        cache: SHA-256 of the cache, which may be exchanged without this file.
        method: How they were found.
        input_shape: Height and width of the images.
        batches: How many batches they came in; None in files of older versions.
        images: How many images.
        photos: `sample_digest` of their folder; None: they came from a tensorfile.
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
    """SHA-256 of a model's convolutions: their names, weights and biases.

    Args:
        content: A float32 ONNX file from `export_onnx`; all forms of a network have the same.
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


def write_origin(cache: Path, origin: Origin) -> None:
    """Write the origin beside a cache.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    write_json(_beside(cache), origin.model_dump())


def read_origin(cache: Path) -> Origin | None:
    """Read the origin, and check that the cache is the one that it was written for.

    Args:
        cache: The calibration cache; it exists.

    Returns:
        None if there is no such file, as beside caches of TensorRT.

    Raises:
        BodyPoseNetError: The cache has been changed since, or the file is damaged.
    """
    path = _beside(cache)
    if not exists(path):
        return None
    try:
        origin = Origin.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BodyPoseNetError(
            f"{path}: damaged, so that it is unknown how {cache} was made", CALIBRATE_AGAIN
        ) from error
    if origin.cache != digest_of(cache.read_bytes()):
        raise BodyPoseNetError(
            f"{cache}: changed since {path} was written for it",
            f"Delete {path} to use the cache as it is, or both to calibrate again.",
        )
    return origin


def digest_of(cache: bytes) -> str:
    """SHA-256 of a cache's content."""
    return hashlib.sha256(cache).hexdigest()


def _beside(cache: Path) -> Path:
    return cache.with_name(f"{cache.name}.json")
