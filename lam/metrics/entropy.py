"""Entropy and code length of discrete latents, in bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def symbols(codes: Tensor) -> Tensor:
    """One integer for each distinct code tuple, (n,) int64, of codes (n, C)."""
    return torch.unique(codes, dim=0, return_inverse=True)[1]


def plugin_entropy(symbols: Tensor) -> float:
    """Entropy of the empirical distribution of symbols (n,), in bits.

    It underestimates: n observations cannot show more than log2(n) bits.
    """
    counts = torch.unique(symbols, return_counts=True)[1].double()
    p = counts / counts.sum()
    return -(p * p.log2()).sum().item()


def code_lengths(fit: Tensor, test: Tensor, alphabet_bits: float) -> Tensor:
    """Bits that an adaptive code, fitted on symbols (n,), spends on each of the symbols (m,).

    The code is of escape method C (Moffat, IEEE Transactions on Communications 38, 1990): with d distinct symbols among n,
    a symbol seen c times has probability c / (n + d), and d / (n + d) is spread evenly over the whole alphabet. It is a
    proper code whatever the size of the alphabet, so its mean length is never below the true entropy, unlike the plug-in.

    Args:
        fit: Symbols the code is fitted on, (n,).
        test: Symbols that are coded, (m,).
        alphabet_bits: log2 of the number of symbols there are.
    """
    seen, counts = torch.unique(fit, return_counts=True)
    place = torch.searchsorted(seen, test).clamp(max=len(seen) - 1)
    count = torch.where(seen[place] == test, counts[place], 0).double()
    escape = len(seen) * 2.0**-alphabet_bits
    return math.log2(len(fit) + len(seen)) - (count + escape).log2()


def perplexity(symbols: Tensor) -> float:
    """Number of equally frequent symbols that would have the entropy of symbols (n,)."""
    return 2.0 ** plugin_entropy(symbols)
