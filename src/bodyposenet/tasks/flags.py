"""Flags that several sub-tasks share, and the predictor that they ask for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bodyposenet.runtime.choices import ENGINES, PRECISIONS

if TYPE_CHECKING:
    from bodyposenet.runtime.predictor import Predictor


def add_key_argument(parser: argparse.ArgumentParser) -> None:
    """`-k`; with nothing behind it (an unset $KEY) the key is empty."""
    parser.add_argument(
        "-k", "--key", nargs="?", const="", default="",
        help="key of sealed model files; empty: model files are plain",
    )  # fmt: skip


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The inference spec, the model, its key, and what runs it; see `load_predictor`."""
    parser.add_argument(
        "-i", "--inference_spec", metavar="FILE",
        help="inference spec (YAML); without it, the defaults",
    )  # fmt: skip
    parser.add_argument(
        "-m", "--model_filename", metavar="FILE",
        help="model to run; goes before model_path of the inference spec",
    )  # fmt: skip
    add_key_argument(parser)
    parser.add_argument(
        "--engine", choices=ENGINES, default="auto",
        help="what runs the model; auto: pytorch for .tlt, onnx (ONNX Runtime) for .onnx",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of the network, at most; all by default"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS,
        help="what pytorch and openvino compute in: fp32, the default, or bf16",
    )  # fmt: skip


def load_predictor(arguments: argparse.Namespace) -> Predictor:
    """The predictor that the flags of `add_model_arguments` ask for.

    Raises:
        BodyPoseNetError: The spec, the model or a flag is wrong.
    """
    from bodyposenet.runtime.models import open_predictor

    return open_predictor(
        arguments.inference_spec, arguments.model_filename, arguments.key,
        arguments.engine, arguments.threads, arguments.precision,
    )  # fmt: skip
