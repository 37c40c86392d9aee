"""The skeleton of a dataset: its joints, with limbs to draw and check its labels.

A network has a skeleton of its own, in the pose configuration; annotations need no limbs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from bodyposenet.data.coco import CocoImage
from bodyposenet.data.label_statistics import LabeledPeople
from bodyposenet.data.project.skeleton_inference import JointPositions, infer_skeleton
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.pose import (
    COCO_POSE_CONFIGURATION,
    KeypointCategory,
    bundled_skeleton,
)

_Limbs = tuple[tuple[int, int], ...]


def dataset_skeleton(
    name: str,
    category: KeypointCategory,
    images: Sequence[CocoImage] = (),
    labeled_flags: Collection[int] = (),
) -> Skeleton:
    """Return the skeleton of a dataset.

    The limbs are those of the category; or else those of the body between joints with known names,
    and for other joints those that `infer_skeleton` infers.

    Args:
        name: Name of the skeleton.
        category: Category of people of the dataset spec.
        images: Annotated images, for joints with unknown names.
        labeled_flags: Visibility flags that mean "labeled".

    Returns:
        The skeleton; its joints are those of the category, in the same order.
    """
    joints = category.keypoints
    limbs = _valid(joints, [(start - 1, end - 1) for start, end in category.skeleton])
    if not limbs:
        limbs = _named(joints, category.skeleton_edge_names)
    if not limbs:
        body = bundled_skeleton(COCO_POSE_CONFIGURATION)
        names = dict(zip(body.match(joints), joints, strict=True))
        limbs = _named(joints, [(names.get(a, ""), names.get(b, "")) for a, b in body.limbs])
        limbs += _inferred_limbs(joints, limbs, images, labeled_flags)
    return Skeleton(name, joints, limbs)


def _inferred_limbs(
    joints: tuple[str, ...],
    known: _Limbs,
    images: Sequence[CocoImage],
    labeled_flags: Collection[int],
) -> _Limbs:
    """Infer limbs of the joints that have none."""
    without = set(range(len(joints))) - {joint for limb in known for joint in limb}
    if not without or len(joints) < 2:
        return ()
    people = LabeledPeople.collect(images, len(joints), labeled_flags)
    positions = JointPositions(people.points, people.sizes) if len(people) else None
    inferred = infer_skeleton("inferred", joints, positions=positions).skeleton
    limbs = _valid(joints, inferred.limbs)  # Without those of a derived neck.
    return tuple(limb for limb in limbs if without & set(limb))


def _named(joints: tuple[str, ...], edges: Iterable[tuple[str, str]]) -> _Limbs:
    """Return the limbs between joints with the given names; others are ignored."""
    index = {joint: k for k, joint in enumerate(joints)}
    return _valid(joints, [(index.get(start, -1), index.get(end, -1)) for start, end in edges])


def _valid(joints: tuple[str, ...], edges: Iterable[tuple[int, int]]) -> _Limbs:
    """Return the edges between two different joints, each once."""
    valid = (edge for edge in edges if min(edge) >= 0 and max(edge) < len(joints))
    return tuple(dict.fromkeys(edge for edge in valid if edge[0] != edge[1]))
