"""Detect people in an image with the model beside this file, with ONNX Runtime.

    pip install numpy onnxruntime opencv-python-headless
    python run.py photo.jpg annotated.png

Each step is a function, as a template for other programs. For another runtime (DeepStream's tensor
meta, a Triton client) replace `run_network`; `find_people` uses the outputs of any runtime.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import cv2
import numpy as np
from bodypose import assemble  # beside this file
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
PAD_VALUE = 128
"""Value of the pixels around a fitted image, as in training."""
MIN_SCORE = 0.6
"""Minimum score of people who are drawn."""


class Fit(NamedTuple):
    """Position of an image in the input: factor of its size, and its left and top edge."""

    factor: float
    left: int
    top: int


def fit(image: NDArray[np.uint8], height: int, width: int) -> tuple[NDArray[Any], Fit]:
    """Fit an image into height x width pixels, centered; also return its position."""
    rows, columns = image.shape[:2]
    factor = min(height / rows, width / columns)
    left, top = (width - round(columns * factor)) // 2, (height - round(rows * factor)) // 2
    # Blocks of pixels are averaged first, to avoid aliasing.
    blocks = max(int(1 / factor), 1)
    size = max(columns // blocks, 1), max(rows // blocks, 1)
    blocks_image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    x, y = factor * columns / size[0], factor * rows / size[1]
    # The center of the first pixel is at coordinate 0, in the image and in the input.
    matrix = np.array([[x, 0, x / 2 - 0.5 + left], [0, y, y / 2 - 0.5 + top]])
    pixels = cv2.warpAffine(
        blocks_image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderValue=(PAD_VALUE,) * 3
    )
    return pixels, Fit(factor, left, top)


def to_tensor(pixels: NDArray[Any], signature: dict[str, Any]) -> NDArray[Any]:
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
    """Return peaks and PAF scores of the first image."""
    import onnxruntime

    # INT8 on an x86 processor without VNNI needs a session option; see README.md.
    session = onnxruntime.InferenceSession(
        FOLDER / "model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [signature["peaks"]["name"], signature["paf_scores"]["name"]]
    peaks, paf_scores = session.run(names, {signature["input"]["name"]: tensor})
    return np.asarray(peaks)[0], np.asarray(paf_scores)[0]


def find_people(
    peaks: NDArray[Any], paf_scores: NDArray[Any], position: Fit, signature: dict[str, Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return keypoints (N, J, 3), x and y in pixels of the image, and scores (N,) of the people."""
    keypoints, scores = assemble(peaks, paf_scores, signature["skeleton"])
    edge = np.array([position.left, position.top], np.float32)
    pixels = (keypoints[..., :2] + 0.5 - edge) / position.factor - 0.5
    is_found = keypoints[..., 2:] > 0
    keypoints[..., :2] = np.where(is_found, pixels, 0)
    return keypoints, scores


def draw(image: NDArray[Any], keypoints: NDArray[np.float32], limbs: list[list[int]]) -> None:
    """Draw the limbs of the people into an image."""
    for person in keypoints:
        for limb in limbs:
            if (person[limb, 2] > 0).all():
                start, end = (tuple(map(round, point)) for point in person[limb, :2].tolist())
                cv2.line(image, start, end, (0, 200, 0), 2, cv2.LINE_AA)


def write(path: str, pixels: NDArray[Any]) -> None:
    """Write a BGR image."""
    if not (cv2.haveImageWriter(path) and cv2.imwrite(path, pixels)):
        stop(f"{path}: cannot be written, or its extension is not that of an image")


def stop(error: str) -> NoReturn:
    """Print an error and exit."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Print the people in an image as JSON, and draw them into a file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("image")
    parser.add_argument("annotated", nargs="?", help="output image with the people drawn")
    arguments = parser.parse_args()
    signature = json.loads((FOLDER / "signature.json").read_text(encoding="utf-8"))
    pixels = cv2.imread(arguments.image)
    if pixels is None:
        stop(f"{arguments.image}: not found or not an image")
    image = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
    fitted, position = fit(image, signature["input"]["height"], signature["input"]["width"])
    peaks, paf_scores = run_network(to_tensor(fitted, signature), signature)
    keypoints, scores = find_people(peaks, paf_scores, position, signature)
    people = {
        "keypoints": keypoints[..., :2].astype(float).round(3).tolist(),
        "scores": scores.astype(float).round(5).tolist(),
        "keypoint_scores": keypoints[..., 2].astype(float).round(5).tolist(),
    }
    print(json.dumps(people))
    if arguments.annotated:
        draw(pixels, keypoints[scores >= MIN_SCORE], signature["skeleton"]["limbs"])
        write(arguments.annotated, pixels)


if __name__ == "__main__":
    main()
