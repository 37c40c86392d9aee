"""Pretrained weights: read them from files of many formats, and copy them into a network.

What matches by name and shape is copied; what does not is reported, never skipped silently. The
channels of the maps match by the names of joints and limbs, whatever their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.channels import ChannelMap, match_heatmaps, match_pafs
from bodyposenet.model.checkpoint import NetworkDescription, build_described, tensors_of
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.model.pretrained import lightweight_openpose, movenet, open_model_zoo, own, vgg19
from bodyposenet.model.pretrained.keras import read_keras
from bodyposenet.model.pretrained.weights import PretrainedWeights, change_normalization
from bodyposenet.sealing import HDF5_MAGIC
from bodyposenet.skeleton import Skeleton

_PYTORCH_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt")


@dataclass(frozen=True)
class WeightReport:
    """The outcome of loading weights, by tensor name (`block_1a_conv_1.weight`).

    Args:
        loaded: Copied.
        missing: The network has them, the file does not: they keep their first values.
        mismatched: Name -> shape in the file and in the network: they keep their first values.
        unused: The file has them, the network does not.
        new_maps: Joints and limbs that the file does not know: their channels keep their first
            values.
        notes: What was changed while reading.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    unused: tuple[str, ...]
    new_maps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One line per kind that is not empty, for the log."""
        mismatched = [
            f"{name} ({'x'.join(map(str, theirs))} in the file, {'x'.join(map(str, ours))} here)"
            for name, (theirs, ours) in self.mismatched.items()
        ]
        kinds = {
            "missing in the file": self.missing,
            "of another shape": mismatched,
            "unknown to the network": self.unused,
        }
        lines = [f"{len(self.loaded)} tensors loaded", *self.notes]
        if self.new_maps:
            lines.append(f"new joints and limbs: {', '.join(self.new_maps)}")
        return lines + [
            f"{len(names)} tensors {kind}: {', '.join(names)}"
            for kind, names in kinds.items()
            if names
        ]


def load_pretrained(network: BodyPoseNetwork, path: str | Path, key: str = "") -> WeightReport:
    """Copy the weights of a file that match by name and shape into the network.

    Args:
        network: Is changed.
        path: A model of ours (`.tlt`, or `.onnx` in float); lightweight OpenPose as the Open Model
            Zoo's IR (`.xml`, with its `.bin` beside it) or as the PyTorch checkpoint of
            Daniil-Osokin/lightweight-human-pose-estimation.pytorch (`.pth`); MoveNet's trunk
            (`.safetensors`); a Keras file of TAO 5 (`.hdf5`, `.h5`); VGG19: that of Keras
            Applications (`.h5`), or `.safetensors` with the keys `conv1_1.weight` ...
        key: Key of a sealed model.

    Raises:
        BodyPoseNetError: The file cannot be read, is of another architecture, or nothing in it
            matches.
    """
    path = Path(path)
    weights = _read(path, key, network)
    _check_backbone(weights, network, path)
    report = _copy(weights, network, path)
    if not any(name.endswith(".weight") for name in report.loaded):
        raise BodyPoseNetError(
            f"{path}: none of its {len(weights.tensors)} tensors fits a layer of the network by "
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
    """Build the network that a file of weights is of, and copy the weights.

    Args:
        path: As for `load_pretrained`, but for files that hold weights only (Keras,
            VGG19, MoveNet).
        key: Key of a sealed model.
        skeleton: What the network is to predict; joints and limbs that the file does not know
            start anew. None: what the file's network predicts.
        normalization: The input that the network is to take. None: that of the file's network.

    Raises:
        BodyPoseNetError: The file cannot be read, holds weights only, or this version cannot
            build its network.
    """
    path = Path(path)
    weights = _read(path, key, None)
    if weights.spec is None:
        raise BodyPoseNetError(
            f"{path}: holds weights only, not the architecture that load_graph takes from it",
            "Set load_graph: false, and describe the network in model of the train spec.",
        )
    maps = {"heatmap_out", "paf_out"}
    widths = {
        name: width
        for name, width in weights.widths.items()
        if name not in maps and not name.endswith("_branch/out")
    }
    skeleton = skeleton or weights.skeleton
    if skeleton is None:
        raise BodyPoseNetError(
            f"{path}: of a skeleton that is not known", "Name the pose configuration of the file."
        )
    description = NetworkDescription(
        skeleton, weights.spec, normalization or weights.normalization or Normalization(), widths
    )
    network = build_described(path, description)
    report = _copy(weights, network, path)
    wrong = [*report.missing, *report.mismatched, *report.unused]
    if wrong:
        raise BodyPoseNetError(
            f"{path}: {len(wrong)} tensors do not fit the network of its header, first {wrong[0]}",
            "The file was edited, or exported from a network with batch normalization that cannot "
            "be taken apart again: give its .tlt file.",
        )
    return network, report


def _read(path: Path, key: str, network: BodyPoseNetwork | None) -> PretrainedWeights:
    """Read weights of any format; None as the network: for a network of the file's own kind."""
    suffix = path.suffix.lower()
    if _starts_as_hdf5(path) or suffix in (".hdf5", ".h5"):
        tensors = read_keras(path, network.layers() if network else ())
        return vgg19.convert(tensors) if vgg19.is_vgg19(tensors) else PretrainedWeights(tensors)
    if suffix == ".onnx":
        return own.read_onnx(path)
    if suffix == ".xml":
        return _of_lightweight_openpose(open_model_zoo.read_ir(path), network, path)
    if suffix in _PYTORCH_SUFFIXES:
        return _of_lightweight_openpose(lightweight_openpose.read_checkpoint(path), network, path)
    if suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path)
        if vgg19.is_vgg19(tensors):
            return vgg19.convert(tensors)
        if lightweight_openpose.is_lightweight_openpose(tensors):
            return _of_lightweight_openpose(tensors, network, path)
        if movenet.is_movenet(tensors):
            return _of_movenet(tensors, metadata, path)
        return PretrainedWeights(tensors)
    return own.read_tlt(path, key)


