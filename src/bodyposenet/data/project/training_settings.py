"""Choose the settings of a fine-tuning from the data: input size, augmentation, batches, epochs.

The learning rate and the other settings are those of the trial in docs/fine-tune.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bodyposenet.data.coco import CocoImage
from bodyposenet.data.project.skeleton_inference import Certainty, Inference
from bodyposenet.specs.dataset import FilteringParams
from bodyposenet.specs.network import STRIDE

Device = Literal["cpu", "gpu"]

_INPUT = 368
"""Usual height of the network input in inference, of the default model and in TAO's guide."""
_INPUT_RANGE = (128, 640)
_SMALL_PERSON = 48
"""The network input is enlarged until 3 of 4 people are at least this high, in pixels: six cells of
the maps."""
_MOST_ENLARGEMENT = 1.3
"""Largest enlargement of images, which blurs them."""
_TRAINING_INPUT = {"cpu": 320, "gpu": 368}
_BATCH_SIZE = {"cpu": 8, "gpu": 32}
_MIN_STEPS = 4
"""Smallest number of steps per epoch; with fewer people, batches are smaller."""
_SAMPLES = {"cpu": 10_000, "gpu": 200_000}
"""Number of samples of a training, if the limits of its epochs allow it."""
_EPOCHS = {"cpu": (5, 20), "gpu": (5, 50)}
_PERSON_SCALE = 0.6
"""Default of target_person_scale: height of the anchor person relative to the training input."""
_ZOOM = (0.7, 2.5)
"""Zoom without data; factors above 1 show people smaller."""
_ZOOM_LIMITS = (0.5, 4.0)
_FILTERED_SHARE = 1 / 15
"""Smallest anchor persons (side of their area) relative to the height of their image: 32 pixels in
COCO's photos of 480 pixels."""
_KEYPOINT_SHARE = 0.3
"""Smallest share of labeled keypoints of anchor persons: 5 of COCO's 17."""


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a fine-tuning.

    Args:
        training_input: Height and width of the network input in training.
        inference_input: Height of the network input in inference.
        zoom: Smallest and largest zoom factor of the augmentation.
        batch_size: Samples per step.
        epochs: Number of epochs.
        filters: Filters of anchor persons.
        inferences: What was chosen from which data.
    """

    training_input: int
    inference_input: int
    zoom: tuple[float, float]
    batch_size: int
    epochs: int
    filters: FilteringParams
    inferences: tuple[Inference, ...]


def choose_settings(
    images: Sequence[CocoImage], joints: int, device: Device, epochs: int | None = None
) -> TrainingSettings:
    """Choose the settings of a fine-tuning.

    Args:
        images: Annotated training images; none if the data is not known yet.
        joints: Number of joints of the dataset.
        device: Device of the training.
        epochs: Number of epochs, or None to choose it by the number of people.

    Returns:
        The settings.
    """
    pairs = [(p, image) for image in images for p in image.persons if p.is_labeled]
    heights = np.array([p.box[3] / image.height for p, image in pairs if p.box[3] > 0])
    image_height = float(np.median([image.height for image in images])) if images else 0.0
    inference_input = _inference_input(heights, image_height)
    training_input = min(inference_input, _TRAINING_INPUT[device])
    zoom = _zoom_range(heights, training_input / inference_input)
    people = len(pairs)
    batch_size = _BATCH_SIZE[device]
    if people:
        batch_size = max(1, min(batch_size, people // _MIN_STEPS))
    least, most = _EPOCHS[device]
    number = epochs or min(max(_SAMPLES[device] // max(people, 1), least), most)
    text = (
        f"epochs: {number}, batch size: {batch_size}, input: {training_input} x {training_input}, "
        f"zoom: {zoom[0]:g} to {zoom[1]:g}; for {people or 'an unknown number of'} people on a "
        f"{device.upper()}"
    )
    inferences = (
        _input_inference(heights, image_height, inference_input),
        Inference("training", text, Certainty.SURE if people else Certainty.UNSURE),
    )
    filters = _filters(joints, image_height)
    return TrainingSettings(
        training_input, inference_input, zoom, batch_size, number, filters, inferences
    )


def _filters(joints: int, image_height: float) -> FilteringParams:
    """Return the filters of anchor persons.

    Args:
        joints: Number of joints of the dataset.
        image_height: Median height of the images in pixels; 0 if it is unknown.
    """
    defaults = FilteringParams()
    side = defaults.min_acceptable_height
    if image_height:
        side = float(min(side, max(round(_FILTERED_SHARE * image_height), 1)))
    keypoints = min(defaults.min_acceptable_kpts, max(1, round(_KEYPOINT_SHARE * joints)))
    return FilteringParams(
        min_acceptable_height=side, min_acceptable_width=side, min_acceptable_kpts=keypoints
    )


def _inference_input(heights: np.ndarray, image_height: float) -> int:
    """Return the height of the network input in inference.

    Args:
        heights: Heights of people relative to their images.
        image_height: Median height of the images in pixels; 0 if it is unknown.
    """
    height = float(_INPUT)
    if len(heights):
        height = max(height, _SMALL_PERSON / float(np.quantile(heights, 0.25)))
    if image_height:
        height = min(height, _MOST_ENLARGEMENT * image_height)
    least, most = _INPUT_RANGE
    return int(min(max(round(height / STRIDE) * STRIDE, least), most))


def _zoom_range(heights: np.ndarray, input_ratio: float) -> tuple[float, float]:
    """Return the zoom factors that show people as large as inference does.

    With a zoom factor z, a person is `_PERSON_SCALE` / z of the training input high. The range is
    that of the heights in inference, from the 10th to the 90th percentile.

    Args:
        heights: Heights of people relative to their images.
        input_ratio: Training input / inference input.
    """
    if not len(heights):
        return _ZOOM
    small, large = np.quantile(heights, (0.1, 0.9))
    least, most = _ZOOM_LIMITS
    scale = _PERSON_SCALE * input_ratio
    return (
        round(float(np.clip(scale / large, least, 1.0)), 1),
        round(float(np.clip(scale / small, 1.0, most)), 1),
    )


def _input_inference(heights: np.ndarray, image_height: float, height: int) -> Inference:
    """Return the inference about the size of the network input."""
    if not len(heights):
        return Inference("input", f"{height} pixels high, the default", Certainty.UNSURE)
    quarter, median = (height * np.quantile(heights, q) for q in (0.25, 0.5))
    return Inference(
        "input",
        f"{height} pixels high (images: {image_height:.0f}); half of the people are at least "
        f"{median:.0f} pixels high in it, three quarters {quarter:.0f}",
        Certainty.LIKELY if quarter < _SMALL_PERSON else Certainty.SURE,
    )
