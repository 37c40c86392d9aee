"""Training targets: heatmaps and part affinity fields, rendered in batches on any device.

The maps are those of OpenPose (Cao et al. 2017, section 3) with TAO's parameters (TAO reference,
section 6). For heatmaps and PAFs alike, the center of cell i is at stride x i + (stride - 1) / 2
pixels of the network's input.
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

_MIN_HEATMAP_VALUE = 0.001
"""Smaller heatmap values become 0."""

# Maximum number of floats of the maps rendered at once: on the CPU they should stay in the cache (2
# MB); on an accelerator they only need to fit into its memory (128 MB).
_MAX_FLOATS_ON_CPU = 2**19
_MAX_FLOATS = 2**25


@dataclass(frozen=True)
class TargetOptions:
    """Parameters of the targets (TAO reference, section 6).

    Args:
        stride: Pixels of the network's input per cell.
        heatmap_sigma: Standard deviation of the Gaussians in the heatmaps, in input pixels.
        paf_half_width: Half the width of the limbs in the PAFs, in cells.
        paf_sigma: Standard deviation of the Gaussian falloff of PAFs across the limb, in input
            pixels, or None for TAO's and OpenPose's limbs of unit vectors with hard edges.
    """

    stride: int = STRIDE
    heatmap_sigma: float = HEATMAP_SIGMA
    paf_half_width: float = 1.0
    paf_sigma: float | None = None

    @classmethod
    def from_spec(cls, spec: LabelProcessorConfig, height: int) -> TargetOptions:
        """Read the options of a train spec.

        Args:
            spec: Its `label_processor_config`.
            height: Height of the network's input in pixels, which scales the PAFs' falloff.
        """
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
    """Render heatmaps and part affinity fields (TAO reference, sections 6 and 16).

    The heatmap of a joint is the maximum over all people of exp(-d^2 / (2 sigma^2)), where d is the
    distance to the joint; the background is 1 minus the maximum over all joints. The PAF of a limb
    is the unit vector from its first to its second joint on the cells whose centers lie within half
    the limb's width of it, averaged where people overlap.

    Args:
        keypoints: (B, P, K, 2) float, x and y in pixels of the network's input.
        labeled: (B, P, K) bool, the keypoints to render; False for people that pad the batch.
        skeleton: Joints and limbs.
        height: Height of the network's input in pixels.
        width: Width of the network's input in pixels.
        options: Parameters of the targets.

    Returns:
        (B, K + 1, h, w) heatmaps in 0..1, the background last, and (B, 2 L, h, w) PAFs, float32 on
        the device of the keypoints. h and w are height and width divided by the stride, rounded up.
    """
    stride = options.stride
    rows = _centers(-(-height // stride), stride, keypoints.device)
    columns = _centers(-(-width // stride), stride, keypoints.device)
    shape = len(labeled), skeleton.heatmap_channels, len(rows), len(columns)
    heatmaps = torch.zeros(shape, device=keypoints.device)
    heatmaps[:, -1] = 1  # images without people are not rendered below
    pafs = heatmaps.new_zeros(shape[0], skeleton.paf_channels, *shape[2:])
    channels = max(len(skeleton.joints), len(skeleton.limbs))
    # Joints before people, so that the maps that are reduced over people are adjacent in memory.
    points, is_labeled = keypoints.transpose(1, 2), labeled.transpose(1, 2)
    for images, people in _chunks(labeled, channels * len(rows) * len(columns)):
        chunk = points[images, :, :people], is_labeled[images, :, :people]
        heatmaps.index_copy_(0, images, _heatmaps(*chunk, rows, columns, options))
        pafs.index_copy_(0, images, _pafs(*chunk, skeleton, rows, columns, options))
    return heatmaps, pafs


def channel_weights(annotated: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """Compute loss weights that exclude the channels of joints that a dataset does not annotate.

    The background depends on all joints, so it is excluded if any joint is not annotated.

    Args:
        annotated: (B, K) bool, the joints that the sample's dataset annotates.
        skeleton: Joints and limbs.

    Returns:
        Weights of the heatmaps (B, K + 1, 1, 1) and of the PAFs (B, 2 L, 1, 1), float32, 0 or 1.
    """
    heatmap_weights = torch.cat([annotated, annotated.all(dim=1, keepdim=True)], dim=1)
    starts, ends = _limb_ends(skeleton.limbs, annotated.device)
    paf_weights = (annotated[:, starts] & annotated[:, ends]).repeat_interleave(2, dim=1)
    return heatmap_weights[:, :, None, None].float(), paf_weights[:, :, None, None].float()


def cell_mask(mask: Tensor, stride: int = STRIDE) -> Tensor:
    """Average a pixel mask over each cell.

    Args:
        mask: (B, H, W) uint8, 255 for pixels that count in the loss and 0 for all others.
        stride: Pixels per cell.

    Returns:
        (B, 1, h, w) float32 in 0..255. For cells that extend beyond the border, the average is
        taken over the pixels inside.
    """
    return functional.avg_pool2d(mask[:, None].float(), stride, ceil_mode=True)


def _centers(cells: int, stride: int, device: torch.device) -> Tensor:
    """Return the centers of cells along one axis, in pixels of the network's input."""
    return torch.arange(cells, device=device, dtype=torch.float32) * stride + (stride - 1) / 2


