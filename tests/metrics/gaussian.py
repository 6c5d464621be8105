"""What a Gaussian must cost: its rate-distortion function, by reverse water-filling."""

from __future__ import annotations

from torch import Tensor


def gaussian_rate(variances: Tensor, distortion: float) -> float:
    """Bits of a Gaussian of independent components with variances (r,) at a sum of squared errors."""
    low, high = 0.0, variances.max().item()
    for _ in range(100):
        level = (low + high) / 2
        low, high = (level, high) if variances.clamp(max=level).sum() < distortion else (low, level)
    return 0.5 * (variances / variances.clamp(max=level)).log2().sum().item()
