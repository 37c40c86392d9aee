"""Input and output files of an export: their names, and checks that they can be written."""

from __future__ import annotations

from pathlib import Path

from bodyposenet.console import logger
from bodyposenet.encryption import model_file
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import exists, is_file, is_folder, make_directory, refuse_existing

_TRAINED, _PLAIN, _SEALED, _ENGINE = ".tlt", ".onnx", ".etlt", ".engine"


def find_trained_model(named: Path) -> Path:
    """Find the model to export, a file of `bpnet train` or `bpnet prune`.

    Args:
        named: The given path, see `model_file`.

    Raises:
        BodyPoseNetError: The file does not exist, or is an exported model.
    """
    model = model_file(named)
    if model.suffix.lower() in (_PLAIN, _SEALED, _ENGINE):
        raise BodyPoseNetError(
            f"{model}: already exported", f"Give -m the {_TRAINED} file that `bpnet train` wrote."
        )
    if not is_file(model):
        raise BodyPoseNetError(f"File not found: {model}", f"Give -m a model ({_TRAINED}).")
    return model


def output_file(model: Path, named: Path | None) -> Path:
    """Return the path of the exported file, with an extension if it has none.

    Args:
        model: The model file, from which the default name is derived.
        named: The given path, if any.

    Raises:
        BodyPoseNetError: The extension is neither `.onnx` nor `.etlt`.
    """
    output = named or model.with_suffix(_PLAIN)
    if not output.suffix:
        output = output.with_name(output.name + _PLAIN)
    if output.suffix.lower() not in (_PLAIN, _SEALED):
        raise BodyPoseNetError(
            f"Unsupported extension: -o {output}",
            f"Give a name that ends in {_PLAIN}, or in {_SEALED} for a sealed file.",
        )
    return output


def is_sealed(output: Path) -> bool:
    """Return whether an output file is sealed (`.etlt`)."""
    return output.suffix.lower() == _SEALED


def check_outputs(
    output: Path, engine: Path | None, bundle: Path | None, results_dir: Path, *, overwrite: bool
) -> None:
    """Check that all results can be written, before any work is done; create their folders.

    Args:
        output: The .onnx or .etlt file.
        engine: The engine file, if one is to be built.
        bundle: Folder of the deployment bundle, if one is to be written. No other file may be
            written to it.
        results_dir: Folder of the status file.
        overwrite: Whether results that exist may be replaced.

    Raises:
        BodyPoseNetError: A result exists and may not be replaced, or a folder cannot be written.
    """
    files = [output, engine] if engine is not None else [output]
    folders = [*(path.parent for path in files), results_dir]
    if bundle is not None:
        _check_bundle(bundle, folders, overwrite=overwrite)
        folders.append(bundle if is_folder(bundle) else bundle.parent)
    for path in files:
        if is_folder(path):
            raise BodyPoseNetError(f"{path} is a folder", "Give the name of a file.")
        refuse_existing(path, overwrite=overwrite)
    for folder in folders:
        make_directory(folder, "Choose a folder that is writable, or change its permissions.")


def warn_about_plain_files(
    output: Path, engine: Path | None, key: str, *, seals_engine: bool
) -> None:
    """Log a warning for each file that is not sealed although a key is given, or that lacks a key.

    Args:
        output: The .onnx or .etlt file.
        engine: The engine file, if one is to be built.
        key: The key; empty if there is none.
        seals_engine: Whether the engine is to be sealed.
    """
    files = [(output, is_sealed(output), f"-o NAME{_SEALED}")]
    if engine is not None:
        files.append((engine, seals_engine, "--seal_engine"))
    for path, sealed, flag in files:
        if sealed and not key:
            logger.warning("%s will not be sealed: no key (-k) was given", path)
        if key and not sealed:
            logger.warning("%s will be a plain file; %s seals it with the key", path, flag)


def _check_bundle(bundle: Path, others: list[Path], *, overwrite: bool) -> None:
    """Refuse a folder that is not empty (unless it may be replaced) or that other outputs go to."""
    if exists(bundle) and not is_folder(bundle):
        raise BodyPoseNetError(f"{bundle} is a file", "Give a folder for the deployment bundle.")
    if is_folder(bundle) and any(bundle.iterdir()):
        refuse_existing(bundle, overwrite=overwrite)
    for other in others:
        if other.resolve().is_relative_to(bundle.resolve()):
            raise BodyPoseNetError(
                f"--deployment_bundle {bundle}: another output goes to this folder ({other}), but "
                "a bundle has its own copy of the model",
                "Give --deployment_bundle a folder that no other output uses.",
            )
