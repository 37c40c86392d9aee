"""Flags that several sub-tasks share."""

from __future__ import annotations

import argparse


def add_key_argument(parser: argparse.ArgumentParser) -> None:
    """`-k`; with nothing behind it (an unset $KEY) the key is empty."""
    parser.add_argument(
        "-k", "--key", nargs="?", const="", default="",
        help="key of sealed model files; empty: model files are plain",
    )  # fmt: skip


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The inference spec, the model and its key."""
    parser.add_argument(
        "-i", "--inference_spec", metavar="FILE",
        help="inference spec (YAML); without it, the defaults",
    )  # fmt: skip
    parser.add_argument(
        "-m", "--model_filename", metavar="FILE",
        help="model to run; goes before model_path of the inference spec",
    )  # fmt: skip
    add_key_argument(parser)
