"""Entropy and code length of discrete latents, in bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def symbols(codes: Tensor) -> Tensor:
    """Number the distinct code tuples of codes (n, C); return the number of each row, (n,) int64."""
    numbers: Tensor = torch.unique(codes, dim=0, return_inverse=True)[1]
    return numbers


def plugin_entropy(symbols: Tensor) -> float:
    """Compute the entropy of the empirical distribution of symbols (n,), in bits.

    It underestimates: n observations cannot show more than log2(n) bits.
    """
    counts: Tensor = torch.unique(symbols, return_counts=True)[1].double()
    p = counts / counts.sum()
    return -(p * p.log2()).sum().item()


def code_lengths(fit: Tensor, test: Tensor, alphabet_bits: float | Tensor) -> Tensor:
    """Compute the bits that an adaptive code, fitted on symbols (n,), spends on each of the symbols (m,).

    The code is of escape method C (Moffat, IEEE Transactions on Communications 38, 1990): with d distinct symbols among n,
    a symbol seen c times has probability c / (n + d), and d / (n + d) is spread over the whole alphabet, evenly or as a
    second code says. It is a proper code whatever the size of the alphabet, so its mean length is never below the true
    entropy, unlike the plug-in.

    Args:
        fit: Symbols the code is fitted on, (n,).
        test: Symbols that are coded, (m,).
        alphabet_bits: log2 of the number of symbols there are; or, where they are not equally likely beforehand, the length
            of each of the coded symbols in a code of all symbols, (m,).
    """
    seen, counts = torch.unique(fit, return_counts=True)
    index = torch.searchsorted(seen, test).clamp(max=len(seen) - 1)
    count = torch.where(seen[index] == test, counts[index], 0).double()
    escape = len(seen) * 2.0 ** -torch.as_tensor(alphabet_bits)
    return math.log2(len(fit) + len(seen)) - (count + escape).log2()


def discrete_laplace_lengths(fit: Tensor, test: Tensor) -> Tensor:
    """Compute the bits that a code for all integers, fitted on integers (n,), spends on each of the integers (m,).

    Its probabilities fall as p^|x| to both sides of 0 (Inusah and Kozubowski, 2006), with the mean magnitude of ``fit`` and of
    one 1 besides, so that no integer is impossible.
    """
    magnitude = (fit.abs().double().sum() + 1) / (len(fit) + 1)
    p = ((1 + magnitude.square()).sqrt() - 1) / magnitude
    lengths: Tensor = ((1 + p) / (1 - p)).log2() - test.abs() * p.log2()
    return lengths


def perplexity(symbols: Tensor) -> float:
    """Compute how many equally frequent symbols would have the entropy of symbols (n,)."""
    number: float = 2.0 ** plugin_entropy(symbols)
    return number
