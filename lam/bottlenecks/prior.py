"""Draws for priors: made where the generator lives, moved to where the bottleneck lives."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def draw_normal(shape: tuple[int, ...], device: torch.device, generator: Generator | None) -> Tensor:
    """Standard normal numbers of a shape."""
    source = device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=source).to(device)


def draw_from(options: Tensor, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
    """Entries of a vector of options, each as likely as the others, in a shape."""
    source = options.device if generator is None else generator.device
    index = torch.randint(len(options), shape, generator=generator, device=source)
    return options[index.to(options.device)]
