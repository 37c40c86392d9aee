"""Random skeletons and people, and the maps of a perfect network for them."""

from __future__ import annotations

import numpy as np
import torch

from bodyposenet.model.targets import TargetOptions, render_targets
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Maps, Poses

PERSON_SIZE = 184


def random_skeleton(rng: np.random.Generator, joints: int) -> Skeleton:
    """Create a skeleton whose limbs are a random tree, in random order and directions."""
    limbs = []
    for joint in range(1, joints):
        limb = (int(rng.integers(joint)), joint)
        limbs.append(limb if rng.random() < 0.5 else limb[::-1])
    rng.shuffle(limbs)
    names = tuple(f"joint_{k}" for k in range(joints))
    return Skeleton("tree", names, tuple((int(a), int(b)) for a, b in limbs))


def random_person(rng: np.random.Generator, joints: int) -> np.ndarray:
    """Return (K, 2) joints at least 24 px apart and 25 px from the border of PERSON_SIZE.

    Any five of them are at least 50 px apart in x or y, so that no limb, of at most 187 px, exceeds
    the decoder's maximum of four times the size of a person.
    """
    cells = rng.permutation(36)[:joints]
    corner = np.column_stack([cells % 6, cells // 6]) * 26.0
    return 26 + corner + rng.uniform(-1, 1, (joints, 2))


def random_people(rng: np.random.Generator, joints: int, count: int) -> np.ndarray:
    """Return (P, K, 2) people side by side, at least 64 px apart.

    Once in about 1,500 times, the same limbs of two people lie on one line, so that it is ambiguous
    which joints belong together. Therefore tests with random seeds are derandomized.
    """
    people = np.stack([random_person(rng, joints) for _ in range(count)])
    people[:, :, 0] += np.arange(count)[:, None] * (PERSON_SIZE + 24)
    return people


def perfect_maps(
    people: np.ndarray,
    skeleton: Skeleton,
    labeled=None,
    size: tuple[int, int] | None = None,
    options: TargetOptions = TargetOptions(),
) -> Maps:
    """Return the maps of a perfect network for (P, K, 2) people in an input of the given size."""
    labeled = np.ones(people.shape[:2], bool) if labeled is None else labeled
    heatmaps, pafs = render_targets(
        torch.tensor(people, dtype=torch.float32)[None],
        torch.tensor(labeled)[None],
        skeleton,
        *(size or (PERSON_SIZE, len(people) * (PERSON_SIZE + 24))),
        options,
    )
    return Maps(heatmaps[0].numpy(), pafs[0].numpy(), options.stride, options.heatmap_sigma)


def left_to_right(poses: Poses) -> Poses:
    """Sort people by the x of their leftmost joint."""
    return poses[np.argsort(np.nanmin(poses.keypoints[:, :, 0], axis=1))]
