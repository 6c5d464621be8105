"""Numbers out of a hash: what is random in the order of data (SplitMix64's finalizer, Steele, Lea and Flood, OOPSLA 2014)."""

from __future__ import annotations

import functools

import numpy as np

SHARDS, SAMPLES, STARTS, REPLACEMENTS, SETS, SEEDS = range(6)
"""What a stream of hashes is used for."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio


def hashes(seed: int, use: int, number: int, x: np.ndarray) -> np.ndarray:
    """64-bit hashes of (seed, use, number, x), one for each of the integers x."""
    return _absorb(_key(seed, use, number), x)


def uniform(seed: int, use: int, number: int, x: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) instead, float64."""
    return (hashes(seed, use, number, x) >> np.uint64(11)) * 2.0**-53


def permutation(seed: int, use: int, number: int, x: np.ndarray) -> np.ndarray:
    """The integers x in an order of their own for each (seed, use, number)."""
    return x[np.argsort(hashes(seed, use, number, x), kind="stable")]


@functools.lru_cache(64)
def _key(seed: int, use: int, number: int) -> np.ndarray:
    """What hashes of (seed, use, number) have in common, (1,) uint64."""
    key = np.array([seed % 2**64], dtype=np.uint64)
    return _absorb(_absorb(key, np.array([use])), np.array([number]))


def _absorb(key: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The key with another integer in it; arrays, for which wrapping around is no overflow to NumPy."""
    return _mix(key + (part.astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
