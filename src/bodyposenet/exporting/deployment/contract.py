"""The content of an exported file in, what a program must know to run it out."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.device import DeviceOptions
from bodyposenet.runtime.description import ModelDescription
from bodyposenet.runtime.engines.exported import HEATMAPS, Signature, Tensor
from bodyposenet.sealing import METADATA_KEY

_DTYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.UINT8: "uint8"}
_IMAGE_CHANNELS = 3


class DeviceTensor(NamedTuple):
    """An input or an output, as it is on the device.

    Args:
        name: Of the tensor.
        dtype: `float32` or `uint8`.
        declared: Its sizes in the file, without the batch; None: any.
        sizes: Its sizes for one image, without the batch.
    """

    name: str
    dtype: str
    declared: tuple[int | None, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Contract:
    """What a program must know to run an exported model.

    Args:
        name: Of the model: letters, digits, `_`, `.` and `-`.
        description: Skeleton, normalization, stride and data type.
        channels_last: (N, H, W, C), else (N, C, H, W); input and outputs alike.
        upsample_ratio: Every PAF cell stands there so many times, in either direction.
        shape: Height and width of the images, in pixels.
        batch: The only number of images that it takes at once; None: any.
        opt_batch_size: The usual number of images at once.
        max_batch_size: The largest.
        images: The input.
        pafs: The first output.
        heatmaps: The second output.
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
    pafs: DeviceTensor
    heatmaps: DeviceTensor

    @property
    def outputs(self) -> tuple[DeviceTensor, DeviceTensor]:
        """In the order of the file."""
        return self.pafs, self.heatmaps

    def to_dict(self) -> dict[str, Any]:
        """All of it for JSON, so that a program need not open the model."""
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
            "heatmaps": {
                "name": self.heatmaps.name,
                "stride": self.description.stride,
                "sigma": self.description.heatmap_sigma,
            },
            "pafs": {"name": self.pafs.name, "repeats": self.upsample_ratio},
            "skeleton": self.description.skeleton.to_pose_configuration(),
        }


def read_contract(path: Path, content: bytes, device: DeviceOptions) -> Contract:
    """Read it from the tensors and the header of an exported file.

    Args:
        path: The file, for its name and for errors.
        content: Of the ONNX file.
        device: What it will be given; a shape or a number of images that the file is bound to
            counts instead.

    Raises:
        BodyPoseNetError: The file is no body pose network, or has no header; the shape is not
            whole cells.
    """
    model = onnx.load_model_from_string(content)
    inputs = {value.name: _tensor(value) for value in model.graph.input}
    outputs = {value.name: _tensor(value) for value in model.graph.output}
    signature = Signature.read(path, inputs, outputs)
    header = _header(path, model)
    description = ModelDescription.from_header(path, header)
    skeleton, stride = description.skeleton, description.stride
    height, width = signature.fixed_shape or device.shape
    _check_shape(height, width, stride)
    cells = height // stride, width // stride
    ratio: int = json.loads(header).get("form", {}).get("upsample_ratio", 1)
    ((name, images),) = inputs.items()
    heatmaps, pafs = outputs[HEATMAPS], outputs[signature.pafs]
    return Contract(
        name=re.sub(r"[^\w.-]", "_", path.stem, flags=re.ASCII),
        description=description,
        channels_last=signature.channels_last,
        upsample_ratio=ratio,
        shape=(height, width),
        batch=signature.batch,
        opt_batch_size=signature.batch or device.opt_batch_size,
        max_batch_size=signature.batch or device.max_batch_size,
        images=_at(name, images, signature, _IMAGE_CHANNELS, (height, width)),
        pafs=_at(
            signature.pafs, pafs, signature, skeleton.paf_channels,
            (ratio * cells[0], ratio * cells[1]),
        ),
        heatmaps=_at(HEATMAPS, heatmaps, signature, skeleton.heatmap_channels, cells),
    )  # fmt: skip


def _at(
    name: str, tensor: Tensor, signature: Signature, channels: int, sides: tuple[int, int]
) -> DeviceTensor:
    """A tensor with the height and width that it has on the device."""
    sizes = (*sides, channels) if signature.channels_last else (channels, *sides)
    # A file that is bound to one height and width need not say how large its outputs are.
    declared = sizes if signature.fixed_shape else tensor.shape[1:]
    return DeviceTensor(name, tensor.dtype, declared, sizes)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    """Names in its shape stand for dimensions of any size."""
    declared = value.type.tensor_type
    dtype = _DTYPES.get(declared.elem_type)
    sizes = (side.dim_value if side.HasField("dim_value") else None for side in declared.shape.dim)
    return Tensor(dtype or onnx.TensorProto.DataType.Name(declared.elem_type), tuple(sizes))


def _header(path: Path, model: onnx.ModelProto) -> str:
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return entry.value
    raise BodyPoseNetError(
        f"{path}: the file does not say what its joints and its normalization are",
        "A deployment kit is written for models of `bpnet export` only.",
    )


def _check_shape(height: int, width: int, stride: int) -> None:
    if height % stride or width % stride:
        nearest = [max(round(side / stride), 1) * stride for side in (height, width)]
        raise BodyPoseNetError(
            f"an input of {height} x {width} pixels is no whole number of cells of {stride}",
            f"Take the nearest that is: {nearest[0]} x {nearest[1]}.",
        )
