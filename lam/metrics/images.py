"""Similarity of two pictures: PSNR, SSIM and, where its network is installed, LPIPS; all by torchmetrics."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

PSNR_CEILING = 58.92
"""PSNR of a picture whose colors are rounded to 8 bits, 10 log10(12 * 255^2); equal pictures count as that, not as infinity."""

SSIM_WINDOW = 11
"""Width of the Gaussian window of SSIM in pixels, as in its paper (sigma 1.5); smaller pictures have none."""


def psnr(pictures: Tensor, truth: Tensor) -> Tensor:
    """Compute the peak signal-to-noise ratio in dB, (n,), of pictures (n, 3, h, w) in [0, 1]; at most ``PSNR_CEILING``."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    found = peak_signal_noise_ratio(pictures, truth, data_range=1.0, reduction="none", dim=(1, 2, 3))
    return found.clamp(max=PSNR_CEILING)


def ssim(pictures: Tensor, truth: Tensor) -> Tensor:
    """Compute the structural similarity, (n,), of pictures (n, 3, h, w) in [0, 1], whose border is reflected."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    found = structural_similarity_index_measure(pictures, truth, data_range=1.0, reduction="none")
    return torch.as_tensor(found)


def lpips(pictures: Tensor, truth: Tensor) -> Tensor:
    """Compute the learned distance by AlexNet, https://arxiv.org/abs/1801.03924, (n,), of pictures (n, 3, h, w) in [0, 1].

    Raises:
        ValueError: torchvision is not installed, or the weights are not on this machine and cannot be fetched.
    """
    from torchmetrics.functional.image.lpips import learned_perceptual_image_patch_similarity

    if importlib.util.find_spec("torchvision") is None:
        raise ValueError(
            "LPIPS needs torchvision, which is not installed. Install the release that fits torch, or lpips: false."
        )
    try:
        return learned_perceptual_image_patch_similarity(pictures, truth, net_type="alex", reduction="none", normalize=True)
    except OSError as error:  # urllib's errors are among them
        raise ValueError(
            f"LPIPS needs AlexNet's weights, which torchvision could not fetch ({error}). Put them where torch.hub looks "
            "(TORCH_HOME), or set lpips: false."
        ) from error
