"""Comparison of decoding inside a model (`decoding_graph`) with the decoder of `mode: accurate`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodyposenet.demo import draw_scene
from bodyposenet.encryption import METADATA_KEY
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.decoding_graph import DecodingGraphOptions
from bodyposenet.inference.engines.base import ModelDescription
from bodyposenet.inference.engines.exported import (
    HEATMAPS,
    PAF_SCORES,
    PAFS,
    PEAKS,
    Signature,
    prepare,
)
from bodyposenet.inference.engines.onnx import open_session, read_tensors
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Maps

_NEAR = 0.05
"""Distance in pixels within which `check_decoding` takes peaks for the same; rounding takes less
than a thousandth of a pixel."""

_SAME = 0.98
"""Share of peaks and PAF scores that must be the same. Not all: a value at a threshold can be above
it on one side only."""


def check_decoding(
    path: str | Path,
    maps_content: bytes,
    content: bytes,
    shape: tuple[int, int],
    options: DecodingGraphOptions | None = None,
) -> float:
    """Compare decoding inside a model with the decoder, on drawn people.

    Args:
        path: The file that is to be written, for errors.
        maps_content: The model that returns maps.
        content: The same model after `append_decoding`.
        shape: Height and width of the images in pixels, unless the model fixes them.
        options: Those that the decoding was appended with.

    Returns:
        Share of the decoder's peaks and PAF scores that the model returns, too.

    Raises:
        BodyPoseNetError: It returns too few of them.
    """
    options = options or DecodingGraphOptions()
    maps_session = open_session(path, content=maps_content, device="cpu")
    session = open_session(path, content=content, device="cpu")
    description = ModelDescription.from_header(
        path, maps_session.get_modelmeta().custom_metadata_map[METADATA_KEY]
    )
    signature = Signature.read(
        path, read_tensors(maps_session.get_inputs()), read_tensors(maps_session.get_outputs())
    )
    random = np.random.default_rng(0)
    sides = signature.fixed_shape or shape
    images = np.stack([draw_scene(random, *sides)[0] for _ in range(signature.batch or 2)])
    inputs = {session.get_inputs()[0].name: prepare(images, description, signature)}
    heatmaps, pafs = maps_session.run([HEATMAPS, PAFS], inputs)
    if signature.channels_last:
        heatmaps, pafs = heatmaps.transpose(0, 3, 1, 2), pafs.transpose(0, 3, 1, 2)
    counts = np.zeros(2)
    for image, found in enumerate(zip(*session.run([PEAKS, PAF_SCORES], inputs), strict=True)):
        maps = Maps(heatmaps[image], pafs[image], description.stride, description.heatmap_sigma)
        counts += compare_decoding(maps, description.skeleton, found[0], found[1], options)
    total, same = counts.tolist()
    if same < _SAME * total:
        raise BodyPoseNetError(
            f"{path}: not written, because decoding inside the model differs from the decoder: "
            f"{same:.0f} of {total:.0f} peaks and PAF scores are the same",
            "Update onnxruntime (pip install -U onnxruntime), or export without --with_decoding.",
        )
    return same / total if total else 1.0


def compare_decoding(
    maps: Maps,
    skeleton: Skeleton,
    peaks: NDArray[np.float32],
    paf_scores: NDArray[np.float32],
    options: DecodingGraphOptions,
    *,
    pixels: float = _NEAR,
    score: float = 1e-2,
) -> tuple[int, int]:
    """Compare the outputs for one image with the decoder's own peaks and PAF scores.

    Args:
        maps: The maps that both are of.
        skeleton: Their skeleton.
        peaks: (J, K, 3).
        paf_scores: (L, K, K).
        options: K and the thresholds.
        pixels: Maximum distance of peaks that are the same.
        score: Maximum difference of scores that are the same.

    Returns:
        Number of peaks and PAF scores of either side (those of both count once), and of those that
        are the same. Joints of more than K peaks are not compared.
    """
    from bodyposenet.decoding.accurate.connections import score_connections
    from bodyposenet.decoding.accurate.peaks import find_peaks

    limbs = np.array(skeleton.limbs, np.int64).reshape(-1, 2)
    heatmap_threshold, paf_threshold = options.thresholds
    heatmaps, fields = (np.ascontiguousarray(each) for each in (maps.heatmaps[:-1], maps.pafs))
    points, scores, first = find_peaks(
        heatmaps, heatmap_threshold, maps.heatmap_sigma / maps.stride
    )
    connections, connection_scores = score_connections(
        fields, limbs, points, scores, first, paf_threshold
    )
    points = (points + 0.5) * maps.stride - 0.5
    total, same = 0, 0
    place = np.full(len(points), -1)
    for joint, candidates in enumerate(peaks):
        own = np.arange(first[joint], first[joint + 1])
        if len(own) > options.max_peaks:
            continue
        candidates = candidates[candidates[:, 2] > 0]
        total += len(own) + len(candidates)
        if not len(candidates):
            continue
        gaps = np.abs(points[own, None] - candidates[None, :, :2]).max(axis=2, initial=0)
        near = (gaps <= pixels) & (np.abs(scores[own, None] - candidates[None, :, 2]) <= score)
        matched = near.any(axis=1)
        place[own[matched]] = near[matched].argmax(axis=1)
        total -= int(matched.sum())
        same += int(matched.sum())
    expected = np.zeros_like(paf_scores)
    known = (place[connections[:, 1:]] >= 0).all(axis=1)
    limb, start, end = connections[known].T
    geometric_mean = np.sqrt(scores[start] * scores[end])
    expected[limb, place[start], place[end]] = connection_scores[known] / geometric_mean
    comparable = (np.diff(first)[limbs] <= options.max_peaks).all(axis=1)
    either = ((expected > 0) | (paf_scores > 0))[comparable]
    equal = np.abs(expected - paf_scores)[comparable] <= score
    return total + int(either.sum()), same + int((either & equal).sum())
