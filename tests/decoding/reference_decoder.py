"""Reference implementation of TAO's decoder: a literal transcription with loops, as in OpenPose.

See the TAO reference, sections 11.5 to 11.7.
"""

from __future__ import annotations

import numpy as np

KERNEL = np.array([0.060411, 0.245542, 0.388092, 0.245542, 0.060411])


def peaks_of(heatmap, threshold):
    """Return (x, y, score) of each peak of one upsampled heatmap, row by row."""
    height, width = heatmap.shape
    padded = np.pad(heatmap.astype(float), 2)
    smoothed = sum(
        KERNEL[i] * KERNEL[j] * padded[i : i + height, j : j + width]
        for i in range(5)
        for j in range(5)
    )
    around = np.pad(smoothed, 1, constant_values=-np.inf)
    return [
        (x, y, heatmap[y, x])
        for y in range(height)
        for x in range(width)
        if heatmap[y, x] > threshold and smoothed[y, x] == around[y : y + 3, x : x + 3].max()
    ]


def connections_of(field, starts, ends, threshold):
    """Return (start peak, end peak, score) of each connection of a limb, best first."""
    candidates = []
    for a, start in starts:
        for b, end in ends:
            vector = np.array(end[:2]) - np.array(start[:2])
            unit = vector / (np.linalg.norm(vector) + 1e-6)
            paf_scores = []
            for i in range(10):
                x, y = np.round(np.array(start[:2]) + i / 9 * vector).astype(int)
                paf_scores.append(field[0, y, x] * unit[0] + field[1, y, x] * unit[1])
            valid = [value for value in paf_scores if value > threshold]
            score = sum(valid) / (len(valid) + 1e-6)
            if score > 0 and len(valid) > 0.8 * 10:
                candidates.append((a, b, score))
    taken = []
    for a, b, score in sorted(candidates, key=lambda candidate: -candidate[2]):
        if a not in [row[0] for row in taken] and b not in [row[1] for row in taken]:
            taken.append((a, b, score))
    return taken


def assemble(connections, scores, limbs, joints, cannot_start):
    """Return rows of peak numbers, total and count, as in OpenPose's array `subset`."""
    rows = []
    for k, (start, end) in enumerate(limbs):
        for a, b, score in connections[k]:
            found = [j for j, row in enumerate(rows) if row[start] == a or row[end] == b]
            if len(found) == 1:
                row = rows[found[0]]
                if row[end] != b:
                    row[end] = b
                    row[-1] += 1
                    row[-2] += scores[b] + score
            elif len(found) == 2:
                first, second = rows[found[0]], rows[found[1]]
                if not any(first[j] >= 0 and second[j] >= 0 for j in range(joints)):
                    for j in range(joints):
                        first[j] += second[j] + 1
                    first[-1] += second[-1]
                    first[-2] += second[-2] + score
                    del rows[found[1]]
                else:
                    first[end] = b
                    first[-1] += 1
                    first[-2] += scores[b] + score
            elif not found and k not in cannot_start:
                row = [-1] * joints + [scores[a] + scores[b] + score, 2]
                row[start], row[end] = a, b
                rows.append(row)
    return [row for row in rows if row[-1] >= 4 and row[-2] / row[-1] >= 0.4]


def people_of(heatmaps, pafs, skeleton):
    """Return the (K, 2) keypoints, in pixels of the given maps, and the score of each person."""
    candidates, numbers, total = [], [], 0
    for heatmap in heatmaps[:-1]:
        found = peaks_of(heatmap, 0.1)
        numbers.append(list(zip(range(total, total + len(found)), found, strict=True)))
        candidates += found
        total += len(found)
    connections = [
        connections_of(pafs[2 * k : 2 * k + 2], numbers[start], numbers[end], 0.05)
        for k, (start, end) in enumerate(skeleton.limbs)
    ]
    joints = len(skeleton.joints)
    scores = [candidate[2] for candidate in candidates]
    rows = assemble(connections, scores, skeleton.limbs, joints, cannot_start=(17, 18))
    people = []
    for row in rows:
        points = [candidates[i][:2] if i >= 0 else (np.nan, np.nan) for i in row[:joints]]
        people.append((np.array(points, dtype=float), 1 - 1 / row[-2]))
    return people
