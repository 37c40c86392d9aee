"""Detect people in an image with the model beside this file, with ONNX Runtime and no PyTorch.

    pip install bodyposenet
    python run.py photo.jpg annotated.png

Each step is a function, as a template for other programs. For another runtime (DeepStream's tensor
meta, a Triton client) replace `run_network`; `find_poses` decodes the outputs of any runtime.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray

from bodyposenet import Affine, Maps, Poses, Skeleton, decode, draw

FOLDER = Path(__file__).parent
PAD_VALUE = 128
"""Value of the pixels around a fitted image, as in training."""


def fit(image: NDArray[np.uint8], height: int, width: int) -> tuple[NDArray[np.uint8], Affine]:
    """Fit an image into height x width pixels, centered; also return the transform."""
    rows, columns = image.shape[:2]
    factor = min(height / rows, width / columns)
    left, top = (width - round(columns * factor)) // 2, (height - round(rows * factor)) // 2
    to_network = Affine.resize(factor).then(Affine.translation(left, top))
    pixels = to_network.warp(image, height, width, outside=PAD_VALUE, interpolation=cv2.INTER_CUBIC)
    return pixels, to_network


def to_tensor(pixels: NDArray[np.uint8], signature: dict[str, Any]) -> NDArray[Any]:
    """Return the input, (N, H, W, 3) or (N, 3, H, W), normalized unless the model does that."""
    normalization = signature["normalization"]
    tensor = pixels[np.newaxis]
    if not normalization["inside_the_model"]:
        scale = np.array(normalization["image_scale"], np.float32)
        tensor = tensor / scale - np.array(normalization["image_offset"], np.float32)
    if signature["layout"] == "NCHW":
        tensor = tensor.transpose(0, 3, 1, 2)
    return np.repeat(tensor, signature["batch"] or 1, axis=0)


def run_network(tensor: NDArray[Any], signature: dict[str, Any]) -> tuple[NDArray[Any], ...]:
    """Return heatmaps and part affinity fields of the first image, in the model's layout."""
    import onnxruntime  # after bodyposenet, which disables its telemetry

    # INT8 on an x86 processor without VNNI needs a session option; see README.md.
    session = onnxruntime.InferenceSession(
        FOLDER / "model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [signature["heatmaps"]["name"], signature["pafs"]["name"]]
    heatmaps, pafs = session.run(names, {signature["input"]["name"]: tensor})
    return np.asarray(heatmaps)[0], np.asarray(pafs)[0]


def find_poses(
    heatmaps: NDArray[Any], pafs: NDArray[Any], to_network: Affine, signature: dict[str, Any]
) -> Poses:
    """Decode the poses of the people in an image, in its pixels."""
    if signature["layout"] == "NHWC":
        heatmaps, pafs = heatmaps.transpose(2, 0, 1), pafs.transpose(2, 0, 1)
    repeats = signature["pafs"]["repeats"]
    stride, sigma = signature["heatmaps"]["stride"], signature["heatmaps"]["sigma"]
    maps = Maps(heatmaps, pafs[:, ::repeats, ::repeats], stride, sigma)
    skeleton = Skeleton.from_pose_configuration(signature["skeleton"])
    return decode(maps, skeleton).transform(to_network.inverse())


def write(path: str, pixels: NDArray[Any]) -> None:
    """Write a BGR image."""
    if not (cv2.haveImageWriter(path) and cv2.imwrite(path, pixels)):
        stop(f"{path}: cannot be written, or its extension is not that of an image")


def stop(error: str) -> NoReturn:
    """Print an error and exit."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Print the poses in an image as JSON, and draw them into a file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("image")
    parser.add_argument("annotated", nargs="?", help="output image with the poses drawn")
    arguments = parser.parse_args()
    signature = json.loads((FOLDER / "signature.json").read_text(encoding="utf-8"))
    pixels = cv2.imread(arguments.image)
    if pixels is None:
        stop(f"{arguments.image}: not found or not an image")
    image = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
    fitted, to_network = fit(image, signature["input"]["height"], signature["input"]["width"])
    heatmaps, pafs = run_network(to_tensor(fitted, signature), signature)
    poses = find_poses(heatmaps, pafs, to_network, signature)
    print(json.dumps(poses.to_dict()))
    if arguments.annotated:
        write(arguments.annotated, cv2.cvtColor(draw(image, poses), cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