def _of_lightweight_openpose(
    tensors: Mapping[str, Tensor], network: BodyPoseNetwork | None, path: Path
) -> PretrainedWeights:
    keep_norms = network is not None and network.spec.backbone_attributes.batch_norm
    try:
        return lightweight_openpose.convert(
            tensors, keep_norms=keep_norms, keep_widths=network is not None
        )
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise BodyPoseNetError(
            f"{path}: not a whole network of lightweight OpenPose: {type(error).__name__}: {error}",
            "Copy the file again; it may be another variant, or have lost layers.",
        ) from error


def _of_movenet(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path
) -> PretrainedWeights:
    try:
        return movenet.convert(tensors, metadata)
    except ValueError as error:
        raise BodyPoseNetError(
            f"{path}: unusable metadata: {error}",
            "Write the factor of the pixels there as text, such as '0.00784'.",
        ) from error


def _starts_as_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(HDF5_MAGIC)) == HDF5_MAGIC
    except OSError as error:
        raise BodyPoseNetError(
            f"{path}: cannot be read: {error.strerror}",
            "Check the path; it is relative to the working directory.",
        ) from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors, as float32, and the metadata."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise BodyPoseNetError(
            f"{path}: not a readable safetensors file: {error}",
            "Copy it again; it may be cut short.",
        ) from error


def _check_backbone(weights: PretrainedWeights, network: BodyPoseNetwork, path: Path) -> None:
    """Refuse weights that fit another kind of network only."""
    theirs, ours = weights.backbone, network.spec.backbone_attributes
    if theirs is None:
        return
    keys = {"architecture", "mtype"}
    if theirs.architecture != "vgg":
        keys.add("batch_norm")
    needed = {key: getattr(theirs, key) for key in sorted(keys)}
    differing = {key: value for key, value in needed.items() if getattr(ours, key) != value}
    if differing:
        given = ", ".join(f"{key}: {getattr(ours, key)}" for key in differing)
        raise BodyPoseNetError(
            f"{path}: weights for {', '.join(f'{key}: {value}' for key, value in needed.items())}; "
            f"the network has {given}",
            "Set these in model.backbone_attributes"
            + (", or load_graph: true." if weights.spec is not None else "."),
        )


def _copy(weights: PretrainedWeights, network: BodyPoseNetwork, path: Path) -> WeightReport:
    """Copy what matches, the maps' channels by the names of joints and limbs."""
    ours = tensors_of(network)
    theirs, new_maps = _with_our_maps(weights, network, ours)
    theirs = _with_our_input(weights, network, theirs, path)
    # A counter of training steps, which Keras does not keep and nothing reads.
    names = [name for name in ours if not name.endswith(".num_batches_tracked")]
    found = [name for name in names if name in theirs]
    loaded = [name for name in found if ours[name].shape == theirs[name].shape]
    for name in loaded:
        ours[name].copy_(theirs[name])
    return WeightReport(
        loaded=tuple(loaded),
        missing=tuple(name for name in names if name not in theirs),
        mismatched={
            name: (tuple(theirs[name].shape), tuple(ours[name].shape))
            for name in found
            if name not in loaded
        },
        unused=tuple(name for name in theirs if name not in ours),
        new_maps=new_maps,
        notes=weights.notes,
    )


