"""Color jitter and blur agree with numpy and OpenCV."""

import cv2
import numpy as np
import pytest
import torch

from bodyposenet.training.color_jitter import BLUR_RADIUS, color_jitter

IDENTITY = torch.eye(3, 4)


@pytest.fixture
def images():
    random = np.random.default_rng(5)
    coarse = random.integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)
    pictures = np.stack([cv2.resize(image, (48, 40)) for image in coarse])
    return torch.from_numpy(pictures)


def test_identity_and_zero_blur_change_nothing(images):
    color, blur = IDENTITY.repeat(4, 1, 1), torch.zeros(4)
    assert torch.equal(color_jitter(images, color), images)
    assert torch.equal(color_jitter(images, color, blur), images)


def test_every_image_has_its_own_matrix_and_is_rounded_and_clamped_once(images):
    random = np.random.default_rng(6)
    color = (random.normal(size=(4, 3, 4)) * [0.7, 0.7, 0.7, 60]).astype(np.float32)
    jittered = color_jitter(images, torch.from_numpy(color))
    assert jittered.dtype == torch.uint8
    assert jittered.is_contiguous()
    for image, matrix, result in zip(images.numpy(), color, jittered.numpy(), strict=True):
        exact = image @ matrix[:, :3].T + matrix[:, 3]
        assert np.abs(result - exact.clip(0, 255)).max() <= 0.5 + 1e-3
    assert (jittered == 0).any()
    assert (jittered == 255).any()


def test_every_image_has_its_own_gaussian(images):
    sigmas = [0.0, 0.5, 1.7, 4.0]
    jittered = color_jitter(images, IDENTITY.repeat(4, 1, 1), torch.tensor(sigmas))
    assert torch.equal(jittered[0], images[0])
    side = 2 * BLUR_RADIUS + 1
    for image, sigma, result in zip(images[1:].numpy(), sigmas[1:], jittered[1:], strict=True):
        expected = cv2.GaussianBlur(
            image.astype(np.float32), (side, side), sigma, borderType=cv2.BORDER_REPLICATE
        )
        assert np.abs(result.numpy() - expected).max() <= 0.51


def test_colors_are_clamped_after_the_blur():
    images = torch.zeros(1, 3, 40, 3, dtype=torch.uint8)
    images[:, :, 20:] = 255
    brighter = torch.cat([2 * torch.eye(3), torch.full((3, 1), -128.0)], dim=1)[None]
    jittered = color_jitter(images, brighter, torch.tensor([2.0]))
    assert jittered[0, 0, 0, 0] == 0
    assert jittered[0, 0, -1, 0] == 255
    assert 0 < jittered[0, 0, 19, 0] < jittered[0, 0, 20, 0] < 255


def test_it_does_not_synchronize_with_the_device():
    # Tensors on the device `meta` have no values: reading one fails.
    images = torch.empty(2, 64, 48, 3, dtype=torch.uint8, device="meta")
    color, blur = torch.empty(2, 3, 4, device="meta"), torch.empty(2, device="meta")
    assert color_jitter(images, color, blur).shape == images.shape
