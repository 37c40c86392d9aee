"""A small package in place of that of ONNX Runtime Web, so that tests need no network."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from bodyposenet.exporting.web import runtime

FILES = (
    "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm",
    "ort.jspi.min.mjs", "ort-wasm-simd-threaded.jspi.mjs", "ort-wasm-simd-threaded.jspi.wasm",
)  # fmt: skip


def write_runtime_package(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a package whose files contain their names, and let its checksum be the expected one."""
    with tarfile.open(path, "w:gz") as archive:
        for name in FILES:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(runtime, "INTEGRITY", f"sha512-{digest}")
    return path
