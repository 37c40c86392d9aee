"""Model and state files: a header and a body in one file, closed with a key if one is given.

Layout: magic, format version, length of the header, length of the body; SHA-256 of all the rest;
the header as JSON; the body. With a key the body is encrypted (Scrypt, then AES-256-GCM); the
header stays readable, and is authenticated. Plain files of the same content are the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import exists, replacing

FORMAT_VERSION = 1

METADATA_KEY = "bodyposenet"
"""Of the same header in the metadata of an ONNX file, which is closed by other means."""

# The high first byte and the line ends show up files that were sent as text, as in PNG.
MAGIC = b"\x8fBPNET\r\n"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_PRELUDE = struct.Struct("<8sIIQ")
_DIGEST_BYTES = 32

# 2^15 rounds on 32 MiB: some 80 ms per guess of a key. Part of the format, never read from a file.
_SCRYPT = {"length": 32, "n": 2**15, "r": 8, "p": 1}
_SALT_BYTES, _NONCE_BYTES = 16, 12

_COPY_AGAIN = "Copy the file again from where it was made; if it is damaged there, make it again."


def model_file(path: Path) -> Path:
    """The file that is meant by the name of a model: TAO's `x.hdf5` is our `x.tlt`.

    Args:
        path: As it was named; where nothing has that name and `x.tlt` is there, the log says so.
    """
    if path.suffix.lower() == ".hdf5" and not exists(path):
        ours = path.with_suffix(".tlt")
        if exists(ours):
            logger.info("%s is not there: taking %s", path, ours)
            return ours
    return path


def write_container(path: str | Path, header: dict[str, Any], body: bytes, key: str = "") -> None:
    """Write a file, atomically and flushed to disk.

    Args:
        path: The file.
        header: What JSON can hold; readable without the key, so nothing secret.
        body: The content.
        key: Any text; empty: a plain file.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    content: dict[str, Any] = {"header": header}
    if key:
        salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
        content["seal"] = {"nonce": nonce.hex(), "salt": salt.hex()}
    encoded = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    if key:
        body = _cipher(key, salt).encrypt(nonce, body, encoded)
    prelude = _PRELUDE.pack(MAGIC, FORMAT_VERSION, len(encoded), len(body))
    with replacing(path, durable=True) as file:
        for part in (prelude, _digest(prelude, encoded, body), encoded, body):
            file.write(part)


def read_container(path: str | Path, key: str = "") -> tuple[dict[str, Any], bytes]:
    """Read and check a file that `write_container` wrote.

    Args:
        path: The file.
        key: Its key; plain files need none and open with any.

    Returns:
        The header and the body.

    Raises:
        BodyPoseNetError: The file is missing, cut short, damaged, not ours or from a newer
            version; or it is sealed and the key is missing or wrong.
    """
    path = Path(path)
    encoded, body = _split(path)
    content = json.loads(encoded)
    seal = content.get("seal")
    if seal is None:
        if key:
            logger.debug("%s is a plain file: the key is not needed", path)
        return content["header"], body
    if not key:
        raise BodyPoseNetError(
            f"{path}: the file is sealed", "Give the key (-k) that it was written with."
        )
    from cryptography.exceptions import InvalidTag

    try:
        cipher = _cipher(key, bytes.fromhex(seal["salt"]))
        return content["header"], cipher.decrypt(bytes.fromhex(seal["nonce"]), body, encoded)
    except InvalidTag:
        # The digest was right, so the file is whole: it must be the key.
        raise BodyPoseNetError(
            f"{path}: wrong key", "Give the key that the file was written with (-k)."
        ) from None


def _cipher(key: str, salt: bytes) -> Any:
    """AES-256-GCM with the key that Scrypt derives; imported here, as plain files need none."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return AESGCM(Scrypt(salt=salt, **_SCRYPT).derive(key.encode()))


def _split(path: Path) -> tuple[bytes, bytes]:
    """The header's JSON and the body of a file that is ours and whole."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be read: {error.strerror}",
            "Check the path; it is relative to the working directory.",
        ) from error
    if not data.startswith(MAGIC[: max(len(data), 1)]):
        raise _foreign(path, data)
    start = _PRELUDE.size + _DIGEST_BYTES
    if len(data) < start:
        raise BodyPoseNetError(f"{path}: cut short after {len(data)} bytes", _COPY_AGAIN)
    _, version, header_length, body_length = _PRELUDE.unpack_from(data)
    if version > FORMAT_VERSION:
        raise BodyPoseNetError(
            f"{path}: format version {version}, newer than this program's {FORMAT_VERSION}",
            "Update bodyposenet (pip install -U bodyposenet).",
        )
    middle = start + header_length
    if len(data) < middle + body_length:
        raise BodyPoseNetError(
            f"{path}: cut short, {len(data)} of {middle + body_length} bytes", _COPY_AGAIN
        )
    encoded, body = data[start:middle], data[middle:]
    if _digest(data[: _PRELUDE.size], encoded, body) != data[_PRELUDE.size : start]:
        raise BodyPoseNetError(f"{path}: damaged, its checksum is wrong", _COPY_AGAIN)
    return encoded, body


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _foreign(path: Path, data: bytes) -> BodyPoseNetError:
    """Why a file that is not ours cannot be opened."""
    if not data:
        return BodyPoseNetError(f"{path}: the file is empty", _COPY_AGAIN)
    if data.startswith(HDF5_MAGIC):
        return BodyPoseNetError(
            f"{path}: a Keras file, not a model of bodyposenet",
            "Use it as pretrained_weights, with load_graph: false.",
        )
    if path.suffix.lower() == ".onnx":
        return BodyPoseNetError(
            f"{path}: has been exported already", "Give the .tlt file that train wrote."
        )
    return BodyPoseNetError(
        f"{path}: not a file of bodyposenet",
        "NVIDIA's own .tlt, .etlt and .engine files cannot be opened: train or export here.",
    )
