"""Loading of pretrained weights: detection of the file format, and checks of the architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from bodyposenet.encryption import check_plain
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import NetworkDescription, build_network
from bodyposenet.model.keras_hdf5 import (
    describe_tao_model,
    is_keras_file,
    is_tao_model,
    read_keras_file,
)
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.model.pretrained import (
    lightweight_openpose,
    movenet,
    native,
    open_model_zoo,
    vgg19,
)
from bodyposenet.model.pretrained.transfer import WeightReport, copy_weights
from bodyposenet.model.pretrained.weights import PretrainedWeights
from bodyposenet.skeleton import Skeleton

_PYTORCH_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt")
_PLAIN_SUFFIXES = (*_PYTORCH_SUFFIXES, ".onnx", ".xml", ".safetensors")


def read_weights(path: Path, key: str, network: BodyPoseNetwork | None) -> PretrainedWeights:
    """Read a file of weights in any of the supported formats.

    Args:
        path: The file, see `load_pretrained`.
        key: Key of a sealed model.
        network: Network that the weights are for, or None for a network of the file's own
            architecture. It determines whether batch normalization and channels that are always 0
            are kept.

    Raises:
        BodyPoseNetError: The file cannot be read or is damaged, or is plain although a key was
            given.
    """
    suffix = path.suffix.lower()
    from_keras = is_keras_file(path)
    if not from_keras and suffix not in _PLAIN_SUFFIXES:
        return native.read_tlt(path, key)
    check_plain(path, key)
    if from_keras:
        tensors = read_keras_file(path)
        if is_tao_model(tensors):  # the normalization is in the train spec, not in the file
            model = native.describe_weights(path, *describe_tao_model(path, tensors))
            return replace(model, normalization=None)
        return _recognize(path, tensors, {}, network)
    if suffix == ".onnx":
        return native.read_onnx(path)
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
    """Convert the tensors of a published network; others keep their names."""
    try:
        if vgg19.is_vgg19(tensors):
            return vgg19.convert(tensors)
        if lightweight_openpose.is_lightweight_openpose(tensors):
            keep_norms = network is not None and network.spec.backbone_attributes.batch_norm
            return lightweight_openpose.convert(
                tensors, keep_norms=keep_norms, keep_inactive_channels=network is not None
            )
        if movenet.is_movenet(tensors):
            return movenet.convert(tensors, metadata)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise BodyPoseNetError(
            f"{path}: not a complete published network: {type(error).__name__}: {error}",
            "Copy the file again; it may be another variant, or lack layers.",
        ) from error
    return PretrainedWeights(tensors)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors, as float32, and the metadata."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, NotImplementedError) as error:
        # NotImplementedError: a type of less than a byte.
        raise BodyPoseNetError(
            f"{path}: not a readable safetensors file: {error}",
            "Copy it again; it may be truncated.",
        ) from error


def load_pretrained(network: BodyPoseNetwork, path: str | Path, key: str = "") -> WeightReport:
    """Copy the weights of a file that match by name and shape into the network.

    Args:
        network: Network, modified in place.
        path: One of the following.
            - A model of this package: `.tlt`, or a float `.onnx` file.
            - Lightweight OpenPose: the Open Model Zoo's IR (`.xml`, with its `.bin` beside it), or
              the PyTorch checkpoint of Daniil-Osokin/lightweight-human-pose-estimation.pytorch
              (`.pth`).
            - MoveNet's backbone (`.safetensors`).
            - A model of TAO 5, complete or in part (Keras, `.hdf5` or `.h5`).
            - VGG19: that of Keras Applications (`.h5`), or `.safetensors` with the keys
              `conv1_1.weight` and so on.
        key: Key of a sealed model.

    Returns:
        The tensors that were loaded, and those that were not.

    Raises:
        BodyPoseNetError: The file cannot be read, is of another architecture, or nothing in it
            matches.
    """
    path = Path(path)
    weights = read_weights(path, key, network)
    _check_backbone(weights, network, path)
    report = copy_weights(weights, network, path)
    if not any(name.endswith(".weight") for name in report.loaded):
        raise BodyPoseNetError(
            f"{path}: none of its {len(weights.tensors)} tensors matches a layer of the network by "
            "name and shape",
            "Check that model.backbone_attributes in the train spec describes the same network.",
        )
    return report


def build_pretrained(
    path: str | Path,
    key: str = "",
    skeleton: Skeleton | None = None,
    normalization: Normalization | None = None,
) -> tuple[BodyPoseNetwork, WeightReport]:
    """Build the network of a file (`load_graph: true`), and load its weights.

    Args:
        path: The file, see `load_pretrained`. Files without an architecture are not supported:
            VGG19, MoveNet, and Keras files of other networks than TAO's.
        key: Key of a sealed model.
        skeleton: Skeleton of the new network, or None for the file's. Channels of joints and limbs
            that the file lacks are initialized.
        normalization: Normalization of the new network, or None for the file's.

    Returns:
        The network, and the tensors that were loaded.

    Raises:
        BodyPoseNetError: The file cannot be read, has no architecture, or this version cannot build
            its network.
    """
    path = Path(path)
    weights = read_weights(path, key, None)
    if weights.spec is None:
        raise BodyPoseNetError(
            f"{path}: holds only weights, and not the architecture that load_graph needs",
            "Set load_graph: false, and describe the network in model of the train spec.",
        )
    maps = {"heatmap_out", "paf_out"}
    out_channels = {
        name: channels
        for name, channels in weights.out_channels.items()
        if name not in maps and not name.endswith("_branch/out")
    }
    skeleton = skeleton or weights.skeleton
    if skeleton is None:
        raise BodyPoseNetError(
            f"{path}: the skeleton of the model is unknown",
            "Name its pose configuration in the train spec.",
        )
    description = NetworkDescription(
        skeleton,
        weights.spec,
        normalization or weights.normalization or Normalization(),
        out_channels,
    )
    network = build_network(path, description)
    report = copy_weights(weights, network, path)
    wrong = [*report.missing, *report.mismatched, *report.unused]
    if wrong:
        raise BodyPoseNetError(
            f"{path}: {len(wrong)} tensors do not fit the network in the file's header; the first "
            f"is {wrong[0]}",
            "The file was edited, or exported from a network whose batch normalization cannot be "
            "restored: give its .tlt file.",
        )
    return network, report


def _check_backbone(weights: PretrainedWeights, network: BodyPoseNetwork, path: Path) -> None:
    """Refuse weights that require another backbone."""
    required, actual = weights.backbone, network.spec.backbone_attributes
    if required is None:
        return
    keys = {"architecture", "mtype"}
    if required.architecture != "vgg":
        keys.add("batch_norm")
    needed = {key: getattr(required, key) for key in sorted(keys)}
    differing = {key: value for key, value in needed.items() if getattr(actual, key) != value}
    if differing:
        given = ", ".join(f"{key}: {getattr(actual, key)}" for key in differing)
        raise BodyPoseNetError(
            f"{path}: weights for {', '.join(f'{key}: {value}' for key, value in needed.items())}; "
            f"the network has {given}",
            "Set these in model.backbone_attributes"
            + (", or load_graph: true." if weights.spec is not None else "."),
        )
