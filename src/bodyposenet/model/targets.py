"""People in, target maps out: what the network has to learn, drawn in batch on any device.

A cell's centre lies at stride x i + (stride - 1) / 2 network pixels, for heatmaps and PAFs alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.dataloader import LabelProcessorConfig
from bodyposenet.specs.network import STRIDE
from bodyposenet.types import HEATMAP_SIGMA

_SMALLEST_HEAT = 0.001

# Floats of the largest map that is drawn at once: on the CPU it stays in the cache (2 MB); on an
# accelerator it need only fit (128 MB).
_MOST_FLOATS_ON_CPU = 2**19
_MOST_FLOATS = 2**25


@dataclass(frozen=True)
class TargetOptions:
    """How targets are drawn (TAO reference, section 6).

    Args:
        stride: Network pixels per cell.
        heatmap_sigma: Standard deviation of a joint's peak, in network pixels.
        paf_half_width: Half width of a limb's strip, in cells.
        paf_sigma: Standard deviation of the PAF's falloff across the limb, in network pixels;
            None draws the original's hard strip of unit vectors.
    """

    stride: int = STRIDE
    heatmap_sigma: float = HEATMAP_SIGMA
    paf_half_width: float = 1.0
    paf_sigma: float | None = None

    @classmethod
    def from_spec(cls, spec: LabelProcessorConfig, height: int) -> TargetOptions:
        """The options of a train spec, for network inputs of that height."""
        soft = spec.paf_weighting == "gaussian" and spec.paf_gaussian_sigma is not None
        return cls(
            heatmap_sigma=spec.heatmap_gaussian_sigma,
            paf_half_width=spec.paf_ortho_dist_thresh,
            paf_sigma=spec.paf_gaussian_sigma * height if soft else None,  # type: ignore[operator]
        )


def render_targets(
    keypoints: Tensor,
    labeled: Tensor,
    skeleton: Skeleton,
    height: int,
    width: int,
    options: TargetOptions = TargetOptions(),
) -> tuple[Tensor, Tensor]:
    """Draw heatmaps and part affinity fields.

    See the TAO reference, section 6, with the fixes of section 16.

    A joint's heat is exp(-d^2 / (2 sigma^2)), the highest of all people; the background is 1 minus
    the highest heat. A limb's field is the unit vector from its first to its second joint on the
    cells whose centres lie within the half width of the limb, averaged where people overlap.

    Args:
        keypoints: (B, P, K, 2) float, x and y in network pixels.
        labeled: (B, P, K) bool, which of them to draw; False for people who fill up a batch.
        skeleton: Joints and limbs.
        height: Of the network input, in pixels.
        width: Of the network input, in pixels.
        options: How to draw.

    Returns:
        Heatmaps (B, K + 1, h, w) in 0..1, the background last, and PAFs (B, 2 L, h, w), float32 on
        the keypoints' device; h and w are the input's size over the stride, rounded up.
    """
    stride = options.stride
    rows = _centers(-(-height // stride), stride, keypoints.device)
    columns = _centers(-(-width // stride), stride, keypoints.device)
    shape = len(labeled), skeleton.heatmap_channels, len(rows), len(columns)
    heatmaps = torch.zeros(shape, device=keypoints.device)
    heatmaps[:, -1] = 1  # where there are no people
    pafs = heatmaps.new_zeros(shape[0], skeleton.paf_channels, *shape[2:])
    channels = max(len(skeleton.joints), len(skeleton.limbs))
    # Joints before people: the maps that are put together then lie side by side.
    points, drawn = keypoints.transpose(1, 2), labeled.transpose(1, 2)
    for images, people in _pieces(labeled, channels * len(rows) * len(columns)):
        piece = points[images, :, :people], drawn[images, :, :people]
        heatmaps.index_copy_(0, images, _heatmaps(*piece, rows, columns, options))
        pafs.index_copy_(0, images, _pafs(*piece, skeleton, rows, columns, options))
    return heatmaps, pafs


def channel_weights(known: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Which channels a sample may train: those whose joints its dataset labels at all.

    The background says that no joint is there, so it needs all of them.

    Args:
        known: (B, K) bool, joints that the dataset labels.
        skeleton: Joints and limbs.

    Returns:
        (B, K + 1, 1, 1) and (B, 2 L, 1, 1) float32 of 0 and 1.
    """
    heat = torch.cat([known, known.all(dim=1, keepdim=True)], dim=1)
    starts, ends = _limb_ends(skeleton.limbs, known.device)
    paf = (known[:, starts] & known[:, ends]).repeat_interleave(2, dim=1)
    return heat[:, :, None, None].float(), paf[:, :, None, None].float()


