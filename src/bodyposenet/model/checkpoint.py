"""Model files (`.tlt`) and other files of tensors: a JSON header and safetensors in a container.

The header of a model file describes its network in full (skeleton, architecture, output channels of
the layers, normalization), so that no spec is needed to load it. A key (`-k`) encrypts the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bodyposenet.encryption import check_plain, read_container, write_container
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.keras_hdf5 import describe_tao_model, is_keras_file, read_keras_file
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.model_header import NetworkHeader
from bodyposenet.specs.network import ModelConfig
from bodyposenet.types import HEATMAP_SIGMA

_KIND = "model"
_UPDATE = "Update bodyposenet (pip install -U bodyposenet), or use the version that wrote the file."


@dataclass(frozen=True)
class NetworkDescription:
    """Arguments of `BodyPoseNetwork`, as read from the header of a file.

    Args:
        skeleton: Skeleton, which determines the numbers of heatmaps and PAFs.
        spec: The `model` block of the train spec.
        normalization: Normalization of the pixels.
        out_channels: Output channels of convolutions by layer name.
        heatmap_sigma: Standard deviation of the Gaussians in the heatmaps, in input pixels.
    """

    skeleton: Skeleton
    spec: ModelConfig
    normalization: Normalization
    out_channels: Mapping[str, int]
    heatmap_sigma: float = HEATMAP_SIGMA


def write_tensors(
    path: str | Path, header: dict[str, Any], tensors: dict[str, Tensor], *, key: str = ""
) -> None:
    """Write a file of named tensors.

    Args:
        path: The file.
        header: JSON values; they are not encrypted.
        tensors: Tensors on any device; they must not share memory.
        key: Key that encrypts the file; a plain file is written if it is empty.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    body = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    write_container(path, header, body, key)


def read_tensors(path: str | Path, key: str = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a file that `write_tensors` wrote, or a model of TAO 5 (Keras, `.hdf5`).

    Args:
        path: The file.
        key: Its key, if it is sealed.

    Returns:
        The header and the tensors, which are on the CPU. For a model of TAO 5, the header is made
        from its layers, see `describe_tao_model`.

    Raises:
        BodyPoseNetError: The file cannot be opened (see `encryption`), or does not hold tensors.
    """
    if is_keras_file(path):
        check_plain(path, key)
        described, tensors = describe_tao_model(Path(path), read_keras_file(Path(path)))
        return {"kind": _KIND} | described, tensors
    header, body = read_container(path, key)
    try:
        return header, load(body)
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch does not have
        raise BodyPoseNetError(
            f"{path}: does not hold tensors (kind: {header.get('kind', 'unknown')})",
            "Give a .tlt file that `bpnet train` wrote.",
        ) from error


def model_header(network: BodyPoseNetwork, *, epoch: int = 0, spec: str = "") -> dict[str, Any]:
    """Return the header of a model file, from which the network can be built again.

    Args:
        network: The network.
        epoch: Number of epochs that it was trained for.
        spec: Text of the train spec. It must not contain secrets: the header is not encrypted.
    """
    return {
        "kind": _KIND,
        "skeleton": network.skeleton.to_pose_configuration(),
        "network": network.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
        "widths": network.out_channels(),
        "normalization": {
            "image_scale": list(network.normalization.image_scale),
            "image_offset": list(network.normalization.image_offset),
        },
        "stride": network.stride,
        "heatmap_sigma": network.heatmap_sigma,
        "epoch": epoch,
        "spec": spec,
    }


def named_tensors(network: BodyPoseNetwork) -> dict[str, Tensor]:
    """Return the weights and statistics of a network by name, such as `heatmap_out.bias`.

    A name is TAO's name of the layer and the parameter's name in PyTorch. The tensors share memory
    with the network, so changes to them change it.
    """
    return {
        f"{name}.{part}": tensor
        for name, layer in network.layers().items()
        for part, tensor in layer.state_dict().items()
    }


def save_model(
    path: str | Path, network: BodyPoseNetwork, *, key: str = "", epoch: int = 0, spec: str = ""
) -> None:
    """Write a model file (`.tlt`).

    Args:
        path: The file.
        network: The network.
        key: Key that encrypts the file; a plain file is written if it is empty.
        epoch: Number of epochs that it was trained for.
        spec: Text of the train spec, see `model_header`.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    header = model_header(network, epoch=epoch, spec=spec)
    write_tensors(path, header, named_tensors(network), key=key)


def load_model(
    path: str | Path, key: str = "", training: Mapping[str, Any] | None = None
) -> BodyPoseNetwork:
    """Load the network of a model file on the CPU.

    Args:
        path: The file.
        key: Its key, if it is sealed.
        training: Values for header entries that the file lacks: `normalization`, which models of
            TAO 5 do not have, and `heatmap_sigma`, which files of older versions do not have
            either. If None, they are taken to be as in TAO's specs.

    Raises:
        BodyPoseNetError: The file cannot be opened (see `encryption`), does not hold a model, or
            holds one that this version cannot build.
    """
    return read_model(path, key, training)[1]


def read_model(
    path: str | Path, key: str = "", training: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], BodyPoseNetwork]:
    """Load the header of a model file (see `model_header`) and its network (see `load_model`)."""
    header, tensors = read_tensors(path, key)
    _check_kind(path, header)
    if training is not None and is_keras_file(path):
        header |= training
    described = NetworkHeader.read(path, header)
    if training is not None and not described.has_sigma:
        described.heatmap_sigma = training["heatmap_sigma"]
    header["heatmap_sigma"] = described.heatmap_sigma
    return header, restore_network(path, described, tensors)


