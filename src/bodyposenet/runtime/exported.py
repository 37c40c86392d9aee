"""Exported models on any runtime: uint8 images in, their maps out.

The tensors are TAO's (reference 14.2, 14.6): one float32 input of normalized images, and two
outputs, the heatmaps under `HEATMAPS` and the part affinity fields under any other name; channels
last or first. In a model for DeepStream the fields are enlarged, every cell to r x r equal ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.description import ModelDescription
from bodyposenet.runtime.engine import crop
from bodyposenet.types import GRAY, Maps

INPUT = "input_1:0"
HEATMAPS = "heatmap_out/BiasAdd:0"
PAFS = "paf_out/BiasAdd:0"
METADATA_KEY = "bodyposenet"
"""Of the header, as JSON, in the metadata of an ONNX file."""

_DTYPE = "float32"


class Tensor(NamedTuple):
    """An input or an output of a model.

    Args:
        dtype: `float32`; any other is shown as the runtime calls it.
        shape: Sizes; None: any.
    """

    dtype: str
    shape: tuple[int | None, ...]


Run = Callable[[NDArray[np.float32]], Mapping[str, NDArray[np.float32]]]
"""An array for the model's input -> its outputs by name."""


@dataclass(frozen=True)
class Signature:
    """The tensors of an exported model.

    Args:
        pafs: Name of the output beside `HEATMAPS`.
        channels_last: (N, H, W, C), else (N, C, H, W); input and outputs alike.
        batch: The only number of images that it takes at once; None: any.
        fixed_shape: The only height and width that it takes; None: any.
        channels: Of the heatmaps and of the PAFs; None: not told.
    """

    pafs: str
    channels_last: bool
    batch: int | None
    fixed_shape: tuple[int, int] | None
    channels: tuple[int | None, int | None]

    @classmethod
    def read(
        cls, path: str | Path, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
    ) -> Signature:
        """Recognize the tensors.

        Args:
            path: The file, for errors.
            inputs: By name.
            outputs: By name.

        Raises:
            BodyPoseNetError: They are not those of a body pose network.
        """
        if not _are_known(inputs, outputs):
            raise BodyPoseNetError(
                f"{path}: no body pose network: it takes {_written(inputs)} and gives "
                f"{_written(outputs)}",
                f"It must take {_DTYPE} images with 3 channels, of any height and width or of one, "
                f"and give {HEATMAPS} and {PAFS}; `bpnet export` writes such files.",
            )
        ((_, shape),) = inputs.values()
        channels_last = _is_channels_last(shape)
        height, width = _sides(shape)
        (pafs,) = outputs.keys() - {HEATMAPS}
        axis = 3 if channels_last else 1
        return cls(
            pafs,
            channels_last,
            batch=shape[0],
            fixed_shape=None if height is None or width is None else (height, width),
            channels=(outputs[HEATMAPS].shape[axis], outputs[pafs].shape[axis]),
        )