def cell_mask(mask: Tensor, stride: int = STRIDE) -> Tensor:
    """Average a pixel mask over each cell.

    Args:
        mask: (B, H, W) uint8, 255 where pixels count and 0 where they do not.
        stride: Pixels per cell.

    Returns:
        (B, 1, h, w) float32 in 0..255; cells beyond the border count what they hold.
    """
    return functional.avg_pool2d(mask[:, None].float(), stride, ceil_mode=True)


def _centers(cells: int, stride: int, device: torch.device) -> Tensor:
    return torch.arange(cells, device=device, dtype=torch.float32) * stride + (stride - 1) / 2


@lru_cache
def _limb_ends(limbs: tuple[tuple[int, int], ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """First and second joints (L,) of the limbs; copied to a device once, not at every step."""
    starts, ends = torch.tensor(limbs).T.contiguous().to(device)
    return starts, ends


def _pieces(labeled: Tensor, floats: int) -> Iterator[tuple[Tensor, int]]:
    """What to draw at once: numbers of images, and how many of their people to look at.

    On the CPU images with equally many people go together, so that those who only fill up the
    batch cost nothing, and images without people are left out. On an accelerator the number of
    launches counts, and to ask how many people there are would wait for it: all of them.

    Args:
        labeled: (B, P, K) bool.
        floats: Of the largest map of one person.
    """
    batch, people, _ = labeled.shape
    order, counts = torch.arange(batch, device=labeled.device), [people] * batch
    most = _MOST_FLOATS
    if labeled.device.type == "cpu" and people:
        last = (labeled.any(dim=2) * torch.arange(1, people + 1)).amax(dim=1)
        sorted_counts, order = last.sort(descending=True, stable=True)
        counts, most = sorted_counts.tolist(), _MOST_FLOATS_ON_CPU
    first = 0
    while first < batch and counts[first]:
        images = order[first : first + max(1, most // (counts[first] * floats))]
        yield images, counts[first]
        first += len(images)


def _heatmaps(
    points: Tensor, labeled: Tensor, rows: Tensor, columns: Tensor, options: TargetOptions
) -> Tensor:
    """(b, K, P, 2) and (b, K, P) in, (b, K + 1, h, w) out."""
    points = points.masked_fill(~labeled[..., None], math.inf)
    down = (rows - points[..., 1:]).square()
    across = (columns - points[..., :1]).square()
    nearest = (down[..., None] + across[..., None, :]).amin(dim=2)
    exponent = nearest / (-2 * options.heatmap_sigma**2)
    # What is far below the smallest heat is not worth the slow path of tiny numbers.
    heat = exponent.clamp_(min=2 * math.log(_SMALLEST_HEAT)).exp_()
    functional.threshold(heat, _SMALLEST_HEAT, 0.0, inplace=True)
    return torch.cat([heat, 1 - heat.amax(dim=1, keepdim=True)], dim=1)


def _pafs(
    points: Tensor,
    labeled: Tensor,
    skeleton: Skeleton,
    rows: Tensor,
    columns: Tensor,
    options: TargetOptions,
) -> Tensor:
    """(b, K, P, 2) and (b, K, P) in, (b, 2 L, h, w) out."""
    starts, ends = _limb_ends(skeleton.limbs, points.device)
    start, end = points.index_select(1, starts), points.index_select(1, ends)
    vector = end - start
    length = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    drawn = (labeled.index_select(1, starts) & labeled.index_select(1, ends))[..., None]
    drawn = drawn & (length > 0)
    unit = torch.where(drawn, vector / length, 0.0)
    reach = options.paf_half_width * options.stride
    low, high = torch.minimum(start, end) - reach, torch.maximum(start, end) + reach
    in_rows = (rows >= low[..., 1:]) & (rows <= high[..., 1:]) & drawn
    in_columns = (columns >= low[..., :1]) & (columns <= high[..., :1])
    # The distance from the limb's line is a term per row and one per column; where either lies
    # outside the limb's rectangle, it is infinite.
    down = torch.where(in_rows, (rows - start[..., 1:]) * unit[..., :1], math.inf)
    across = torch.where(in_columns, (start[..., :1] - columns) * unit[..., 1:], math.inf)
    distance = (down[..., None] + across[..., None, :]).abs_()  # (b, L, P, h, w)
    falloff = None
    if options.paf_sigma is not None:
        falloff = torch.exp(distance.square() / (-2 * options.paf_sigma**2))
    weight = distance.le_(reach)  # 1 on the limb's strip, else 0
    count = weight.sum(dim=2).clamp_(min=1)
    if falloff is not None:
        weight *= falloff
    along = [(weight * part[..., None, None]).sum(dim=2) / count for part in unit.unbind(-1)]
    return torch.stack(along, dim=2).flatten(1, 2)
