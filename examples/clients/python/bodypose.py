"""People from the outputs of a model that was exported with `--with_decoding`; needs numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def assemble(
    peaks: NDArray[np.float32],
    paf_scores: NDArray[np.float32],
    skeleton: dict[str, Any],
    max_people: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Assign the peaks of one image to people, the best connections first.

    Args:
        peaks: (J, K, 3) x, y and score; output `peaks` of the model, for one image.
        paf_scores: (L, K, K); output `paf_scores`, for the same image.
        skeleton: `limbs` and `auxiliary_limbs`; entry `decoding` of the model's header.
        max_people: Maximum number of people, the best; None for all.

    Returns:
        Keypoints (N, J, 3): x and y in network-input pixels and a score, all 0 where a joint is
        missing; and scores (N,) in 0..1. The best person comes first.
    """
    joints, k, _ = peaks.shape
    limbs = np.array(skeleton["limbs"], np.int64).reshape(-1, 2)
    peak_scores = peaks[..., 2].ravel().astype(np.float64)  # a peak's number is joint * k + place
    limb, start, end = np.nonzero(paf_scores)
    pafs = paf_scores[limb, start, end]
    start, end = limbs[limb].T * k + (start, end)
    strength = pafs * np.sqrt(peak_scores[start] * peak_scores[end])
    # Limbs that start no person come after all others.
    auxiliary = np.isin(limb, skeleton["auxiliary_limbs"])
    order = np.lexsort((-strength, auxiliary))
    connections = (values[order].tolist() for values in (limb, start, end, strength, auxiliary))

    people: list[dict[str, Any]] = []  # `parts` (joint -> peak) and `total`
    person_of: dict[int, int] = {}  # peak -> index in people
    taken: set[tuple[int, int]] = set()  # (limb, peak): a peak has one connection per limb

    def add(person: int, peak: int) -> bool:
        if peak // k in people[person]["parts"]:
            return False
        people[person]["parts"][peak // k] = peak
        people[person]["total"] += peak_scores[peak]
        person_of[peak] = person
        return True

    def merge(person: int, other: int) -> bool:
        one, two = people[person], people[other]
        if one["parts"].keys() & two["parts"].keys():
            return False
        one["parts"] |= two["parts"]
        one["total"] += two["total"]
        person_of.update(dict.fromkeys(two["parts"].values(), person))
        two["parts"] = {}
        return True

    for limb, start, end, strength, is_auxiliary in zip(*connections, strict=True):
        if (limb, start) in taken or (limb, end) in taken:
            continue
        taken |= {(limb, start), (limb, end)}
        first, second = person_of.get(start), person_of.get(end)
        if first is None and second is None:
            if is_auxiliary:
                continue
            people.append({"parts": {}, "total": 0.0})
            first = len(people) - 1
            add(first, start)
        if first is None:
            fits = add(second, start)
        elif second is None:
            fits = add(first, end)
        else:
            fits = first == second or merge(first, second)
        if fits:
            people[second if first is None else first]["total"] += strength

    found = [person for person in people if len(person["parts"]) >= min(3, joints)]
    found = sorted(found, key=lambda person: -person["total"])[:max_people]
    keypoints = np.zeros((len(found), joints, 3), np.float32)
    for person, points in zip(found, keypoints, strict=True):
        for joint, peak in person["parts"].items():
            points[joint] = peaks[joint, peak % k]
    totals = np.array([person["total"] for person in found], np.float32)
    return keypoints, np.where(totals < 2, totals / 4, 1 - 1 / np.maximum(totals, 2))
