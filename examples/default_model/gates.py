"""Check the criteria (gates) that a checkpoint must meet to become the default model.

python -m examples.default_model.gates runs/default_model/model.epoch-1.tlt --start import.tlt

The photos of val are small; enlarged ones are blurred, which can hide or feign gains. Therefore the
checkpoint is evaluated on val at 256 (not enlarged) and at 368, and on sharp photos at 368. All
with one scale, `adjust_network_input` and `mode: accurate`, in floating point.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import print_result
from bodyposenet.data.coco import CocoImage
from bodyposenet.evaluation.evaluator import evaluate_dataset, load_test_images
from bodyposenet.evaluation.joint_errors import Match
from bodyposenet.exit_codes import exit_code_of
from bodyposenet.files import read_json, write_json
from bodyposenet.inference.models import open_engine
from bodyposenet.inference.predictor import Predictor, network_affine
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec

Figures = dict[str, float]

_AP, _AP_LARGE = 0, 4
"""Indices in the ten COCO metrics."""


class Gate(NamedTuple):
    """A criterion for a figure, relative to the figure of the starting weights.

    Args:
        figure: Name of the figure.
        rule: Description of the criterion.
        passes: Function of the checkpoint's and the start's figure that returns whether the
            criterion is met.
    """

    figure: str
    rule: str
    passes: Callable[[float, float], bool]


GATES = (
    Gate("val_256_ap", "above the start", lambda now, start: now > start),
    Gate("val_368_ap", "above the start", lambda now, start: now > start),
    Gate("val_368_ap_large", "not below the start", lambda now, start: now >= start),
    Gate("sharp_368_ap", "at most .015 below the start", lambda now, start: now >= start - 0.015),
    Gate("sharp_dx", "at most .25 px from 0", lambda now, start: abs(now) <= 0.25),
    Gate("sharp_dy", "nearer to 0", lambda now, start: abs(now) < abs(start)),
)


def main() -> None:
    """Measure the checkpoints, compare them with the start, and print a table."""
    arguments = _flags().parse_args()
    start = _measure_cached(arguments.start, arguments)
    table = {str(model): _measure_cached(model, arguments) for model in arguments.models}
    print_result(
        f"{'':>18}  {'start':>8}" + "".join(f"  {Path(name).stem[-14:]:>14}" for name in table)
    )
    for gate in GATES:
        cells = [
            f"{figures[gate.figure]:+9.4f} {'ok  ' if _passes(gate, figures, start) else 'FAIL'}"
            for figures in table.values()
        ]
        print_result(
            f"{gate.figure:>18}  {start[gate.figure]:+8.4f}  {'  '.join(cells)}  {gate.rule}"
        )


def _passes(gate: Gate, figures: Figures, start: Figures) -> bool:
    return gate.passes(figures[gate.figure], start[gate.figure])


def _measure_cached(model: Path, arguments: argparse.Namespace) -> Figures:
    """Return the figures of a model, which are cached in a file beside it."""
    cache = model.with_name(f"{model.name}.gates.json")
    sets = {"val": str(arguments.val), "sharp": str(arguments.sharp), "limit": arguments.limit}
    if cache.exists() and cache.stat().st_mtime >= model.stat().st_mtime:
        content = read_json(cache, "Remove it to measure again.")
        if isinstance(content, dict) and content.get("sets") == sets:
            return content["figures"]
    figures = measure(model, arguments.val, arguments.sharp, arguments.limit, arguments.threads)
    write_json(cache, {"sets": sets, "figures": figures})
    return figures


def measure(
    model: Path, val: Path, sharp: Path, limit: int | None = None, threads: int | None = None
) -> Figures:
    """Evaluate a model on both sets.

    Args:
        model: Model file.
        val: Dataset spec of the validation photos.
        sharp: Dataset spec of the sharp photos.
        limit: Maximum number of photos per set; None for all.
        threads: Threads of the network.

    Returns:
        AP by set and size, and the median offsets of the joints on sharp photos, in network pixels.
    """
    engine = open_engine(InferenceSpec(), str(model), threads=threads)
    figures: Figures = {}
    for name, path, size in (("val", val, 256), ("val", val, 368), ("sharp", sharp, 368)):
        dataset = DatasetSpec.load(path)
        images = load_test_images(dataset, limit)
        spec = InferenceSpec(input_shape=(size, size))
        result = evaluate_dataset(Predictor(engine, spec), dataset, images)
        figures[f"{name}_{size}_ap"] = result.accuracy.values[_AP]
        figures[f"{name}_{size}_ap_large"] = result.accuracy.values[_AP_LARGE]
        if name == "sharp":
            offsets = find_offsets(result.accuracy.matches, images, spec)
            middle = np.median(offsets, axis=0) if len(offsets) else np.full(2, np.nan)
            figures["sharp_dx"], figures["sharp_dy"] = middle.tolist()
    return figures


def find_offsets(
    matches: Sequence[Match], images: Sequence[CocoImage], spec: InferenceSpec
) -> NDArray[np.float64]:
    """Return the offsets of the detected joints from their labels.

    Args:
        matches: Annotated people and their matched poses, from an evaluation.
        images: The evaluated images.
        spec: Inference spec, for the size of the network's input.

    Returns:
        (J, 2) offsets in network pixels.
    """
    scales = {
        image.image_id: network_affine(image.height, image.width, spec)[0].scale for image in images
    }
    offsets = [np.zeros((0, 2))]
    for person, pose in matches:
        truth, detected = (np.reshape(each["keypoints"], (-1, 3)) for each in (person, pose))
        both = (truth[:, 2] > 0) & (detected[:, 2] > 0)
        offsets.append(scales[person["image_id"]] * (detected[both, :2] - truth[both, :2]))
    return np.concatenate(offsets)


def _flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("models", nargs="+", type=Path, metavar="FILE", help="checkpoints")
    flags.add_argument(
        "--start", required=True, type=Path, metavar="FILE", help="weights before the training"
    )
    specs = Path("examples")
    flags.add_argument(
        "--val", type=Path, default=specs / "coco_person.json", metavar="FILE",
        help="dataset spec of the validation photos",
    )  # fmt: skip
    flags.add_argument(
        "--sharp", type=Path, default=specs / "default_model" / "coco_sharp.json", metavar="FILE",
        help="dataset spec of the sharp photos",
    )  # fmt: skip
    flags.add_argument("--limit", type=int, metavar="N", help="only the first N photos of each")
    flags.add_argument("--threads", type=int, metavar="N", help="threads of the network")
    return flags


if __name__ == "__main__":
    sys.exit(exit_code_of("gates.py", main))
