"""Signature of an exported model on a device: its tensors, normalization and skeleton.

`Signature` of `inference.engines.exported` only holds what the tensors of a file declare.
`ModelSignature` completes it with the header of the file and the sizes on the device. It also
describes models with decoding, which engines do not run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from bodyposenet.encryption import METADATA_KEY
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.engine import DeviceOptions
from bodyposenet.inference.engines.base import ModelDescription
from bodyposenet.inference.engines.exported import (
    HEATMAPS,
    PAF_SCORES,
    PEAKS,
    InputSignature,
    Signature,
    TensorSpec,
    read_input_signature,
)

_DTYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.UINT8: "uint8"}
_IMAGE_CHANNELS = 3


class DeviceTensor(NamedTuple):
    """An input or an output with its sizes on the device.

    Args:
        name: Name of the tensor.
        dtype: `float32` or `uint8`.
        declared: Sizes in the file, without the batch; None for dynamic ones.
        sizes: Sizes on the device, without the batch.
    """

    name: str
    dtype: str
    declared: tuple[int | None, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class ModelSignature:
    """Properties that a program needs to run an exported model.

    Args:
        name: Name of the model: letters, digits, `_`, `-` and `.`, which is not the first.
        description: Skeleton, normalization, stride and data type.
        channels_last: Layout of input and maps: (N, H, W, C) or (N, C, H, W).
        upsample_ratio: Factor by which the PAFs are enlarged in either direction.
        shape: Height and width of the images in pixels.
        batch: Static batch size; None for a dynamic one.
        opt_batch_size: Batch size to optimize for.
        max_batch_size: Largest batch size.
        images: The input.
        outputs: Outputs in the order of the file: PAFs and heatmaps, or with decoding peaks and PAF
            scores.
        decoding: Entry `decoding` of the header (see `exporting.decoding_graph`); None for a model
            that returns maps.
    """

    name: str
    description: ModelDescription
    channels_last: bool
    upsample_ratio: int
    shape: tuple[int, int]
    batch: int | None
    opt_batch_size: int
    max_batch_size: int
    images: DeviceTensor
    outputs: tuple[DeviceTensor, DeviceTensor]
    decoding: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values, for programs that do not read the model's header."""
        return {
            "model": self.name,
            "data_type": self.description.data_type,
            "layout": "NHWC" if self.channels_last else "NCHW",
            "batch": self.batch,
            "input": {
                "name": self.images.name,
                "dtype": self.images.dtype,
                "height": self.shape[0],
                "width": self.shape[1],
                "color": "RGB",
            },
            "normalization": {
                "image_scale": list(self.description.image_scale),
                "image_offset": list(self.description.image_offset),
                "inside_the_model": self.images.dtype == "uint8",
            },
            **(self._map_entries() if self.decoding is None else self._decoding_entries()),
        }

    def _map_entries(self) -> dict[str, Any]:
        """Return the entries for a model that returns maps."""
        pafs, heatmaps = self.outputs
        return {
            "heatmaps": {
                "name": heatmaps.name,
                "stride": self.description.stride,
                "sigma": self.description.heatmap_sigma,
            },
            "pafs": {"name": pafs.name, "repeats": self.upsample_ratio},
            "skeleton": self.description.skeleton.to_pose_configuration(),
        }

    def _decoding_entries(self) -> dict[str, Any]:
        """Return the entries for a model with decoding."""
        peaks, paf_scores = self.outputs
        return {
            "peaks": {"name": peaks.name},
            "paf_scores": {"name": paf_scores.name},
            "skeleton": self.decoding,
        }


