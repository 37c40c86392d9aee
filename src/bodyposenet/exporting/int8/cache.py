"""TensorRT's calibration cache, a text file of the ranges of tensors.

    TRT-8601-EntropyCalibration2
    input_1:0: 3c010204

Behind a tensor's name stand the bytes of a float32, the first one first: the value of one step, its
largest absolute value / 127. TAO's own caches name tensors as TensorFlow does.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.int8.ranges import LEVELS, Range
from bodyposenet.files import replacing

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
        f"{name}: {struct.pack('>f', covered.largest / LEVELS).hex()}"
        for name, covered in ranges.items()
    ]
    content = "".join(f"{line}\n" for line in (_TITLE, *lines)).encode()
    with replacing(path, durable=True) as file:
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
        ranges[found[1]] = Range(-LEVELS * step, LEVELS * step)
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