def _with_our_input(
    weights: PretrainedWeights,
    network: BodyPoseNetwork,
    tensors: Mapping[str, Tensor],
    path: Path,
) -> dict[str, Tensor]:
    """Make the first convolution take our input.

    Raises:
        BodyPoseNetError: It has no bias that could take over a constant.
    """
    first = _first_convolution(network.backbone, network)
    weight, bias = f"{first}.weight", f"{first}.bias"
    before, after = weights.normalization, network.normalization
    if before is None or before == after or weight not in tensors:
        return dict(tensors)
    if bias not in tensors or tensors[weight].shape[1:2] != (3,):
        raise BodyPoseNetError(
            f"{path}: was trained with {before}, which is to be {after}",
            "Use the normalization_params that the model was trained with.",
        )
    changed = change_normalization(tensors[weight], tensors[bias], before, after)
    return {**tensors, **dict(zip((weight, bias), changed, strict=True))}


def _with_our_maps(
    weights: PretrainedWeights, network: BodyPoseNetwork, fresh: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Bring the channels of the maps into our order, and name the joints and limbs that are new."""
    tensors = dict(weights.tensors)
    theirs, ours = weights.skeleton, network.skeleton
    if theirs is None or (theirs.joints, theirs.limbs) == (ours.joints, ours.limbs):
        return tensors, ()
    heatmaps = match_heatmaps(theirs, ours, keep_background=True)
    pafs = match_pafs(theirs, ours)
    for layer in network.outputs():
        channels = heatmaps if "heat" in layer else pafs
        for part in ("weight", "bias"):
            name = f"{layer}.{part}"
            expected = theirs.heatmap_channels if "heat" in layer else theirs.paf_channels
            if name in fresh and len(tensors.get(name, ())) == expected:
                tensors[name] = _take(tensors[name], channels, fresh[name])
    inputs = ChannelMap(
        *(torch.cat(pair) for pair in zip(heatmaps, _behind(pafs, theirs), strict=True))
    )
    for stage in network.stage_list[1:]:
        name = f"{_first_convolution(stage, network)}.weight"
        if name in tensors and tensors[name].ndim == 4:
            tensors[name] = _take_inputs(tensors[name], inputs, theirs)
    names = [
        *ours.joints,
        *(f"{ours.joints[start]} - {ours.joints[end]}" for start, end in ours.limbs),
    ]
    known = [*heatmaps.known[:-1].tolist(), *pafs.known[::2].tolist()]
    return tensors, tuple(name for name, there in zip(names, known, strict=True) if not there)


def _behind(pafs: ChannelMap, theirs: Skeleton) -> ChannelMap:
    """The fields' channels where they stand behind the heatmaps."""
    return pafs._replace(source=pafs.source + theirs.heatmap_channels)


def _first_convolution(part: nn.Module, network: BodyPoseNetwork) -> str:
    """The layer of the backbone or a stage that reads what goes in there."""
    first = next(module for module in part.modules() if isinstance(module, nn.Conv2d))
    return next(name for name, layer in network.layers().items() if layer is first)


def _take(theirs: Tensor, channels: ChannelMap, fresh: Tensor) -> Tensor:
    """(C', ...) -> (C, ...): our output channels; new ones as they are in a fresh network."""
    shape = (-1, *(1,) * (theirs.ndim - 1))
    known = channels.known.view(shape).bool()
    if theirs.shape[1:] != fresh.shape[1:]:
        return theirs  # reported as mismatched
    return torch.where(known, theirs[channels.source] * channels.sign.view(shape), fresh)


def _take_inputs(weight: Tensor, maps: ChannelMap, theirs: Skeleton) -> Tensor:
    """(O, F + M', k, k) -> (O, F + M, k, k): behind the F features our maps; new ones weigh 0."""
    features = weight.shape[1] - theirs.heatmap_channels - theirs.paf_channels
    if features < 0:
        return weight  # reported as mismatched
    behind = weight[:, features:][:, maps.source] * (maps.sign * maps.known).view(1, -1, 1, 1)
    return torch.cat([weight[:, :features], behind], dim=1)
