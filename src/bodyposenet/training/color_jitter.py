"""Color jitter and Gaussian blur of a batch, on the training device.

Their parameters are sampled by `data.augmentation`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

BLUR_RADIUS = 12
"""Radius of the blur kernel in pixels: 3 sigma up to a sigma of 4. The kernel of a larger sigma is
truncated and blurs less: a sigma of 8 has the effect of about 6."""

_MIN_SIGMA = 1e-3
"""Sigma whose kernel is 1 in the center and 0 elsewhere."""


def color_jitter(images: Tensor, color: Tensor, blur: Tensor | None = None) -> Tensor:
    """Apply a color matrix and a Gaussian blur to each image.

    Brightness, contrast, saturation, hue, grayscale and any chain of them are such a matrix. The
    computation is in float32 (call it outside of autocast), rounds once at the end, and does not
    synchronize with the device.

    Args:
        images: (B, H, W, 3) uint8, RGB.
        color: (B, 3, 4) float32, on the same device: 3x3 matrix and offset for RGB in 0..255.
        blur: (B,) float32, on the same device: sigma in pixels, 0 for no blur, see `BLUR_RADIUS`.
            None skips the blur.

    Returns:
        (B, H, W, 3) uint8, rounded and clamped to 0..255.
    """
    # Channel by channel, as a matrix product may be rounded to TF32 or bfloat16.
    pixels = images.permute(0, 3, 1, 2).float()
    weights = color[:, :, :, None, None].unbind(dim=2)
    result = torch.addcmul(weights[3], pixels[:, 0:1], weights[0])
    result = result.addcmul_(pixels[:, 1:2], weights[1]).addcmul_(pixels[:, 2:3], weights[2])
    if blur is not None:
        result = _blur(result, blur)
    return result.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).contiguous()


def _blur(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Blur (B, 3, H, W) pixels with (B,) sigmas; the border is replicated.

    A separable convolution: all channels of all images are the groups of one depthwise convolution,
    applied vertically and then horizontally.
    """
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=pixels.device)
    sigma = sigma.clamp(min=_MIN_SIGMA)[:, None]
    kernels = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)
    planes = pixels.flatten(0, 1)[None]
    padding = (BLUR_RADIUS,) * 4
    padded = functional.pad(planes, padding, mode="replicate")
    vertical = functional.conv2d(padded, kernels[:, None, :, None], groups=len(kernels))
    blurred = functional.conv2d(vertical, kernels[:, None, None, :], groups=len(kernels))
    return blurred.reshape(pixels.shape)
