"""Verification of decoding inside a model: comparison with the decoder of `mode: accurate`.

See `decoding_graph` for the outputs of such a model.
"""

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

_MAX_DISTANCE = 0.05
"""Maximum distance of equal peaks in pixels. Rounding to float32 moves peaks by less than 0.001."""

_MIN_EQUAL = 0.98
"""Minimum share of equal peaks and PAF scores. It is less than 1, because a value that is close to
a threshold may exceed it on one side only."""


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
        maps_content: Content of the ONNX file before `append_decoding`.
        content: Content of the ONNX file after `append_decoding`.
        shape: Height and width of the images in pixels, unless those of the model are static.
        options: Options that were given to `append_decoding`.

    Returns:
        Share of equal peaks and PAF scores, 0 to 1.

    Raises:
        BodyPoseNetError: Less than 98 % of the peaks and PAF scores are equal.
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
    heatmaps, pafs = map(np.asarray, maps_session.run([HEATMAPS, PAFS], inputs))
    if signature.channels_last:
        heatmaps, pafs = heatmaps.transpose(0, 3, 1, 2), pafs.transpose(0, 3, 1, 2)
    counts = np.zeros(2)
    peaks, paf_scores = map(np.asarray, session.run([PEAKS, PAF_SCORES], inputs))
    for image in range(len(images)):
        maps = Maps(heatmaps[image], pafs[image], description.stride, description.heatmap_sigma)
        counts += compare_decoding(
            maps, description.skeleton, peaks[image], paf_scores[image], options
        )
    total, equal = counts.tolist()
    if equal < _MIN_EQUAL * total:
        raise BodyPoseNetError(
            f"{path}: not written, because decoding inside the model differs from the decoder: "
            f"{equal:.0f} of {total:.0f} peaks and PAF scores are equal",
            "Update onnxruntime (pip install -U onnxruntime), or export without --with_decoding.",
        )
    return equal / total if total else 1.0


def compare_decoding(
    maps: Maps,
    skeleton: Skeleton,
    peaks: NDArray[np.float32],
    paf_scores: NDArray[np.float32],
    options: DecodingGraphOptions,
    *,
    pixels: float = _MAX_DISTANCE,
    score: float = 1e-2,
) -> tuple[int, int]:
    """Compare the outputs for one image with the peaks and PAF scores of the decoder.

    Joints of more than K peaks are not compared.

    Args:
        maps: Maps of the image.
        skeleton: Joints and limbs of the maps.
        peaks: (J, K, 3) output of the model.
        paf_scores: (L, K, K) output of the model.
        options: Options that were given to `append_decoding`.
        pixels: Maximum distance of equal peaks, in pixels along x and y.
        score: Maximum difference of equal scores.

    Returns:
        Number of peaks and PAF scores that the model or the decoder finds (equal ones count once),
        and number of equal ones.
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
    total, indices = _match_peaks(points, scores, first, peaks, pixels, score)
    equal = int((indices >= 0).sum())
    expected = np.zeros_like(paf_scores)
    is_matched = (indices[connections[:, 1:]] >= 0).all(axis=1)
    limb, start, end = connections[is_matched].T
    geometric_mean = np.sqrt(scores[start] * scores[end])
    expected[limb, indices[start], indices[end]] = connection_scores[is_matched] / geometric_mean
    comparable = (np.diff(first)[limbs] <= options.max_peaks).all(axis=1)
    either = ((expected > 0) | (paf_scores > 0))[comparable]
    is_equal = np.abs(expected - paf_scores)[comparable] <= score
    return total + int(either.sum()), equal + int((either & is_equal).sum())


def _match_peaks(
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    first: NDArray[np.int64],
    peaks: NDArray[np.float32],
    pixels: float,
    score: float,
) -> tuple[int, NDArray[np.int64]]:
    """Match the peaks of the decoder with those of the model, joint by joint.

    Args:
        points: (P, 2) peaks of the decoder in network-input pixels, sorted by joint.
        scores: (P,) scores of these peaks.
        first: (J + 1,) index of each joint's first peak.
        peaks: (J, K, 3) output of the model; joints of more than K peaks are skipped.
        pixels: Maximum distance of equal peaks, in pixels along x and y.
        score: Maximum difference of equal scores.

    Returns:
        Number of different peaks that the model or the decoder finds, and (P,) the index in 0..K of
        the model's equal peak, or -1.
    """
    total, indices = 0, np.full(len(points), -1)
    for joint, candidates in enumerate(peaks):
        own = np.arange(first[joint], first[joint + 1])
        if len(own) > len(candidates):
            continue
        candidates = candidates[candidates[:, 2] > 0]
        total += len(own) + len(candidates)
        if not len(candidates):
            continue
        gaps = np.abs(points[own, None] - candidates[None, :, :2]).max(axis=2, initial=0)
        near = (gaps <= pixels) & (np.abs(scores[own, None] - candidates[None, :, 2]) <= score)
        matched = near.any(axis=1)
        indices[own[matched]] = near[matched].argmax(axis=1)
        total -= int(matched.sum())
    return total, indices
