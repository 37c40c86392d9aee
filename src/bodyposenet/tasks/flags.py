"""Flags that several sub-tasks share, and the predictor that they ask for."""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.choices import ENGINES, PRECISIONS

if TYPE_CHECKING:
    from bodyposenet.runtime.engines.protocol import ModelEngine
    from bodyposenet.runtime.predictor import Predictor
    from bodyposenet.runtime.scale.executor import Executor, OpenPredictor


KEY_VARIABLE = "BPNET_KEY"
_MOST_KEY_CHARACTERS = 2**16


def add_key_argument(parser: argparse.ArgumentParser) -> None:
    """`-k` and other ways to give the key, see `choose_key`; behind it may be an unset $KEY."""
    parser.add_argument(
        "-k", "--key", nargs="?", const="",
        help="key of sealed model files; empty: model files are plain. Other users see it in the "
        f"list of processes: --key_file hides it, and so does the environment variable "
        f"{KEY_VARIABLE}, which is read where neither is given",
    )  # fmt: skip
    parser.add_argument("--key_file", metavar="FILE", help="file that holds the key, instead of -k")
    parser.add_argument(
        "--require_sealed", action="store_true",
        help="refuse model files that are not sealed, and plain files of weights: anybody could "
        "have put them there",
    )  # fmt: skip


def choose_key(arguments: argparse.Namespace) -> str:
    """The key of `-k` or `--key_file`; without these, of the environment variable `KEY_VARIABLE`.

    An empty `-k` is no key, whatever the variable holds.

    Raises:
        BodyPoseNetError: It is given twice, the file cannot be read or is empty, or a key is
            required and there is none.
    """
    key, file = arguments.key, arguments.key_file
    if key is not None and file:
        raise BodyPoseNetError("-k and --key_file: both give a key", "Leave one of them out.")
    if file:
        key = _read_key(Path(file))
    elif key is None:
        key = os.environ.get(KEY_VARIABLE, "")
    if not arguments.require_sealed:
        return key
    if not key:
        raise BodyPoseNetError(
            "--require_sealed: there is no key", f"Give it with -k, --key_file or {KEY_VARIABLE}."
        )
    from bodyposenet.sealing import SealedKey

    return SealedKey(key)


def _read_key(file: Path) -> str:
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


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The inference spec, the model, its key, and what runs it; see `load_predictor`."""
    parser.add_argument(
        "-i", "--inference_spec", metavar="FILE",
        help="inference spec (YAML); without it, the defaults, or those of the default model",
    )  # fmt: skip
    parser.add_argument(
        "-m", "--model_filename", metavar="FILE",
        help="model to run; goes before model_path of the inference spec; without both, the "
        "default model, which comes with the package",
    )  # fmt: skip
    add_key_argument(parser)
    parser.add_argument(
        "--engine", choices=ENGINES, default="auto",
        help="what runs the model; auto: pytorch for .tlt and .hdf5, onnx (ONNX Runtime) for .onnx "
        "and .etlt, for .engine what built it",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of the network, at most; all by default"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS,
        help="what pytorch and openvino compute in: fp32, the default, or bf16; an .engine file "
        "has its own",
    )  # fmt: skip


def load_predictor(arguments: argparse.Namespace) -> Predictor:
    """The predictor that the flags of `add_model_arguments` ask for.

    Raises:
        BodyPoseNetError: The spec, the model or a flag is wrong.
    """
    return _opener(arguments)(arguments.threads)


def _opener(arguments: argparse.Namespace) -> OpenPredictor:
    """Opens the predictor, here or in another process."""
    from bodyposenet.runtime.models import open_predictor

    return partial(
        open_predictor, arguments.inference_spec, arguments.model_filename, arguments.key,
        arguments.engine, precision=arguments.precision,
    )  # fmt: skip


def add_executor_arguments(parser: argparse.ArgumentParser) -> None:
    """What a large number of images is shared among; see `open_executor`."""
    group = parser.add_argument_group("flags for very many images")
    group.add_argument(
        "--processes", type=int, metavar="N",
        help="predictor processes that share the images, each with its share of the cores; 1 by "
        "default, with --ray as many as the cluster has room for",
    )  # fmt: skip
    group.add_argument(
        "--ray", metavar="ADDRESS",
        help="share the images among the machines of a Ray cluster, from one of them: auto or "
        "host:port joins it, local starts one here; results are kept in RESULTS_DIR/parts, and a "
        "run that was cut off goes on from there",
    )  # fmt: skip
    group.add_argument(
        "--overwrite", action="store_true",
        help="with --ray: begin again, whatever earlier runs have left in RESULTS_DIR/parts",
    )  # fmt: skip


def open_executor(arguments: argparse.Namespace, results_dir: Path) -> Executor:
    """What runs the model over images, as the flags of `add_executor_arguments` say.

    The model is opened here in any case: what is wrong with it is told before others try.

    Raises:
        BodyPoseNetError: The spec, the model or a flag is wrong.
    """
    processes = arguments.processes
    if processes is not None and processes < 1:
        raise BodyPoseNetError(f"--processes {processes}: at least 1")
    if arguments.overwrite and not arguments.ray:
        raise BodyPoseNetError("--overwrite: is for --ray", "Leave it out.")
    predictor = load_predictor(arguments)
    if arguments.ray:
        return _open_cluster(arguments, predictor, results_dir / "parts")
    if processes in (None, 1):
        from bodyposenet.runtime.scale.executor import LocalExecutor

        return LocalExecutor(predictor)
    from bodyposenet.runtime.scale.processes import ProcessExecutor

    return ProcessExecutor(
        _opener(arguments), predictor.engine.skeleton, predictor.spec, processes, arguments.threads
    )


def _open_cluster(arguments: argparse.Namespace, predictor: Predictor, folder: Path) -> Executor:
    from bodyposenet.runtime.scale.cluster import ClusterExecutor, ClusterOptions

    options = ClusterOptions(arguments.ray, arguments.processes, arguments.threads or 1)
    return ClusterExecutor(
        _opener(arguments), predictor.engine.skeleton, predictor.spec, options, folder,
        _manifest(predictor), overwrite=arguments.overwrite,
    )  # fmt: skip


def _manifest(predictor: Predictor) -> dict[str, Any]:
    """What the poses in an image depend on, beside the image and what is done with it."""
    from bodyposenet.runtime.models import find_model

    spec, engine = predictor.spec, cast("ModelEngine", predictor.engine)
    with find_model(spec, None).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "model": digest,
        "description": asdict(engine.description),  # by the train spec, where the file has none
        "inference spec": spec.model_dump(mode="json", exclude={"model_path", "train_spec"}),
        "engine": engine.name,
    }
