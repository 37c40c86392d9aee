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
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError, first_problem
from bodyposenet.files import atomic_write, exists

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

_MOST_HEADER_BYTES = 2**24
"""A header is some kilobytes of text: the skeleton, the network, and the train spec."""

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


class SealedKey(str):
    """A key for sealed files only: a plain file, which anybody can make, is an error."""


class _Seal(BaseModel):
    nonce: Annotated[str, Field(pattern=f"^[0-9a-f]{{{2 * _NONCE_BYTES}}}$")]
    salt: Annotated[str, Field(pattern=f"^[0-9a-f]{{{2 * _SALT_BYTES}}}$")]


class _Content(BaseModel):
    """The JSON before the body."""

    model_config = ConfigDict(strict=True)

    header: dict[str, Any]
    seal: _Seal | None = None


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
    with atomic_write(path, durable=True) as file:
        for part in (prelude, _digest(prelude, encoded, body), encoded, body):
            file.write(part)


def read_container(path: str | Path, key: str = "") -> tuple[dict[str, Any], bytes]:
    """Read and check a file that `write_container` wrote.

    Args:
        path: The file.
        key: Its key. A plain file needs none: with one it is opened with a warning, or is an error
            if the key is a `SealedKey`.

    Returns:
        The header and the body.

    Raises:
        BodyPoseNetError: The file is missing, cut short, damaged, not ours or from a newer
            version; it is sealed and the key is missing or wrong; or it is plain and must not be.
    """
    path = Path(path)
    encoded, body = _split(path)
    try:
        content = _Content.model_validate_json(encoded)
    except ValidationError as error:
        raise BodyPoseNetError(
            f"{path}: its header is broken: {first_problem(error)}", _COPY_AGAIN
        ) from error
    if content.seal is None:
        check_plain(path, key)
        return content.header, body
    if not key:
        raise BodyPoseNetError(
            f"{path}: the file is sealed", "Give the key (-k) that it was written with."
        )
    from cryptography.exceptions import InvalidTag

    try:
        cipher = _cipher(key, bytes.fromhex(content.seal.salt))
        return content.header, cipher.decrypt(bytes.fromhex(content.seal.nonce), body, encoded)
    except InvalidTag:
        # The digest was right, so the file is whole: it must be the key.
        raise BodyPoseNetError(
            f"{path}: wrong key", "Give the key that the file was written with (-k)."
        ) from None


def check_plain(path: str | Path, key: str) -> None:
    """Tell that a file is plain where a key was given: it may have taken a sealed one's place.

    Raises:
        BodyPoseNetError: The key is for sealed files only.
    """
    if isinstance(key, SealedKey):
        raise BodyPoseNetError(
            f"{path}: a plain file, which anybody could have put there; sealed ones are required",
            "Give the sealed file; or, if you trust this one, leave require_sealed "
            "(--require_sealed) out.",
        )
    if key:
        logger.warning(
            "%s is a plain file: a key was given, but does not protect it (--require_sealed "
            "refuses such files)",
            path,
        )


def _cipher(key: str, salt: bytes) -> Any:
    """AES-256-GCM with the key that Scrypt derives; imported here, as plain files need none."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    # A key from a command line may be no text: its bytes come back like that.
    return AESGCM(Scrypt(salt=salt, **_SCRYPT).derive(key.encode(errors="surrogateescape")))


def _split(path: Path) -> tuple[bytes, bytes]:
    """The header's JSON and the body of a file that is ours and whole."""
    try:
        with open(path, "rb") as file:
            begin = file.read(_PRELUDE.size + _DIGEST_BYTES)
            size = os.fstat(file.fileno()).st_size
            header_length, body_length = _lengths(path, begin, size)
            encoded, body = file.read(header_length), file.read(body_length)
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be read: {error.strerror}",
            "Check the path; it is relative to the working directory.",
        ) from error
    if _digest(begin[: _PRELUDE.size], encoded, body) != begin[_PRELUDE.size :]:
        raise BodyPoseNetError(f"{path}: damaged, its checksum is wrong", _COPY_AGAIN)
    return encoded, body


def _lengths(path: Path, begin: bytes, size: int) -> tuple[int, int]:
    """Bytes of the header and of the body, which make up the rest of the file."""
    if not begin.startswith(MAGIC[: max(len(begin), 1)]):
        raise _foreign(path, begin)
    if len(begin) < _PRELUDE.size + _DIGEST_BYTES:
        raise BodyPoseNetError(f"{path}: cut short after {len(begin)} bytes", _COPY_AGAIN)
    _, version, header_length, body_length = _PRELUDE.unpack_from(begin)
    if version > FORMAT_VERSION:
        raise BodyPoseNetError(
            f"{path}: format version {version}, newer than this program's {FORMAT_VERSION}",
            "Update bodyposenet (pip install -U bodyposenet).",
        )
    whole = len(begin) + header_length + body_length
    if size < whole:
        raise BodyPoseNetError(f"{path}: cut short, {size} of {whole} bytes", _COPY_AGAIN)
    if size > whole or header_length > _MOST_HEADER_BYTES:
        raise BodyPoseNetError(
            f"{path}: damaged, {size} bytes, of which the header would take {header_length}",
            _COPY_AGAIN,
        )
    return header_length, body_length


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _foreign(path: Path, data: bytes) -> BodyPoseNetError:
    """Why a file that is not ours cannot be opened."""
    if not data:
        return BodyPoseNetError(f"{path}: the file is empty", _COPY_AGAIN)
    if path.suffix.lower() == ".onnx":
        return BodyPoseNetError(
            f"{path}: has been exported already", "Give the .tlt file that train wrote."
        )
    return BodyPoseNetError(
        f"{path}: not a file of bodyposenet",
        "NVIDIA's own .tlt, .etlt and .engine files cannot be opened, only TAO 5's .hdf5: train or "
        "export here.",
    )
