"""Random numbers of a clip: a function of (seed, split, clip), a stream for each factor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FACTORS = ("agents", "commands", "camera", "pose", "ball", "entrance", "blocks", "texture", "flicker", "distractors")


@dataclass(frozen=True)
class RandomStreams:
    """Random streams of a clip, one a factor, so that one parameter does not change the draws of another factor.

    Args:
        seed: Seed of the world, 0 to 2^32 - 1.
        split: Number of the split.
        clip: Number of the clip in its split.
    """

    seed: int
    split: int
    clip: int

    def of(self, factor: str, number: int = 0) -> np.random.Generator:
        """Return the generator of a factor, or of one of several things of its kind."""
        words = np.array([self.seed, self.split, self.clip, _FACTORS.index(factor), number], dtype=np.uint32)
        return np.random.default_rng(words)
