"""People in, target maps out: what the network has to learn, drawn in batch on any device.

A cell's centre lies at stride x i + (stride - 1) / 2 network pixels, for heatmaps and PAFs alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.dataloader import LabelProcessorConfig
from bodyposenet.specs.network import STRIDE

_SMALLEST_HEAT = 0.001


@dataclass(frozen=True)
class TargetOptions:
    """How targets are drawn (reference 6).

    Args:
        stride: Network pixels per cell.
        heatmap_sigma: Standard deviation of a joint's peak, in network pixels.
        paf_half_width: Half width of a limb's strip, in cells.
        paf_sigma: Standard deviation of the PAF's falloff across the limb, in network pixels;
            None draws the original's hard strip of unit vectors.
    """

    stride: int = STRIDE
    heatmap_sigma: float = 7.0
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
    labelled: Tensor,
    skeleton: Skeleton,
    height: int,
    width: int,
    options: TargetOptions = TargetOptions(),
) -> tuple[Tensor, Tensor]:
    """Draw heatmaps and part affinity fields (reference 6, with the fixes of its section 16).

    A joint's heat is exp(-d^2 / (2 sigma^2)), the highest of all people; the background is 1 minus
    the highest heat. A limb's field is the unit vector from its first to its second joint on the
    cells whose centres lie within the half width of the limb, averaged where people overlap.

    Args:
        keypoints: (B, P, K, 2) float, x and y in network pixels.
        labelled: (B, P, K) bool, which of them to draw; False for people who fill up a batch.
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
    heat = _heatmaps(keypoints, labelled, rows, columns, options.heatmap_sigma)
    return heat, _pafs(keypoints, labelled, skeleton, rows, columns, options)


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
    limbs = torch.tensor(skeleton.limbs, device=known.device)
    paf = (known[:, limbs[:, 0]] & known[:, limbs[:, 1]]).repeat_interleave(2, dim=1)
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


def _heatmaps(
    keypoints: Tensor, labelled: Tensor, rows: Tensor, columns: Tensor, sigma: float
) -> Tensor:
    batch, people, joints = labelled.shape
    heat = torch.zeros(batch, joints, len(rows), len(columns), device=keypoints.device)
    for person in range(people):
        x, y = keypoints[:, person, :, :1], keypoints[:, person, :, 1:]
        across = torch.exp(-((columns - x) ** 2) / (2 * sigma**2)) * labelled[:, person, :, None]
        down = torch.exp(-((rows - y) ** 2) / (2 * sigma**2))
        heat = torch.maximum(heat, down[..., None] * across[..., None, :])
    heat = torch.where(heat < _SMALLEST_HEAT, 0.0, heat)
    background = 1 - heat.amax(dim=1, keepdim=True)
    return torch.cat([heat, background.clamp(0, 1)], dim=1)


def _pafs(
    keypoints: Tensor,
    labelled: Tensor,
    skeleton: Skeleton,
    rows: Tensor,
    columns: Tensor,
    options: TargetOptions,
) -> Tensor:
    batch, people, _ = labelled.shape
    limbs = torch.tensor(skeleton.limbs, device=keypoints.device)
    reach = options.paf_half_width * options.stride
    shape = (batch, len(limbs), len(rows), len(columns))
    total = torch.zeros(batch, len(limbs), 2, *shape[2:], device=keypoints.device)
    count = torch.zeros(shape, device=keypoints.device)
    for person in range(people):
        start = keypoints[:, person, limbs[:, 0]]
        end = keypoints[:, person, limbs[:, 1]]
        vector = end - start
        length = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
        drawn = labelled[:, person, limbs[:, 0]] & labelled[:, person, limbs[:, 1]]
        unit = vector / length.clamp(min=1e-6)
        low, high = torch.minimum(start, end) - reach, torch.maximum(start, end) + reach
        in_columns = (columns >= low[..., :1]) & (columns <= high[..., :1])
        in_rows = (rows >= low[..., 1:]) & (rows <= high[..., 1:])
        from_x, from_y = columns - start[..., :1], rows - start[..., 1:]
        distance = (
            from_y[..., None] * unit[..., :1, None] - from_x[..., None, :] * unit[..., 1:, None]
        )
        inside = (distance.abs() <= reach) & in_rows[..., None] & in_columns[..., None, :]
        inside &= (drawn & (length[..., 0] > 0))[..., None, None]
        weight = inside.float()
        count += weight
        if options.paf_sigma is not None:
            weight = weight * torch.exp(-(distance**2) / (2 * options.paf_sigma**2))
        total += weight[:, :, None] * unit[..., None, None]
    pafs = total / count.clamp(min=1)[:, :, None]
    return pafs.flatten(1, 2)
