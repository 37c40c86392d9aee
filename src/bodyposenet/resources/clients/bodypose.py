"""Assembly of people from the outputs of a model exported with `--with_decoding` (needs NumPy)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def assemble(
    peaks: NDArray[np.float32],
    paf_scores: NDArray[np.float32],
    skeleton: dict[str, Any],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Assign the peaks of one image to people, the best connections first.

    Args:
        peaks: (J, K, 3) x, y and score; the model's output `peaks` for one image.
        paf_scores: (L, K, K); the model's output `paf_scores` for the same image.
        skeleton: Entry `decoding` of the model's header, with `limbs`, `auxiliary_limbs` and
            `max_people` (the maximum number of people to return, or None for all).

    Returns:
        Keypoints (N, J, 3): x and y in network-input pixels, and a score; 0 for missing joints.
        Scores of the people (N,) in 0..1. The people are sorted by score, the best first.
    """
    joints, k, _ = peaks.shape
    limbs = np.array(skeleton["limbs"], np.int64).reshape(-1, 2)
    # A peak is identified by joint * k + its index among the peaks of the joint.
    peak_scores = peaks[..., 2].ravel().astype(np.float64)
    limb, start, end = np.nonzero(paf_scores)
    pafs = paf_scores[limb, start, end]
    start, end = limbs[limb].T * k + (start, end)
    score = pafs * np.sqrt(peak_scores[start] * peak_scores[end])
    # Auxiliary limbs, which do not start a new person, come after all others.
    auxiliary = np.isin(limb, skeleton["auxiliary_limbs"])
    order = np.lexsort((-score, auxiliary))
    connections = (values[order].tolist() for values in (limb, start, end, score, auxiliary))

    # `parts` (joint -> peak), `total` (a sum of scores), and `size` in pixels from five peaks on
    people: list[dict[str, Any]] = []
    person_of: dict[int, int] = {}  # peak -> index in people
    used: set[tuple[int, int]] = set()  # (limb, peak): a peak has one connection per limb

    def add(person: int, peak: int) -> bool:
        """Add a peak to a person, unless the person has a peak of that joint."""
        if peak // k in people[person]["parts"]:
            return False
        people[person]["parts"][peak // k] = peak
        people[person]["total"] += peak_scores[peak]
        person_of[peak] = person
        return True

    def merge(person: int, other: int) -> bool:
        """Merge a person into another, unless both have a peak of the same joint."""
        one, two = people[person], people[other]
        if one["parts"].keys() & two["parts"].keys():
            return False
        one["parts"] |= two["parts"]
        one["total"] += two["total"]
        person_of.update(dict.fromkeys(two["parts"].values(), person))
        two["parts"] = {}
        return True

    places = peaks[..., :2].reshape(-1, 2)
    for limb, start, end, score, is_auxiliary in zip(*connections, strict=True):
        if (limb, start) in used or (limb, end) in used:
            continue
        first, second = person_of.get(start, -1), person_of.get(end, -1)
        size = max([people[each]["size"] for each in (first, second) if each >= 0], default=0.0)
        if np.hypot(*(places[start] - places[end])) > 4 * size > 0:
            continue  # it is much longer than the person
        used |= {(limb, start), (limb, end)}
        if first < 0 and second < 0:
            if is_auxiliary:
                continue
            people.append({"parts": {}, "total": 0.0, "size": 0.0})
            first = len(people) - 1
            add(first, start)
        if first < 0:
            is_added = add(second, start)
        elif second < 0:
            is_added = add(first, end)
        else:
            is_added = first == second or merge(first, second)
        if is_added:
            person = people[second if first < 0 else first]
            person["total"] += score
            if len(person["parts"]) >= 5:
                person["size"] = np.ptp(places[list(person["parts"].values())], axis=0).max()

    found = [person for person in people if len(person["parts"]) >= min(3, joints)]
    found = sorted(found, key=lambda person: -person["total"])
    found = found[: skeleton.get("max_people")]
    keypoints = np.zeros((len(found), joints, 3), np.float32)
    for person, points in zip(found, keypoints, strict=True):
        for joint, peak in person["parts"].items():
            points[joint] = peaks[joint, peak % k]
    totals = np.array([person["total"] for person in found], np.float32)
    return keypoints, np.where(totals < 2, totals / 4, 1 - 1 / np.maximum(totals, 2))
