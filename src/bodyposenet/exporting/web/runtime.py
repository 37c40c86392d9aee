"""ONNX Runtime Web: the files that run a model in a browser.

They come from the npm package `onnxruntime-web` of a fixed version, which is downloaded once into
the user's cache folder and compared with the checksum below. The package has about 33 MB, too much
to be a part of this one; a page needs two or four of its files.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import atomic_write
from bodyposenet.media.download import download

Backend = Literal["wasm", "webgpu"]
"""Execution provider of ONNX Runtime Web."""

VERSION = "1.30.0"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"

INTEGRITY = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8p"
    "ZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
"""Checksum of the package; `npm view onnxruntime-web@VERSION dist.integrity` prints it."""

SCRIPTS: dict[Backend, str] = {"wasm": "ort.wasm.min.mjs", "webgpu": "ort.jspi.min.mjs"}
"""The module that a page imports."""

_BINARIES: dict[Backend, str] = {
    "wasm": "ort-wasm-simd-threaded",
    "webgpu": "ort-wasm-simd-threaded.jspi",
}
"""Name of the .mjs and .wasm file that the module loads.

Of the builds with WebGPU, the one for browsers with JavaScript Promise Integration is used. It has
16.8 MB instead of the 26.8 MB of the build for all browsers, which exceeds the size limit of files
on some hosts.
"""

_DOWNLOAD_SECONDS = 600.0


def read_runtime(backends: Iterable[Backend], package: Path | None = None) -> dict[str, bytes]:
    """Read the files of the runtime, and download them if they are not in the cache.

    Args:
        backends: The backends that a page supports.
        package: File of the npm package, for machines without internet access. None to use the
            cache, or else to download it.

    Returns:
        File name -> content.

    Raises:
        BodyPoseNetError: The package cannot be downloaded or read, or is another version.
    """
    content = _read_package(package) if package is not None else _read_cached_package()
    names = [
        name
        for backend in backends
        for name in (SCRIPTS[backend], f"{_BINARIES[backend]}.mjs", f"{_BINARIES[backend]}.wasm")
    ]
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        members = {name: archive.extractfile(f"package/dist/{name}") for name in names}
        return {name: member.read() for name, member in members.items() if member is not None}


def package_cache() -> Path:
    """Return the path of the npm package in the user's cache folder."""
    if sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        folder = "~/Library/Caches"
    else:
        folder = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(folder).expanduser() / "bodyposenet" / ADDRESS.rpartition("/")[2]


def _read_package(path: Path) -> bytes:
    """Read the package that the user has downloaded.

    Raises:
        BodyPoseNetError: The file is missing, or is not the package of this version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BodyPoseNetError(
            f"--runtime {path}: cannot be read: {error.strerror or error}", f"Download {ADDRESS}."
        ) from error
    if not _is_intact(content):
        raise BodyPoseNetError(
            f"--runtime {path}: its checksum is not that of onnxruntime-web {VERSION}",
            f"Download {ADDRESS} again.",
        )
    return content


def _read_cached_package() -> bytes:
    """Read the package from the cache; download it if it is missing or damaged there.

    Raises:
        BodyPoseNetError: It cannot be downloaded.
    """
    cache = package_cache()
    with suppress(OSError):  # missing or unreadable: downloaded
        if _is_intact(content := cache.read_bytes()):
            return content
    logger.info("downloading %s (33 MB)", ADDRESS)
    try:
        content = download(ADDRESS, seconds=_DOWNLOAD_SECONDS)
    except BodyPoseNetError as error:
        raise BodyPoseNetError(
            f"ONNX Runtime Web cannot be downloaded: {error.what}",
            "Try again; or download the file on another machine, and give it with --runtime FILE.",
        ) from error
    if not _is_intact(content):
        raise BodyPoseNetError(
            f"{ADDRESS}: the checksum of the downloaded file is wrong",
            "Try again; or download the file on another machine, and give it with --runtime FILE.",
        )
    try:
        with atomic_write(cache) as file:
            file.write(content)
    except BodyPoseNetError as error:
        logger.warning("%s, so it will be downloaded again next time", error.what)
    return content


def _is_intact(content: bytes) -> bool:
    """Return whether the content has the checksum of the package."""
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    return f"sha512-{digest}" == INTEGRITY
