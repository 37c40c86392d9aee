"""Which record goes to which file, and the names of the files, as TAO does it (reference 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TypeVar

Item = TypeVar("Item")

_SEED = 42
"""TAO's own: the records come in the order that TAO writes them in."""


def distribute(items: Sequence[Item], partitions: int, shards: int) -> list[list[list[Item]]]:
    """Deal items out to partitions, shuffle each and cut it into shards, as TAO does.

    Args:
        items: What to distribute; item i goes to partition i mod `partitions`.
        partitions: How many; 0 means one.
        shards: Of each partition; 0 means one. The last one takes what is left over.

    Returns:
        Partitions of shards of items.
    """
    random = Random(_SEED)
    step, pieces = max(partitions, 1), max(shards, 1)
    result = []
    for number in range(step):
        partition = list(items[number::step])
        # Python's shuffle with a random function, which went with Python 3.11 (reference 3.6).
        for i in range(len(partition) - 1, 0, -1):
            j = int(random.random() * (i + 1))
            partition[i], partition[j] = partition[j], partition[i]
        size = len(partition) // pieces
        bounds = [*(size * k for k in range(pieces)), len(partition)]
        result.append([partition[start:end] for start, end in pairwise(bounds)])
    return result


def shard_path(output: Path, partition: int, partitions: int, shard: int, shards: int) -> Path:
    """Name of a shard's file: `<output>-fold-000-of-001-shard-00000-of-00004`.

    Without partitions (0) the fold is left out of it, without shards (0) the shard.
    """
    name = output.name
    if partitions:
        name += f"-fold-{partition:03d}-of-{partitions:03d}"
    if shards:
        name += f"-shard-{shard:05d}-of-{shards:05d}"
    return output.with_name(name)
