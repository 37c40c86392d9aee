"""Read weights of every format that `pretrained_weights` takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.keras import describe_tao_model, is_keras, is_tao_model, read_keras
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.model.pretrained import lightweight_openpose, movenet, open_model_zoo, own, vgg19
from bodyposenet.model.pretrained.weights import PretrainedWeights
from bodyposenet.sealing import check_plain

_PYTORCH_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt")
_PLAIN_SUFFIXES = (*_PYTORCH_SUFFIXES, ".onnx", ".xml", ".safetensors")


def read_weights(path: Path, key: str, network: BodyPoseNetwork | None) -> PretrainedWeights:
    """Read a file of weights.

    Args:
        path: See `load_pretrained`.
        key: Key of a sealed model.
        network: What they are for: it decides whether batch normalization and channels that are
            always 0 stay. None: for a network of the file's own architecture.

    Raises:
        BodyPoseNetError: The file cannot be read, or is damaged; or it is plain and must not be.
    """
    suffix = path.suffix.lower()
    from_keras = is_keras(path)
    if not from_keras and suffix not in _PLAIN_SUFFIXES:
        return own.read_tlt(path, key)
    check_plain(path, key)
    if from_keras:
        tensors = read_keras(path)
        if is_tao_model(tensors):  # made for the input that the train spec describes
            model = own.describe_weights(path, *describe_tao_model(path, tensors))
            return replace(model, normalization=None)
        return _recognize(path, tensors, {}, network)
    if suffix == ".onnx":
        return own.read_onnx(path)
    if suffix == ".xml":
        return _recognize(path, open_model_zoo.read_ir(path), {}, network)
    if suffix in _PYTORCH_SUFFIXES:
        return _recognize(path, lightweight_openpose.read_checkpoint(path), {}, network)
    return _recognize(path, *_read_safetensors(path), network)


def _recognize(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    network: BodyPoseNetwork | None,
) -> PretrainedWeights:
    """Convert the tensors of a published network to ours; others are taken under their names."""
    try:
        if vgg19.is_vgg19(tensors):
            return vgg19.convert(tensors)
        if lightweight_openpose.is_lightweight_openpose(tensors):
            keep_norms = network is not None and network.spec.backbone_attributes.batch_norm
            return lightweight_openpose.convert(
                tensors, keep_norms=keep_norms, keep_widths=network is not None
            )
        if movenet.is_movenet(tensors):
            return movenet.convert(tensors, metadata)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise BodyPoseNetError(
            f"{path}: not a whole published network: {type(error).__name__}: {error}",
            "Copy the file again; it may be another variant, or have lost layers.",
        ) from error
    return PretrainedWeights(tensors)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors, as float32, and the metadata."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, NotImplementedError) as error:  # of types of less than a byte
        raise BodyPoseNetError(
            f"{path}: not a readable safetensors file: {error}",
            "Copy it again; it may be cut short.",
        ) from error
