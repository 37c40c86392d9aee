"""Container format of model and state files: a JSON header and a body, encrypted if a key is given.

Layout: magic, format version, length of the header, length of the body; SHA-256 of everything else;
the header as JSON; the body. With a key, the body is encrypted (Scrypt, then AES-256-GCM); the
header remains readable, and is authenticated. Plain files of equal content are equal byte by byte.
"Sealed" stands for encrypted and authenticated.
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
"""Key of the same header in the metadata of an ONNX file."""

# As in PNG, the first byte and the line ends reveal files that were transferred as text.
MAGIC = b"\x8fBPNET\r\n"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_PRELUDE = struct.Struct("<8sIIQ")
_DIGEST_BYTES = 32

# 2^15 rounds on 32 MiB: about 80 ms per key. Part of the format, never read from a file.
_SCRYPT = {"length": 32, "n": 2**15, "r": 8, "p": 1}
_SALT_BYTES, _NONCE_BYTES = 16, 12

_MOST_HEADER_BYTES = 2**24
"""Limit of a header, which has some kilobytes: the skeleton, the network, and the train spec."""

_COPY_AGAIN = "Copy the file again from its source; if it is damaged there, create it again."


def model_file(path: Path) -> Path:
    """Return the path of a model file; if `x.hdf5` does not exist, that of `x.tlt`.

    TAO 5 writes models as .hdf5 files, so its commands and specs contain such names.

    Args:
        path: The given path.

    Returns:
        The path, with the extension .tlt if only that file exists; the replacement is logged.
    """
    if path.suffix.lower() == ".hdf5" and not exists(path):
        tlt = path.with_suffix(".tlt")
        if exists(tlt):
            logger.info("%s does not exist: using %s", path, tlt)
            return tlt
    return path


class SealedKey(str):
    """Key for encrypted files only: plain files, which anyone can create, are rejected."""


class _Seal(BaseModel):
    """Parameters of the encryption, in hexadecimal."""

    nonce: Annotated[str, Field(pattern=f"^[0-9a-f]{{{2 * _NONCE_BYTES}}}$")]
    salt: Annotated[str, Field(pattern=f"^[0-9a-f]{{{2 * _SALT_BYTES}}}$")]


class _Content(BaseModel):
    """JSON before the body."""

    model_config = ConfigDict(strict=True)

    header: dict[str, Any]
    seal: _Seal | None = None


def write_container(path: str | Path, header: dict[str, Any], body: bytes, key: str = "") -> None:
    """Write a file, atomically and flushed to disk.

    Args:
        path: The file.
        header: Values for JSON; they are readable without the key.
        body: The content.
        key: Any string; empty for a plain file.

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
        key: Its key. If a plain file is opened with a key, a warning is logged, or an error raised
            if the key is a `SealedKey`.

    Returns:
        The header and the body.

    Raises:
        BodyPoseNetError: The file is missing, truncated, damaged, of another format or from a
            newer version; or it is sealed and the key is missing or wrong; or it is plain and the
            key a `SealedKey`.
    """
    path = Path(path)
    encoded, body = _split(path)
    try:
        content = _Content.model_validate_json(encoded)
    except ValidationError as error:
        raise BodyPoseNetError(
            f"{path}: invalid header: {first_problem(error)}", _COPY_AGAIN
        ) from error
    if content.seal is None:
        check_plain(path, key)
        return content.header, body
    if not key:
        raise BodyPoseNetError(
            f"{path}: the file is sealed (encrypted)",
            "Give the key (-k) that it was written with.",
        )
    from cryptography.exceptions import InvalidTag

    try:
        cipher = _cipher(key, bytes.fromhex(content.seal.salt))
        return content.header, cipher.decrypt(bytes.fromhex(content.seal.nonce), body, encoded)
    except InvalidTag:
        # The digest matches, so the file is complete and the key is wrong.
        raise BodyPoseNetError(
            f"{path}: wrong key", "Give the key that the file was written with (-k)."
        ) from None


def check_plain(path: str | Path, key: str) -> None:
    """Log a warning if a key was given for a plain file, which may have replaced a sealed one.

    Raises:
        BodyPoseNetError: The key is for sealed files only.
    """
    if isinstance(key, SealedKey):
        raise BodyPoseNetError(
            f"{path}: not sealed, so anyone could have created it; sealed files are required",
            "Give a sealed file; or, if you trust this one, omit require_sealed "
            "(--require_sealed).",
        )
    if key:
        logger.warning(
            "%s is not sealed, although a key was given (--require_sealed rejects such files)",
            path,
        )


def _cipher(key: str, salt: bytes) -> Any:
    """Return AES-256-GCM with the key derived by Scrypt; plain files do not import it."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    # A key from the command line may contain bytes that are not valid text.
    return AESGCM(Scrypt(salt=salt, **_SCRYPT).derive(key.encode(errors="surrogateescape")))


def _split(path: Path) -> tuple[bytes, bytes]:
    """Return the header's JSON and the body of a file, after checks of format and digest."""
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
        raise BodyPoseNetError(f"{path}: damaged: wrong checksum", _COPY_AGAIN)
    return encoded, body


def _lengths(path: Path, begin: bytes, size: int) -> tuple[int, int]:
    """Return the lengths of header and body in bytes, after checks of format and size."""
    if not begin.startswith(MAGIC[: max(len(begin), 1)]):
        raise _foreign(path, begin)
    if len(begin) < _PRELUDE.size + _DIGEST_BYTES:
        raise BodyPoseNetError(f"{path}: truncated after {len(begin)} bytes", _COPY_AGAIN)
    _, version, header_length, body_length = _PRELUDE.unpack_from(begin)
    if version > FORMAT_VERSION:
        raise BodyPoseNetError(
            f"{path}: format version {version}, newer than this program's {FORMAT_VERSION}",
            "Update bodyposenet (pip install -U bodyposenet).",
        )
    whole = len(begin) + header_length + body_length
    if size < whole:
        raise BodyPoseNetError(f"{path}: truncated: {size} of {whole} bytes", _COPY_AGAIN)
    if size > whole or header_length > _MOST_HEADER_BYTES:
        raise BodyPoseNetError(
            f"{path}: damaged: expected {whole} bytes with a header of {header_length}, got {size}",
            _COPY_AGAIN,
        )
    return header_length, body_length


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _foreign(path: Path, data: bytes) -> BodyPoseNetError:
    """Return the error for a file of another format."""
    if not data:
        return BodyPoseNetError(f"{path}: the file is empty", _COPY_AGAIN)
    if path.suffix.lower() == ".onnx":
        return BodyPoseNetError(
            f"{path}: is an exported model", "Give the .tlt file written by bpnet train."
        )
    return BodyPoseNetError(
        f"{path}: not a file of bodyposenet",
        "Of NVIDIA's own files, only TAO 5's .hdf5 can be read, not .tlt, .etlt and .engine: train "
        "or export with bodyposenet.",
    )
