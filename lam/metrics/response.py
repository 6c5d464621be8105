"""How movements that were caused compare with those that were meant."""

from __future__ import annotations

import torch
from torch import Tensor


def slope(induced: Tensor, true: Tensor) -> float | None:
    """Regression through the origin of induced on true movements, each (n, 2), both axes as one; None where none is true."""
    squared = true.square().sum()
    return ((induced * true).sum() / squared).item() if squared > 0 else None


def direction_error(induced: Tensor, true: Tensor, threshold: float) -> float | None:
    """Mean angle in degrees between induced and true movements, each (n, 2), where the true one is this long; else None.

    A movement that was not induced at all has no direction and counts as 90, what chance gives.
    """
    long = true.norm(dim=1) >= threshold
    if not long.any():
        return None
    induced, true = induced[long].double(), true[long].double()
    lengths = induced.norm(dim=1) * true.norm(dim=1)
    cosine = (induced * true).sum(dim=1) / lengths.clamp(min=1e-6)
    return torch.rad2deg(cosine.clamp(-1, 1).acos()).mean().item()
