"""Options shared by several commands: encryption key, model and engine, parallel processing."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field

from bodyposenet.commands.options import CommandOptions, Need, Option, StrPath, options_class
from bodyposenet.errors import BodyPoseNetError

if TYPE_CHECKING:
    from bodyposenet.inference.engines.base import ModelEngine
    from bodyposenet.inference.parallel.executor import Executor, OpenPredictor
    from bodyposenet.inference.predictor import Predictor

KEY_VARIABLE = "BPNET_KEY"
_MAX_KEY_CHARACTERS = 2**16

IMAGES = Need("image inputs", lambda options: not options.is_video)

_ENCRYPTION, _PARALLEL = "encryption", "parallel processing of images"
_PARALLEL_IMAGES = Need(IMAGES.words, IMAGES.is_met, in_help=False)  # it is in the heading


@options_class
class KeyOptions(CommandOptions):
    """Options for the encryption of model files."""

    key: Annotated[
        str | None,
        Option(
            "-k",
            help="Key that encrypts (seals) model files; empty for plain files. Other users can "
            "read it in the process list: use --key_file or, if neither flag is given, the "
            f"environment variable {KEY_VARIABLE}.",
            empty="",
            group=_ENCRYPTION,
        ),
    ] = None
    key_file: Annotated[
        StrPath | None,
        Option(
            help="File that contains the key, instead of -k.", metavar="FILE", group=_ENCRYPTION
        ),
    ] = None
    require_sealed: Annotated[
        bool,
        Option(
            help="Reject model files and weights that are not encrypted, as anyone could have "
            "replaced them.",
            group=_ENCRYPTION,
        ),
    ] = False

    def read_key(self) -> str:
        """Return the key from `key`, `key_file` or the environment variable BPNET_KEY.

        An empty `key` means plain files, even if the variable is set.

        Returns:
            The key; empty for plain files. A `SealedKey` if encrypted files are required.

        Raises:
            BodyPoseNetError: The key is given twice, the file cannot be read or is empty, or a key
                is required and missing.
        """
        if self.key is not None and self.key_file:
            raise BodyPoseNetError(
                "-k and --key_file: only one of them is allowed", "Omit one of them."
            )
        key = self.key
        if self.key_file:
            key = _read_key_file(Path(self.key_file))
        elif key is None:
            key = os.environ.get(KEY_VARIABLE, "")
        if not self.require_sealed:
            return key
        if not key:
            raise BodyPoseNetError(
                "--require_sealed: the key is missing",
                f"Give it with -k, --key_file or {KEY_VARIABLE}.",
            )
        from bodyposenet.encryption import SealedKey

        return SealedKey(key)


def _read_key_file(file: Path) -> str:
    """Return the content of a key file, without a final line end."""
    remedy = "Give a text file that contains only the key."
    try:
        with open(file, encoding="utf-8") as text:
            key = text.read(_MAX_KEY_CHARACTERS + 1).removesuffix("\n")
    except (OSError, ValueError) as error:
        raise BodyPoseNetError(f"{file}: the key cannot be read: {error}", remedy) from error
    if not key or len(key) > _MAX_KEY_CHARACTERS:
        raise BodyPoseNetError(f"{file}: empty, or too long for a key", remedy)
    return key


@options_class
class ModelOptions(KeyOptions):
    """Options for the model and the engine that runs it."""

    inference_spec: Annotated[
        StrPath | None,
        Option(
            "-i",
            help="Inference spec (YAML). Without it, default values are used.",
            metavar="FILE",
        ),
    ] = None
    model_filename: Annotated[
        StrPath | None,
        Option(
            "-m",
            help="Model file. Overrides model_path of the inference spec; without both, the "
            "default model of the package is used. fast and accurate are the default model with "
            "other options.",
            metavar="FILE",
        ),
    ] = None
    engine: Annotated[
        Literal["auto", "pytorch", "onnx", "openvino", "tensorrt"],
        Option(
            help="Runtime that runs the model. auto: pytorch for .tlt and .hdf5, onnx (ONNX "
            "Runtime) for .onnx and .etlt, and for .engine the runtime that built it."
        ),
    ] = "auto"
    device: Annotated[
        str,
        Option(
            help="Device of the model: auto, cpu, cuda or cuda:N. auto: a GPU if the engine "
            "supports one.",
            metavar="DEVICE",
        ),
    ] = "auto"
    threads: Annotated[
        int | None,
        Field(ge=1),
        Option(help="Maximum number of CPU threads of the model. Default: all cores.", metavar="N"),
    ] = None
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        Option(
            help="Compute precision of pytorch and openvino. Default: fp32. That of an .engine "
            "file is fixed."
        ),
    ] = None

    def opener(self) -> OpenPredictor:
        """Return a function that opens the predictor, in this process or another one."""
        from bodyposenet.inference.models import open_predictor

        def _text(path: StrPath | None) -> str | None:
            return None if path is None else str(path)

        return partial(
            open_predictor, _text(self.inference_spec), _text(self.model_filename), self.read_key(),
            self.engine, precision=self.precision, device=self.device,
        )  # fmt: skip

    def open_predictor(self) -> Predictor:
        """Open the model.

        Raises:
            BodyPoseNetError: The spec, the model or an option is invalid.
        """
        return self.opener()(self.threads)


@options_class
class ParallelOptions(ModelOptions):
    """Options for the distribution of images over processes and machines."""

    processes: Annotated[
        int | None,
        Field(ge=1),
        Option(
            help="Number of processes that share the images and the CPU cores. Default: 1; with "
            "--ray, as many as the cluster can run.",
            metavar="N",
            group=_PARALLEL,
            needs=_PARALLEL_IMAGES,
        ),
    ] = None
    ray: Annotated[
        str | None,
        Option(
            help="Distribute the images over a Ray cluster: auto or host:port connects to a "
            "running one, local starts one on this machine. Results are stored in "
            "RESULTS_DIR/parts, from where the same command resumes an interrupted run.",
            metavar="ADDRESS",
            group=_PARALLEL,
            needs=_PARALLEL_IMAGES,
        ),
    ] = None
    overwrite: Annotated[
        bool,
        Option(
            help="Discard the results of earlier runs with --ray in RESULTS_DIR/parts.",
            group=_PARALLEL,
            needs=_PARALLEL_IMAGES,
        ),
    ] = False

    @property
    def is_video(self) -> bool:
        """Whether the input is a video, a camera or a stream."""
        return False

    @property
    def limits(self) -> dict[str, Any]:
        """The given limits on the reported people, as keyword arguments of the predictor."""
        return {}

    def open_executor(self, results_dir: Path) -> Executor:
        """Open the executor that runs the model on images.

        The model is always opened in this process too, so that errors are reported before other
        processes start.

        Args:
            results_dir: Folder of the results.

        Raises:
            BodyPoseNetError: The spec, the model or an option is invalid.
        """
        if self.overwrite and not self.ray:
            raise BodyPoseNetError("--overwrite: only works with --ray", "Omit it.")
        predictor = self.open_predictor()
        if self.ray:
            return self._open_cluster(self.ray, predictor, results_dir / "parts")
        if self.processes in (None, 1):
            from bodyposenet.inference.parallel.executor import LocalExecutor

            return LocalExecutor(predictor)
        from bodyposenet.inference.parallel.processes import ProcessExecutor

        return ProcessExecutor(
            self.opener(), predictor.engine.skeleton, predictor.spec, self.processes, self.threads
        )

    def _open_cluster(self, address: str, predictor: Predictor, folder: Path) -> Executor:
        from bodyposenet.inference.parallel.ray_cluster import ClusterExecutor, ClusterOptions

        options = ClusterOptions(address, self.processes, self.threads or 1)
        return ClusterExecutor(
            self.opener(), predictor.engine.skeleton, predictor.spec, options, folder,
            _manifest(predictor) | self.limits, overwrite=self.overwrite,
        )  # fmt: skip


def _manifest(predictor: Predictor) -> dict[str, Any]:
    """Return all settings that affect the poses; stored results are reused only if they match."""
    from bodyposenet.inference.models import find_model

    spec, engine = predictor.spec, cast("ModelEngine", predictor.engine)
    with find_model(spec, None).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "model": digest,
        "description": asdict(engine.description),  # from the train spec if the file has none
        "inference spec": spec.model_dump(mode="json", exclude={"model_path", "train_spec"}),
        "engine": engine.name,
    }
