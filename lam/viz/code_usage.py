"""Code usage: how often each code occurs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lam.metrics.entropy import perplexity, symbols
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import ClipSample
from lam.viz.base import Visualization
from lam.viz.canvas import axes, figure_png


class CodeUsageVisualization(Visualization):
    """Draw the share of all transitions that each code takes, most frequent first; of discrete latents only.

    A code is a whole tuple where several codes make a latent.

    Args:
        max_clips: Clips the shares come from, at most.
    """

    name: ClassVar[str] = "boards/code_usage"

    def __init__(self, max_clips: int = 8192) -> None:
        super().__init__()
        self.max_clips = max_clips
        self.reset()

    @override
    def reset(self) -> None:
        self.sample = ClipSample(self.max_clips)

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        output = observation.bottleneck_output
        if output.codes is not None and output.rate_bits is not None:
            self.sample.add(observation.clip.position, {"codes": output.codes, "bits": output.rate_bits.double()})

    @override
    def draw(self, model: WorldModel) -> bytes | None:
        _, values = self.sample.gather()
        if not values:
            return None
        codes = values["codes"].flatten(0, 1)
        share = code_shares(codes)
        bits = values["bits"].mean().item()
        effective = perplexity(symbols(codes))
        title = f"{len(share)} of {format_count(bits)} codes occur in {len(codes)} transitions; perplexity {effective:.1f}"
        plot = axes(title, "codes that occur, most frequent first", "% of transitions")
        plot.stairs(100 * share, np.arange(len(share) + 1) + 0.5, fill=True)
        plot.axhline(100 / len(share), color="black", linestyle="--", linewidth=1, label="all that occur equally often")
        plot.set_xlim(0.5, len(share) + 0.5)
        plot.legend(frameon=False)
        return figure_png(plot.figure)


def code_shares(codes: Tensor) -> np.ndarray:
    """Compute the share of each distinct code tuple, (k,), largest first, of codes (n, C)."""
    counts = torch.unique(codes, dim=0, return_counts=True)[1]
    found: np.ndarray = (counts.sort(descending=True).values.double() / len(codes)).numpy()
    return found


def format_count(bits: float) -> str:
    """Format the number of codes that so many bits can distinguish."""
    return str(round(2**bits)) if bits < 20 else f"2^{bits:.0f}"
