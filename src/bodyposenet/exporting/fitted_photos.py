"""Photos in, pixels as inference fits them into the network's input out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from bodyposenet.runtime.engines.protocol import Engine
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.specs.inference import InferenceSpec


def fit_photos(
    photos: Iterable[NDArray[np.uint8]], engine: Engine, shape: tuple[int, int]
) -> Iterator[NDArray[np.uint8]]:
    """Fit photos into a shape, the aspect ratio kept, the rest gray.

    Args:
        photos: (H, W, 3) uint8 RGB each, of any size.
        engine: What they are for.
        shape: Height and width in pixels.

    Returns:
        (height, width, 3) uint8 RGB each.
    """
    spec = InferenceSpec(input_shape=shape, keep_aspect_ratio_mode="pad_image_input")
    predictor = Predictor(engine, spec)
    for photo in photos:
        yield predictor.prepare(photo)[0].pixels
