"""Options that several commands share: the key, the model and what runs it, many images."""

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
_MOST_KEY_CHARACTERS = 2**16

IMAGES = Need("images", lambda options: not options.is_video)

_KEYS, _MANY = "sealed model files", "very many images"


@options_class
class KeyOptions(CommandOptions):
    """How sealed model files are opened and written."""

    key: Annotated[
        str | None,
        Option(
            "-k",
            help="Key of sealed model files; empty: model files are plain. Other users see it in "
            f"the list of processes: --key_file hides it, and so does the environment variable "
            f"{KEY_VARIABLE}, which is read where neither is given.",
            empty="",
            group=_KEYS,
        ),
    ] = None
    key_file: Annotated[
        StrPath | None,
        Option(help="File that holds the key, instead of -k.", metavar="FILE", group=_KEYS),
    ] = None
    require_sealed: Annotated[
        bool,
        Option(
            help="Refuse model files that are not sealed, and plain files of weights: anybody "
            "could have put them there.",
            group=_KEYS,
        ),
    ] = False

    def read_key(self) -> str:
        """Read the key: of `key` or `key_file`, else of the environment variable `KEY_VARIABLE`.

        An empty `key` is no key, whatever the variable holds.

        Raises:
            BodyPoseNetError: It is given twice, the file cannot be read or is empty, or a key is
                required and there is none.
        """
        if self.key is not None and self.key_file:
            raise BodyPoseNetError("-k and --key_file: both give a key", "Leave one of them out.")
        key = self.key
        if self.key_file:
            key = _read_key_file(Path(self.key_file))
        elif key is None:
            key = os.environ.get(KEY_VARIABLE, "")
        if not self.require_sealed:
            return key
        if not key:
            raise BodyPoseNetError(
                "--require_sealed: there is no key",
                f"Give it with -k, --key_file or {KEY_VARIABLE}.",
            )
        from bodyposenet.encryption import SealedKey

        return SealedKey(key)


def _read_key_file(file: Path) -> str:
    """The text of a key file, without the line end behind it."""
    remedy = "Name a text file that holds nothing but the key."
    try:
        with open(file, encoding="utf-8") as text:
            key = text.read(_MOST_KEY_CHARACTERS + 1).removesuffix("\n")
    except (OSError, ValueError) as error:
        raise BodyPoseNetError(f"{file}: cannot be read as a key: {error}", remedy) from error
    if not key or len(key) > _MOST_KEY_CHARACTERS:
        raise BodyPoseNetError(f"{file}: is empty, or too long for a key", remedy)
    return key


@options_class
class ModelOptions(KeyOptions):
    """The model and what runs it."""

    inference_spec: Annotated[
        StrPath | None,
        Option(
            "-i",
            help="Inference spec (YAML); without it, the defaults, or those of the default model.",
            metavar="FILE",
        ),
    ] = None
    model_filename: Annotated[
        StrPath | None,
        Option(
            "-m",
            help="Model to run. Overrides model_path of the inference spec; without both, the "
            "default model that comes with the package runs.",
            metavar="FILE",
        ),
    ] = None
    engine: Annotated[
        Literal["auto", "pytorch", "onnx", "openvino", "tensorrt"],
        Option(
            help="What runs the model; auto: pytorch for .tlt and .hdf5, onnx (ONNX Runtime) for "
            ".onnx and .etlt, for .engine what built it."
        ),
    ] = "auto"
    device: Annotated[
        str,
        Option(
            help="Where the model runs: auto, cpu, cuda or cuda:N. auto: a GPU if the engine can "
            "use one.",
            metavar="DEVICE",
        ),
    ] = "auto"
    threads: Annotated[
        int | None,
        Field(ge=1),
        Option(help="Threads of the network, at most; all by default.", metavar="N"),
    ] = None
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        Option(
            help="Precision that pytorch and openvino compute in, fp32 by default; an .engine "
            "file has its own."
        ),
    ] = None

    def opener(self) -> OpenPredictor:
        """A function that opens the predictor, here or in another process."""
        from bodyposenet.inference.models import open_predictor

        def text(path: StrPath | None) -> str | None:
            return None if path is None else str(path)

        return partial(
            open_predictor, text(self.inference_spec), text(self.model_filename), self.read_key(),
            self.engine, precision=self.precision, device=self.device,
        )  # fmt: skip

    def open_predictor(self) -> Predictor:
        """Open the model.

        Raises:
            BodyPoseNetError: The spec, the model or an option is wrong.
        """
        return self.opener()(self.threads)


@options_class
class ManyImagesOptions(ModelOptions):
    """How the work on a large number of images is shared."""

    processes: Annotated[
        int | None,
        Field(ge=1),
        Option(
            help="Processes that share the images, each with its share of the cores; 1 by "
            "default, with --ray as many as the cluster has room for.",
            metavar="N",
            group=_MANY,
            needs=IMAGES,
        ),
    ] = None
    ray: Annotated[
        str | None,
        Option(
            help="Share the images among the machines of a Ray cluster, from one of them: auto or "
            "host:port joins it, local starts one here. Results are kept in RESULTS_DIR/parts; a "
            "run that was stopped continues there.",
            metavar="ADDRESS",
            group=_MANY,
            needs=IMAGES,
        ),
    ] = None
    overwrite: Annotated[
        bool,
        Option(
            help="With --ray: start again, whatever earlier runs have left in RESULTS_DIR/parts.",
            group=_MANY,
            needs=IMAGES,
        ),
    ] = False

    @property
    def is_video(self) -> bool:
        """Whether the input has frames: a video, a camera or a stream."""
        return False

    @property
    def limits(self) -> dict[str, Any]:
        """Limits of what is reported, as far as they are given."""
        return {}

    def open_executor(self, results_dir: Path) -> Executor:
        """Open what runs the model over images.

        The model is opened here in any case: what is wrong with it is reported before other
        processes start.

        Args:
            results_dir: Folder of the results.

        Raises:
            BodyPoseNetError: The spec, the model or an option is wrong.
        """
        if self.overwrite and not self.ray:
            raise BodyPoseNetError("--overwrite: is for --ray", "Leave it out.")
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
    """What the poses in an image depend on, beside the image and what is done with it."""
    from bodyposenet.inference.models import find_model

    spec, engine = predictor.spec, cast("ModelEngine", predictor.engine)
    with find_model(spec, None).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "model": digest,
        "description": asdict(engine.description),  # by the train spec, where the file has none
        "inference spec": spec.model_dump(mode="json", exclude={"model_path", "train_spec"}),
        "engine": engine.name,
    }
