"""Exit codes of commands and scripts, and how they report errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bodyposenet.console import print_result
from bodyposenet.errors import STOPPED, BodyPoseNetError, Stopped

_EXTRAS = {
    "torch": "train", "torch_pruning": "train", "safetensors": "train", "simplejpeg": "train",
    "google_crc32c": "train", "google": "train",
    "tensorboard": "train", "faster_coco_eval": "eval", "matplotlib": "eval",
    "h5py": "export", "onnx": "export", "onnxscript": "export", "onnx_ir": "web",
    "openvino": "openvino", "tensorrt": "tensorrt", "cuda": "tensorrt",
    "ray": "ray", "pyarrow": "ray", "pandas": "hdf5", "tables": "hdf5",
}  # fmt: skip
"""Package -> the extra that installs it."""

_EXTRAS_OF_COMMANDS = {
    "dataset_convert": "train", "convert_dataset": "train", "train": "train", "prune": "train",
    "export": "export", "web": "web", "write_web_page": "web",
}  # fmt: skip
"""Command or function -> the extra that installs everything that it needs, engines aside."""
_ENGINES = ("openvino", "tensorrt", "ray")
"""Extras that commands need for some options only."""


def exit_code_of(name: str, work: Callable[[], object]) -> int:
    """Run the function of a command or a script, and print its error if it fails.

    Args:
        name: Name of the command or script.
        work: The function.

    Returns:
        Exit code: 0 for success; 2 for an error that the user can fix, such as a missing package;
        75 if a signal stopped a training run whose state is saved; 130 after Ctrl-C.
    """
    try:
        with translate_errors(name):
            work()
    except BodyPoseNetError as error:
        print_result(f"error: {error.what}", error=True)
        if error.remedy:
            print_result(f"       {error.remedy}", error=True)
        return 2
    except Stopped as stop:
        if not stop.is_reported:
            print_result(str(stop), error=True)
        return STOPPED
    except KeyboardInterrupt:
        print_result("interrupted", error=True)
        return 130
    return 0


@contextmanager
def translate_errors(name: str) -> Iterator[None]:
    """Turn system errors that the user can fix into `BodyPoseNetError` (context manager).

    Args:
        name: Name of the command or script.

    Raises:
        BodyPoseNetError: A package of an extra is missing, a file cannot be used, or there is not
            enough memory.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise BodyPoseNetError(
            f"{error.filename}: {error.strerror}", "Check the path and its permissions."
        ) from error
    except MemoryError as error:
        raise BodyPoseNetError(
            f"not enough memory: {str(error) or name}", "Use smaller inputs, or a smaller batch."
        ) from error
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _EXTRAS:
            raise
        extra = _EXTRAS[package]
        if extra not in _ENGINES:
            extra = _EXTRAS_OF_COMMANDS.get(name, extra)
        raise BodyPoseNetError(
            f"{package} is not installed", f"pip install 'bodyposenet[{extra}]'"
        ) from error