def _are_known(inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a body pose network."""
    tensors = (*inputs.values(), *outputs.values())
    if len(inputs) != 1 or len(outputs) != 2 or HEATMAPS not in outputs:
        return False
    if any(tensor.dtype != _DTYPE or len(tensor.shape) != 4 for tensor in tensors):
        return False
    shape = tensors[0].shape
    return 3 in (shape[1], shape[3]) and _sides(shape).count(None) in (0, 2)


def _is_channels_last(shape: tuple[int | None, ...]) -> bool:
    return shape[3] == 3


def _sides(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Height and width of the images that a model takes."""
    return shape[1:3] if _is_channels_last(shape) else shape[2:]


class ExportedEngine:
    """Runs an exported model; it holds the maps of the last stage only.

    Args:
        description: What the model is.
        signature: Its tensors.
        run: Runs it.
    """

    def __init__(self, description: ModelDescription, signature: Signature, run: Run) -> None:
        self.description = description
        self.skeleton = description.skeleton
        self.stride = description.stride
        self.stages = description.stages
        self.fixed_shape: tuple[int, int] | None = signature.fixed_shape
        self._signature = signature
        self._run = run

    def infer(self, images: NDArray[np.uint8], stage: int | None = None) -> list[Maps]:
        """Run the network; see `Engine.infer`."""
        height, width = images.shape[1:3]
        if stage not in (None, self.stages):
            raise BodyPoseNetError(
                f"stage {stage}: an exported model holds the last of its {self.stages} stages only",
                "Take the last, or run the .tlt file.",
            )
        if self.fixed_shape not in (None, (height, width)):
            raise BodyPoseNetError(
                f"an input of {height} x {width} pixels: the model takes "
                f"{' x '.join(map(str, self.fixed_shape or ()))} only",
                "Write that as input_shape, with keep_aspect_ratio_mode: pad_image_input.",
            )
        inputs = normalize(images, self.description)
        if not self._signature.channels_last:
            inputs = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
        size = self._signature.batch or len(inputs)
        return [
            maps
            for start in range(0, len(inputs), size)
            for maps in self._maps(inputs[start : start + size], size, height, width)
        ]

    def _maps(self, inputs: NDArray[np.float32], size: int, height: int, width: int) -> list[Maps]:
        """The maps of one batch, which is filled up to the size that the model takes."""
        count = len(inputs)
        if count < size:
            inputs = np.concatenate([inputs, np.repeat(inputs[-1:], size - count, axis=0)])
        outputs = self._run(inputs)
        heatmaps, pafs = outputs[HEATMAPS], outputs[self._signature.pafs]
        self._check_cells(heatmaps.shape, height, width)
        if self._signature.channels_last:
            heatmaps, pafs = heatmaps.transpose(0, 3, 1, 2), pafs.transpose(0, 3, 1, 2)
        repeats = max(pafs.shape[2] // heatmaps.shape[2], 1)
        pafs = pafs[:, :, ::repeats, ::repeats]
        return crop(heatmaps[:count], pafs[:count], height, width, self.stride)

    def _check_cells(self, shape: tuple[int, ...], height: int, width: int) -> None:
        """OpenVINO on one thread leaves its last maps, or none, where a layer does not fit."""
        cells = -(-height // self.stride), -(-width // self.stride)
        if (shape[1:3] if self._signature.channels_last else shape[2:]) != cells:
            raise BodyPoseNetError(
                f"the model gives heatmaps of shape {shape} for images of {height} x {width} "
                f"pixels, which are {cells[0]} x {cells[1]} cells",
                "Export the model again (bpnet export), or try another input_shape.",
            )


def normalize(images: NDArray[np.uint8], description: ModelDescription) -> NDArray[np.float32]:
    """Pixels to network input, as the network itself does it in training.

    Args:
        images: (N, H, W, 3) uint8 RGB, of any size.
        description: Its normalization and its stride.

    Returns:
        (N, H', W', 3) float32: pixel / image_scale - image_offset. H' and W' are the next multiples
        of the stride; what is added, at the bottom and the right, is gray.
    """
    height, width = images.shape[1:3]
    padding = (-height % description.stride, -width % description.stride)
    if any(padding):
        sides = ((0, 0), (0, padding[0]), (0, padding[1]), (0, 0))
        images = np.pad(images, sides, constant_values=GRAY)
    pixels = images.astype(np.float32)
    pixels /= np.array(description.image_scale, np.float32)
    pixels -= np.array(description.image_offset, np.float32)
    return pixels


def build_engine(
    path: str | Path,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    claimed: ModelDescription | None,
    run: Run,
) -> ExportedEngine:
    """The engine of a model that a runtime has read.

    Args:
        path: The file, for errors.
        inputs: By name.
        outputs: By name.
        metadata: What the file says of itself.
        claimed: What a train spec says of it; counts where the file has no header.
        run: Runs it.

    Raises:
        BodyPoseNetError: It is no body pose network, that of another skeleton, or bound to images
            of no whole cells; or neither the file nor a train spec says what its joints are.
    """
    signature = Signature.read(path, inputs, outputs)
    description = claimed
    if METADATA_KEY in metadata:
        description = ModelDescription.from_header(path, metadata[METADATA_KEY])
    if description is None:
        raise BodyPoseNetError(
            f"{path}: the file does not say what its joints and its normalization are",
            "Name the spec that the model was trained with as train_spec in the inference spec.",
        )
    skeleton = description.skeleton
    expected = skeleton.heatmap_channels, skeleton.paf_channels
    if any(
        found not in (None, own) for found, own in zip(signature.channels, expected, strict=True)
    ):
        raise BodyPoseNetError(
            f"{path}: gives {_written(outputs)}, but the skeleton {skeleton.name} needs "
            f"{expected[0]} heatmaps and {expected[1]} PAF channels",
            "Name the spec that the model was trained with as train_spec in the inference spec.",
        )
    if any(side % description.stride for side in signature.fixed_shape or ()):
        raise BodyPoseNetError(
            f"{path}: takes {_written(inputs)} only: no whole cells of {description.stride} pixels",
            f"Export it for a height and a width that are multiples of {description.stride}.",
        )
    return ExportedEngine(description, signature, run)


def _written(tensors: Mapping[str, Tensor]) -> str:
    """Tensors for people."""
    return ", ".join(
        f"{name} {dtype} [{', '.join('?' if size is None else str(size) for size in shape)}]"
        for name, (dtype, shape) in tensors.items()
    )
