"""Published numbers of the same protocols: "Learning Latent Action World Models In The Wild", https://arxiv.org/abs/2601.05230.

Tables 1 and 2. Their errors are LPIPS of decoded frames on Kinetics (and RECON), ours are distances between states on our
clips: absolute errors do not compare at all, ratios only in kind. They report no seeds and no intervals, and do not say which
coefficients their low and high capacity are.
"""

from __future__ import annotations

from typing import NamedTuple

SOURCE = "arXiv 2601.05230, tables 1 and 2"
NOTE = (
    f"Published: {SOURCE}, low and high capacity of a family beside the tight and loose end of ours. Their errors are LPIPS of "
    "decoded frames on Kinetics, one model each and no intervals; ours are distances between states on other clips. Compare "
    "the direction from low to high, not the numbers."
)


class Published(NamedTuple):
    """A family at one capacity.

    Attributes:
        family: Our name of it: theirs are sparse, noisy and discrete.
        capacity: "low" or "high".
        uncut: Error without a scene cut, Kinetics (table 1).
        cut: Error with one.
        leakage_ratio: As printed, from numbers before rounding.
        original: Error of two seconds with their own latents, Kinetics (table 2).
        cycle: After the cycle through another video.
        transfer_ratio: As printed.
        transfer_ratio_recon: As printed, RECON.
    """

    family: str
    capacity: str
    uncut: float
    cut: float
    leakage_ratio: float
    original: float
    cycle: float
    transfer_ratio: float
    transfer_ratio_recon: float


PUBLISHED = (
    Published("sparse", "low", 0.28, 0.66, 2.3, 0.26, 0.31, 1.20, 1.21),
    Published("sparse", "high", 0.20, 0.50, 2.4, 0.19, 0.24, 1.30, 1.14),
    Published("noisy", "low", 0.33, 0.69, 2.1, 0.30, 0.34, 1.13, 1.15),
    Published("noisy", "high", 0.21, 0.54, 2.5, 0.20, 0.26, 1.34, 1.22),
    Published("vq", "low", 0.34, 0.69, 2.0, 0.32, 0.33, 1.03, 1.03),
    Published("vq", "high", 0.29, 0.68, 2.3, 0.27, 0.29, 1.07, 1.05),
)


def published_at_end(family: str, tight: bool) -> Published | None:
    """What is published of a family's low (tight) or high capacity; None where nothing is."""
    capacity = "low" if tight else "high"
    return next((one for one in PUBLISHED if (one.family, one.capacity) == (family, capacity)), None)
