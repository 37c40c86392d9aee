"""Images, a color matrix and a blur for each of them in; recolored images out, on any device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

BLUR_RADIUS = 12
"""Pixels over which the blur reaches: 3 sigma up to a sigma of 4; a larger one is cut off nearer,
and blurs less than it says (a sigma of 8 as one of about 6)."""

_SMALLEST_SIGMA = 1e-3


def color_jitter(images: Tensor, color: Tensor, blur: Tensor | None = None) -> Tensor:
    """Change the colors of images, each by its own matrix, and blur them, each by its own Gaussian.

    Brightness, contrast, saturation, hue and gray are all such matrices, and so is any chain of
    them. All is calculated in float32 (call it outside of autocast) and rounded once, and nothing
    waits for the device.

    Args:
        images: (B, H, W, 3) uint8, RGB.
        color: (B, 3, 4) float32, on the same device: RGB in 0..255 -> 3x3 matrix and offset.
        blur: (B,) float32, on the same device: sigma in pixels, 0 for none; see `BLUR_RADIUS`.
            None: no image is blurred, and no time is spent on it.

    Returns:
        (B, H, W, 3) uint8, rounded and clamped to 0..255.
    """
    # Channel by channel: a matrix product could be rounded to the device's fast formats.
    pixels = images.permute(0, 3, 1, 2).float()
    weights = color[:, :, :, None, None].unbind(dim=2)
    result = torch.addcmul(weights[3], pixels[:, 0:1], weights[0])
    result = result.addcmul_(pixels[:, 1:2], weights[1]).addcmul_(pixels[:, 2:3], weights[2])
    if blur is not None:
        result = _blur(result, blur)
    return result.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def _blur(pixels: Tensor, sigma: Tensor) -> Tensor:
    """(B, 3, H, W) and (B,) in, (B, 3, H, W) out; beyond the border the edge goes on.

    All channels of all images are channels of one depthwise convolution, down and then across.
    """
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=pixels.device)
    sigma = sigma.clamp(min=_SMALLEST_SIGMA)[:, None]  # so small that only the middle is left
    kernels = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)
    planes = pixels.flatten(0, 1)[None]
    edges = (BLUR_RADIUS,) * 4
    padded = functional.pad(planes, edges, mode="replicate")
    down = functional.conv2d(padded, kernels[:, None, :, None], groups=len(kernels))
    blurred = functional.conv2d(down, kernels[:, None, None, :], groups=len(kernels))
    return blurred.reshape(pixels.shape)
