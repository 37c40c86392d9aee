"""Write a static web page that detects people in the browser, in photos, videos and cameras.

Example: bpnet web -m model.onnx -o site --serve

The page consists of files that any web server can publish; photos are not uploaded. ONNX Runtime
Web, which runs the model, is downloaded once (33 MB) and copied to the folder, so that the page
loads nothing from other servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from bodyposenet.commands.model_options import KeyOptions
from bodyposenet.commands.options import Option, StrPath, command, options_class
from bodyposenet.console import logger, print_result
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import exists, is_folder, make_directory, refuse_existing

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

    from bodyposenet.exporting.web.model import WebModel
    from bodyposenet.exporting.web.runtime import Backend

_DEFAULT_MODEL = "default"
_DEFAULT_PORT = 8000


@options_class
class WebOptions(KeyOptions):
    """Options of `web`."""

    results_dir: Annotated[
        StrPath, Option("-o", "-r", "--results_dir", help="Folder of the page.", metavar="DIR")
    ]
    model: Annotated[
        StrPath,
        Option(
            "-m",
            help="Exported model (.onnx or .etlt), with or without --with_decoding; or `default` "
            "for the default model.",
            metavar="FILE",
        ),
    ] = _DEFAULT_MODEL
    overwrite: Annotated[bool, Option(help="Replace existing files.")] = False
    webgpu: Annotated[
        bool,
        Option(
            help="Support GPUs in browsers with WebGPU, besides CPUs, which adds 17 MB to the "
            "folder. Browsers load only the files that they need. INT8 models run on CPUs only."
        ),
    ] = True
    runtime: Annotated[
        StrPath | None,
        Option(
            help="File of the npm package onnxruntime-web, for machines without internet access. "
            "Default: downloaded once.",
            metavar="FILE",
        ),
    ] = None
    serve: Annotated[
        int | None,
        Field(ge=0, le=65535),
        Option(
            help="Serve the page on this machine until Ctrl-C, at this port. Default without a "
            f"number: {_DEFAULT_PORT}.",
            metavar="PORT",
            empty=str(_DEFAULT_PORT),
        ),
    ] = None


@dataclass(frozen=True)
class WebResult:
    """A web page.

    Args:
        folder: Folder of the page.
        sizes: File, relative to the folder -> size in bytes.
    """

    folder: Path
    sizes: Mapping[str, int]

    def summary(self) -> str:
        """Return the folder and its size."""
        total = sum(self.sizes.values())
        return f"written: {self.folder}, {len(self.sizes)} files, {total / 2**20:.1f} MiB"


@command(WebOptions)
def write_web_page(options: WebOptions) -> WebResult:
    """Write a static web page that detects people in the browser.

    Example:
        >>> bodyposenet.write_web_page(model="model.onnx", results_dir="site")

    Raises:
        BodyPoseNetError: The model is not an exported one, the runtime cannot be downloaded, the
            folder exists or cannot be written, or the port is in use.
    """
    from bodyposenet.exporting.web.runtime import read_runtime
    from bodyposenet.exporting.web.site import site_files, write_site

    folder = _check_folder(Path(options.results_dir), overwrite=options.overwrite)
    with _open_server(folder, options.serve) as server:
        models = _read_models(options)
        package = Path(options.runtime) if options.runtime is not None else None
        content = site_files(models, read_runtime(models, package), _read_model_card(options.model))
        make_directory(folder, "Choose a folder that is writable, or change its permissions.")
        write_site(folder, content)
        if server is not None:
            _serve(server)
    return WebResult(folder, {name: len(part) for name, part in content.items()})


def _check_folder(folder: Path, *, overwrite: bool) -> Path:
    """Check that the page can be written to a folder, and return the folder.

    Raises:
        BodyPoseNetError: It is a file, or has files and may not be overwritten.
    """
    if exists(folder) and not is_folder(folder):
        raise BodyPoseNetError(f"{folder} is a file", "Give the name of a folder.")
    if is_folder(folder) and any(folder.iterdir()):
        refuse_existing(folder, overwrite=overwrite)
    return folder


def _read_models(options: WebOptions) -> dict[Backend, WebModel]:
    """Read the model of each backend.

    The default model is INT8 on CPUs and float16 on GPUs. Other models are one file; WebGPU has no
    kernels for INT8.
    """
    from bodyposenet.exporting.web.model import WebModel
    from bodyposenet.inference.models import FLOAT16_FILE, INT8_FILE, PRESETS

    models: dict[Backend, WebModel] = {}
    if options.model == _DEFAULT_MODEL:
        models["wasm"] = _read_default_model(INT8_FILE)
        if options.webgpu:
            models["webgpu"] = _read_default_model(FLOAT16_FILE)
        return models
    if str(options.model) in PRESETS:
        raise BodyPoseNetError(
            f"-m {options.model}: a preset is a set of options, and the page has its own",
            "Omit -m for the default model.",
        )
    path = Path(options.model)
    models["wasm"] = WebModel.read(path, _read_model_file(path, options.read_key()))
    if options.webgpu and models["wasm"].description.data_type.startswith("int8"):
        logger.info("%s: an INT8 model, so the page does not use GPUs", path)
    elif options.webgpu:
        models["webgpu"] = models["wasm"]
    return models


def _read_default_model(name: str) -> WebModel:
    from bodyposenet.exporting.web.model import WebModel
    from bodyposenet.inference.models import DEFAULT_MODEL_FOLDER

    path = DEFAULT_MODEL_FOLDER / name
    return WebModel.read(path, path.read_bytes())


def _read_model_card(model: StrPath) -> str | None:
    """Return the text about the default model, and None for other models."""
    from bodyposenet.inference.models import DEFAULT_MODEL_FOLDER

    if model != _DEFAULT_MODEL:
        return None
    return (DEFAULT_MODEL_FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")


def _read_model_file(path: Path, key: str) -> bytes:
    """Return the ONNX file, decrypted if it is sealed.

    Raises:
        BodyPoseNetError: The file is missing, is not an exported model, or has another key.
    """
    from bodyposenet.encryption import check_plain
    from bodyposenet.inference.engines.onnx_file import check_onnx, read_etlt
    from bodyposenet.inference.models import find_model
    from bodyposenet.specs.inference import InferenceSpec

    path = find_model(InferenceSpec(), str(path))
    if path.suffix.lower() == ".onnx":
        check_plain(path, key)
        check_onnx(path)
        return path.read_bytes()
    if path.suffix.lower() == ".etlt":
        logger.warning("%s: its copy in the page is a plain file, which anyone can read", path)
        return read_etlt(path, key)
    raise BodyPoseNetError(
        f"{path}: not an exported model (.onnx or .etlt)",
        f"Export it first: bpnet export -m {path} -o model.onnx",
    )


def _open_server(
    folder: Path, port: int | None
) -> AbstractContextManager[ThreadingHTTPServer | None]:
    """Open the server before the page is written, so that a port in use leaves no files.

    Raises:
        BodyPoseNetError: The port cannot be used.
    """
    from bodyposenet.exporting.web.server import open_server

    return nullcontext() if port is None else open_server(folder, port)


def _serve(server: ThreadingHTTPServer) -> None:
    """Serve the page until Ctrl-C."""
    from bodyposenet.exporting.web.server import address_of

    print_result(f"serving {address_of(server)} until Ctrl-C")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        logger.info("stopped")