@lru_cache
def _limb_ends(limbs: tuple[tuple[int, int], ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the first and second joints (L,) of the limbs, cached on the device."""
    starts, ends = torch.tensor(limbs).T.contiguous().to(device)
    return starts, ends


def _chunks(labeled: Tensor, floats: int) -> Iterator[tuple[Tensor, int]]:
    """Split a batch into chunks that are rendered at once.

    On the CPU, images with similar numbers of people are rendered together, so that padding costs
    little, and images without people are skipped. On an accelerator, all people are rendered,
    padding included: the number of kernel launches matters there, and reading the numbers of people
    would synchronize with the device.

    Args:
        labeled: (B, P, K) bool.
        floats: Size of the largest map of one person.

    Returns:
        Indices of images, and the number of people to render of each.
    """
    batch, people, _ = labeled.shape
    order, counts = torch.arange(batch, device=labeled.device), [people] * batch
    max_floats = _MAX_FLOATS
    if labeled.device.type == "cpu" and people:
        last = (labeled.any(dim=2) * torch.arange(1, people + 1)).amax(dim=1)
        sorted_counts, order = last.sort(descending=True, stable=True)
        counts, max_floats = sorted_counts.tolist(), _MAX_FLOATS_ON_CPU
    first = 0
    while first < batch and counts[first]:
        images = order[first : first + max(1, max_floats // (counts[first] * floats))]
        yield images, counts[first]
        first += len(images)


def _heatmaps(
    points: Tensor, labeled: Tensor, rows: Tensor, columns: Tensor, options: TargetOptions
) -> Tensor:
    """Render (b, K + 1, h, w) heatmaps of (b, K, P, 2) keypoints."""
    points = points.masked_fill(~labeled[..., None], math.inf)
    down = (rows - points[..., 1:]).square()
    across = (columns - points[..., :1]).square()
    nearest = (down[..., None] + across[..., None, :]).amin(dim=2)
    exponent = nearest / (-2 * options.heatmap_sigma**2)
    # Clamped to avoid denormal numbers, which are slow; such values become 0 anyway.
    joints = exponent.clamp_(min=2 * math.log(_MIN_HEATMAP_VALUE)).exp_()
    functional.threshold(joints, _MIN_HEATMAP_VALUE, 0.0, inplace=True)
    return torch.cat([joints, 1 - joints.amax(dim=1, keepdim=True)], dim=1)


def _pafs(
    points: Tensor,
    labeled: Tensor,
    skeleton: Skeleton,
    rows: Tensor,
    columns: Tensor,
    options: TargetOptions,
) -> Tensor:
    """Render (b, 2 L, h, w) PAFs of (b, K, P, 2) keypoints."""
    starts, ends = _limb_ends(skeleton.limbs, points.device)
    start, end = points.index_select(1, starts), points.index_select(1, ends)
    vector = end - start
    length = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    is_rendered = (labeled.index_select(1, starts) & labeled.index_select(1, ends))[..., None]
    is_rendered = is_rendered & (length > 0)
    unit = torch.where(is_rendered, vector / length, 0.0)
    reach = options.paf_half_width * options.stride
    low, high = torch.minimum(start, end) - reach, torch.maximum(start, end) + reach
    in_rows = (rows >= low[..., 1:]) & (rows <= high[..., 1:]) & is_rendered
    in_columns = (columns >= low[..., :1]) & (columns <= high[..., :1])
    # The distance from the limb's line is the sum of a term per row and a term per column; both
    # are infinite outside the limb's bounding box.
    down = torch.where(in_rows, (rows - start[..., 1:]) * unit[..., :1], math.inf)
    across = torch.where(in_columns, (start[..., :1] - columns) * unit[..., 1:], math.inf)
    distance = (down[..., None] + across[..., None, :]).abs_()  # (b, L, P, h, w)
    falloff = None
    if options.paf_sigma is not None:
        falloff = torch.exp(distance.square() / (-2 * options.paf_sigma**2))
    weight = distance.le_(reach)  # 1 on the limb, 0 elsewhere
    count = weight.sum(dim=2).clamp_(min=1)
    if falloff is not None:
        weight *= falloff
    along = [(weight * part[..., None, None]).sum(dim=2) / count for part in unit.unbind(-1)]
    return torch.stack(along, dim=2).flatten(1, 2)