def read_signature(path: Path, content: bytes, device: DeviceOptions) -> ModelSignature:
    """Read the signature from the tensors and the header of an exported file.

    Args:
        path: The file, for its name and for errors.
        content: Content of the ONNX file.
        device: Sizes on the device; static sizes of the file take precedence.

    Raises:
        BodyPoseNetError: The file is not a body pose network or has no header, or the shape is not
            a multiple of the stride.
    """
    model = onnx.load_model_from_string(content)
    inputs = {value.name: _tensor_spec(value) for value in model.graph.input}
    outputs = {value.name: _tensor_spec(value) for value in model.graph.output}
    text = _read_header(path, model)
    header = json.loads(text)
    description = ModelDescription.from_header(path, text)
    decoding = header.get("decoding")
    ratio: int = header.get("form", {}).get("upsample_ratio", 1)  # `OnnxExportOptions`
    signature = read_input_signature(inputs) if decoding else Signature.read(path, inputs, outputs)
    height, width = shape = signature.fixed_shape or device.shape
    _check_shape(height, width, description.stride)
    images = inputs[signature.name]
    return ModelSignature(
        name=_model_name(path),
        description=description,
        channels_last=signature.channels_last,
        upsample_ratio=ratio,
        shape=shape,
        batch=signature.batch,
        opt_batch_size=signature.batch or device.opt_batch_size,
        max_batch_size=signature.batch or device.max_batch_size,
        images=_image_tensor(signature.name, images, signature, _IMAGE_CHANNELS, shape),
        outputs=_map_tensors(outputs, signature, description, ratio, shape)
        if isinstance(signature, Signature)
        else (_fixed_tensor(PEAKS, outputs), _fixed_tensor(PAF_SCORES, outputs)),
        decoding=decoding,
    )


def _model_name(path: Path) -> str:
    """Return the name of a model, which is also that of its folder in a repository of Triton."""
    return re.sub(r"[^\w.-]", "_", path.stem, flags=re.ASCII).lstrip(".") or "model"


def _map_tensors(
    outputs: Mapping[str, TensorSpec],
    signature: Signature,
    description: ModelDescription,
    ratio: int,
    shape: tuple[int, int],
) -> tuple[DeviceTensor, DeviceTensor]:
    """Return PAFs and heatmaps for images of a height and width."""
    skeleton = description.skeleton
    rows, columns = (side // description.stride for side in shape)
    return (
        _image_tensor(
            signature.pafs, outputs[signature.pafs], signature, skeleton.paf_channels,
            (ratio * rows, ratio * columns),
        ),
        _image_tensor(
            HEATMAPS, outputs[HEATMAPS], signature, skeleton.heatmap_channels, (rows, columns)
        ),
    )  # fmt: skip


def _image_tensor(
    name: str, tensor: TensorSpec, signature: InputSignature, channels: int, sides: tuple[int, int]
) -> DeviceTensor:
    """Return a tensor of images or maps with its height and width on the device."""
    sizes = (*sides, channels) if signature.channels_last else (channels, *sides)
    # A file with static height and width need not declare the sizes of its outputs.
    declared = sizes if signature.fixed_shape else tensor.shape[1:]
    return DeviceTensor(name, tensor.dtype, declared, sizes)


def _fixed_tensor(name: str, outputs: Mapping[str, TensorSpec]) -> DeviceTensor:
    """Return an output whose sizes do not depend on those of the images."""
    sizes = tuple(size for size in outputs[name].shape[1:] if size is not None)
    return DeviceTensor(name, outputs[name].dtype, sizes, sizes)


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """Return the type and shape of a tensor; named dimensions are dynamic."""
    declared = value.type.tensor_type
    dtype = _DTYPES.get(declared.elem_type)
    sizes = (side.dim_value if side.HasField("dim_value") else None for side in declared.shape.dim)
    return TensorSpec(dtype or onnx.TensorProto.DataType.Name(declared.elem_type), tuple(sizes))


def _read_header(path: Path, model: onnx.ModelProto) -> str:
    """Return the header in the metadata, a JSON text."""
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return entry.value
    raise BodyPoseNetError(
        f"{path}: the file has no bodyposenet header with its skeleton and normalization",
        "Deployment bundles are only written for files of `bpnet export`.",
    )


def _check_shape(height: int, width: int, stride: int) -> None:
    """Check that height and width are multiples of the stride."""
    if height % stride or width % stride:
        nearest = [max(round(side / stride), 1) * stride for side in (height, width)]
        raise BodyPoseNetError(
            f"Expected an input whose height and width are multiples of {stride}, got {height} x "
            f"{width} pixels",
            f"The nearest is {nearest[0]} x {nearest[1]}.",
        )