def restore_network(
    path: str | Path, header: NetworkHeader, tensors: Mapping[str, Tensor]
) -> BodyPoseNetwork:
    """Build the network of a file on the CPU, with its tensors.

    Args:
        path: The file, for errors.
        header: Header of the file.
        tensors: Tensors of the file, by the names of `named_tensors`.

    Raises:
        BodyPoseNetError: This version cannot build the network, or the tensors do not fit it.
    """
    description = _description(header)
    with torch.device("meta"):  # needs no memory, whatever sizes the header has
        _check_fit(path, build_network(path, description), tensors)
    network = build_network(path, description)
    load_tensors(path, network, tensors)
    return network


def load_tensors(path: str | Path, network: BodyPoseNetwork, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a network.

    Args:
        path: The file that they come from, for errors.
        network: Network, modified in place.
        tensors: All its tensors, by the names of `named_tensors`.

    Raises:
        BodyPoseNetError: Names, shapes or types differ from the network's.
    """
    _check_fit(path, network, tensors)
    for name, tensor in named_tensors(network).items():
        tensor.copy_(tensors[name])


def _check_fit(path: str | Path, network: BodyPoseNetwork, tensors: Mapping[str, Tensor]) -> None:
    """Check that names, shapes and types of tensors are those of a network."""
    own = named_tensors(network)
    wrong = sorted(own.keys() ^ tensors.keys()) or [
        name
        for name, tensor in own.items()
        if tensor.shape != tensors[name].shape
        or tensor.is_floating_point() != tensors[name].is_floating_point()
    ]
    if wrong:
        raise BodyPoseNetError(
            f"{path}: {len(wrong)} tensors do not fit the network in the file's header; the first "
            f"is {wrong[0]}",
            "The file was edited, or written by a version whose networks differ: train the model "
            "again.",
        )


def _check_kind(path: str | Path, header: dict[str, Any]) -> None:
    """Check that a file holds a model, and not, for example, the state of a training."""
    if header.get("kind") != _KIND:
        raise BodyPoseNetError(
            f"{path}: does not hold a model (kind: {header.get('kind', 'unknown')})",
            "Give a .tlt file that `bpnet train` wrote.",
        )


def read_description(path: str | Path, header: Mapping[str, Any]) -> NetworkDescription:
    """Read the description of the network from a header.

    Args:
        path: The file, for errors.
        header: Header of a model file, see `model_header`.

    Raises:
        BodyPoseNetError: The header is damaged, or its network is unknown to this version.
    """
    return _description(NetworkHeader.read(path, header))


def _description(header: NetworkHeader) -> NetworkDescription:
    """Convert a header to the arguments of the network."""
    pixels = header.normalization
    return NetworkDescription(
        header.to_skeleton(),
        header.network,
        Normalization(pixels.image_scale, pixels.image_offset),
        header.out_channels,
        header.heatmap_sigma,
    )


def build_network(path: str | Path, description: NetworkDescription) -> BodyPoseNetwork:
    """Build a network with newly initialized weights.

    Args:
        path: The file that the description comes from, for errors.
        description: Description of the network.

    Raises:
        BodyPoseNetError: This version cannot build the network.
    """
    try:
        return BodyPoseNetwork(
            description.skeleton,
            description.spec,
            description.normalization,
            description.out_channels,
            description.heatmap_sigma,
        )
    except (AttributeError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise BodyPoseNetError(
            f"{path}: this version cannot build the network in its header: {error}", _UPDATE
        ) from error
