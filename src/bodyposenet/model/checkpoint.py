"""Networks and other tensors to files and back: a JSON header and safetensors in a container.

A model file describes its network in full (skeleton, architecture, output channels of the layers,
normalization), so that nothing else is needed to run it.
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
_UPDATE = "Update bodyposenet (pip install -U bodyposenet), or use the version of the file."


@dataclass(frozen=True)
class NetworkDescription:
    """What is needed to build a network, without its weights.

    Args:
        skeleton: Sets the number of maps.
        spec: The model block of the train spec.
        normalization: How pixels become the network's input.
        out_channels: Convolution's TAO name -> output channels.
        heatmap_sigma: Standard deviation of a joint's Gaussian, in network pixels.
    """

    skeleton: Skeleton
    spec: ModelConfig
    normalization: Normalization
    out_channels: Mapping[str, int]
    heatmap_sigma: float = HEATMAP_SIGMA


def write_tensors(
    path: str | Path, header: dict[str, Any], tensors: dict[str, Tensor], *, key: str = ""
) -> None:
    """Write named tensors, from any device.

    Args:
        path: The file.
        header: What JSON can hold; readable without the key.
        tensors: Tensors that share no memory.
        key: Seals the file; empty: a plain file.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    body = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    write_container(path, header, body, key)


def read_tensors(path: str | Path, key: str = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `write_tensors` wrote: the header, and the tensors on the CPU.

    A model of TAO 5 (Keras, `.hdf5`) reads as if it were one of ours.

    Raises:
        BodyPoseNetError: The file cannot be opened (see `encryption`), or holds something else.
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
            f"{path}: holds no tensors, but {header.get('kind', 'something else')}",
            "Give a model as train wrote it (.tlt).",
        ) from error


def model_header(network: BodyPoseNetwork, *, epoch: int = 0, spec: str = "") -> dict[str, Any]:
    """The header of a model file: all that is needed to build the network again.

    Args:
        network: The network.
        epoch: Epochs that it was trained for.
        spec: Text of the train spec; without secrets, as the header is not encrypted.
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
    """Weights and statistics by name, `<TAO layer name>.<weight, bias, running_mean ...>`.

    They share memory with the network: writing into them changes it.
    """
    return {
        f"{name}.{part}": tensor
        for name, layer in network.layers().items()
        for part, tensor in layer.state_dict().items()
    }


def save_model(
    path: str | Path, network: BodyPoseNetwork, *, key: str = "", epoch: int = 0, spec: str = ""
) -> None:
    """Write a model file (`.tlt`); the arguments are those of `model_header` and `write_tensors`.

    Raises:
        BodyPoseNetError: The file cannot be written.
    """
    header = model_header(network, epoch=epoch, spec=spec)
    write_tensors(path, header, named_tensors(network), key=key)


def load_model(
    path: str | Path, key: str = "", training: Mapping[str, Any] | None = None
) -> BodyPoseNetwork:
    """Build the network that a file describes, on the CPU, with its weights.

    Args:
        path: The file.
        key: Its key, if it is sealed.
        training: Entries of the header that other files lack: `normalization` (those of TAO) and
            `heatmap_sigma` (those of older versions too); None: as in all of TAO's specs.

    Raises:
        BodyPoseNetError: The file cannot be opened (see `encryption`), holds no model, or one that
            this version cannot build.
    """
    return read_model(path, key, training)[1]


def read_model(
    path: str | Path, key: str = "", training: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], BodyPoseNetwork]:
    """Read a model file's header, as `model_header` makes it, and its network; see `load_model`."""
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
    """Build the network of a header, on the CPU, and fill in its tensors.

    Args:
        path: Where they come from, for errors.
        header: Of the file.
        tensors: Named as in `named_tensors`.

    Raises:
        BodyPoseNetError: This version cannot build the network, or the tensors are not its own.
    """
    description = _description(header)
    with torch.device("meta"):  # takes no memory, whatever sizes the header has
        _check_fit(path, build_network(path, description), tensors)
    network = build_network(path, description)
    load_tensors(path, network, tensors)
    return network


def load_tensors(path: str | Path, network: BodyPoseNetwork, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a network.

    Raises:
        BodyPoseNetError: They are not its own.
    """
    _check_fit(path, network, tensors)
    for name, tensor in named_tensors(network).items():
        tensor.copy_(tensors[name])


def _check_fit(path: str | Path, network: BodyPoseNetwork, tensors: Mapping[str, Tensor]) -> None:
    own = named_tensors(network)
    wrong = sorted(own.keys() ^ tensors.keys()) or [
        name
        for name, tensor in own.items()
        if tensor.shape != tensors[name].shape
        or tensor.is_floating_point() != tensors[name].is_floating_point()
    ]
    if wrong:
        raise BodyPoseNetError(
            f"{path}: {len(wrong)} tensors do not fit the network of its header, first {wrong[0]}",
            "The file was edited, or made by a version whose networks differ: train it again.",
        )


def _check_kind(path: str | Path, header: dict[str, Any]) -> None:
    if header.get("kind") != _KIND:
        raise BodyPoseNetError(
            f"{path}: holds no model, but {header.get('kind', 'something else')}",
            "Give a model as train wrote it (.tlt).",
        )


def read_description(path: str | Path, header: Mapping[str, Any]) -> NetworkDescription:
    """Read what a header says of its network.

    Args:
        path: Where it comes from, for errors.
        header: As `model_header` makes it.

    Raises:
        BodyPoseNetError: This version does not know such a network.
    """
    return _description(NetworkHeader.read(path, header))


def _description(header: NetworkHeader) -> NetworkDescription:
    pixels = header.normalization
    return NetworkDescription(
        header.to_skeleton(),
        header.network,
        Normalization(pixels.image_scale, pixels.image_offset),
        header.out_channels,
        header.heatmap_sigma,
    )


def build_network(path: str | Path, description: NetworkDescription) -> BodyPoseNetwork:
    """Build a network with fresh weights.

    Args:
        path: Where the description comes from, for errors.
        description: Of the network.

    Raises:
        BodyPoseNetError: There is no such network.
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
            f"{path}: this version cannot build its network: {error}", _UPDATE
        ) from error
