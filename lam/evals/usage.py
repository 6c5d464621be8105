"""E8, usage: does the latent vary, and how much of it is used?"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lam.evals.base import Evaluation, Results
from lam.metrics.dimensionality import active_dimensions, effective_rank, participation_ratio
from lam.metrics.entropy import perplexity, symbols
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import ClipSample
from lam.runs.columns import Column, Flag

SMALLEST_SPREAD = 0.01
"""Standard deviation of a coordinate, as a share of z's root mean square, below which it counts as constant."""


class Usage(Evaluation):
    """Measure how z varies, its L tokens joined to one vector a transition.

    Keys: ``active_dimensions``, coordinates whose standard deviation exceeds a share of that of z, which is sampled from its
    posterior where there is one, so that neither a small scale, nor a large constant part, nor a posterior of noise misleads,
    and 1 % of z's root mean square; ``effective_rank`` and
    ``participation_ratio``; ``norm`` and ``std``, means over transitions and coordinates; ``collapsed``, 1 where z says
    nothing (no active dimension; for discrete latents a perplexity below 1.1). Discrete latents also: ``perplexity`` of
    whole code tuples; ``perplexity_code``, mean over the codes of a tuple; ``codes_used``, how many different tuples occurred,
    as a share of those that could, 2^(bits of capacity) or as many as there are transitions, whichever is less; and
    ``codebook_used``, the share of each codebook that occurred, mean over the codes of a tuple, a codebook being
    2^(bits of capacity / codes) large. Curves: ``std`` of each coordinate, largest first; of Gaussian latents
    ``kl_per_dimension``, the mean divergence of each coordinate from the prior in bits, largest first.

    Args:
        max_clips: Clips the numbers come from, at most.
        threshold: The share above which a coordinate is active; 0.1, of a Gaussian with prior N(0, 1) a variance of 0.01, as
            in https://arxiv.org/abs/1509.00519.
    """

    name: ClassVar[str] = "usage"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "codes_used",
            "codes used",
            digits=2,
            explanation="how many code tuples occurred on held-out clips, of all there are or as many as there are transitions",
            order=510,
        ),
    )
    flags: ClassVar[tuple[Flag, ...]] = (
        Flag("collapsed", "collapsed", explanation="the latent says nothing, as for `none` by construction", order=300),
    )

    def __init__(self, max_clips: int = 8192, threshold: float = 0.1) -> None:
        super().__init__()
        self.max_clips = max_clips
        self.threshold = threshold
        self.reset()

    @override
    def reset(self) -> None:
        self.sample = ClipSample(self.max_clips)

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        output = observation.bottleneck_output
        values = {"z": output.z.float().flatten(2), "square": observation.z_drawn.double().square().mean(dim=(1, 2, 3))}
        if output.codes is not None and output.rate_bits is not None:
            values |= {"codes": output.codes, "bits": output.rate_bits.double()}
        if output.rate_bits_each is not None:
            values["kl"] = output.rate_bits_each.flatten(2).mean(dim=1)
        self.sample.add(observation.clip.position, values)

    @override
    def compute(self, model: WorldModel) -> Results:
        positions, values = self.sample.gather()
        if not len(positions):
            return Results()
        z = values["z"].flatten(0, 1)
        std = z.double().std(dim=0, correction=0)
        mean = z.double().mean(dim=0).square().mean()
        square = values["square"].mean()
        spread = (square - mean).clamp_min(0).sqrt().item()
        threshold = max(self.threshold * spread, SMALLEST_SPREAD * square.sqrt().item())
        metrics: dict[str, float] = {
            "active_dimensions": active_dimensions(z, threshold),
            "effective_rank": effective_rank(z),
            "participation_ratio": participation_ratio(z),
            "norm": z.norm(dim=1).mean().item(),
            "std": std.mean().item(),
        }
        collapsed = metrics["active_dimensions"] == 0
        if "codes" in values:
            metrics |= _codes(values["codes"].flatten(0, 1), values["bits"].mean().item())
            collapsed = metrics["perplexity"] < 1.1
        metrics["collapsed"] = float(collapsed)
        curves = {"std": std.sort(descending=True).values.tolist()}
        if "kl" in values:
            curves["kl_per_dimension"] = values["kl"].double().mean(dim=0).sort(descending=True).values.tolist()
        return Results(metrics=metrics, curves=curves)


def _codes(codes: Tensor, bits: float) -> dict[str, float]:
    """Measure the usage of codes (n, C), tuples of which have a capacity of so many bits."""
    columns = codes.unbind(dim=1)
    tuples, num_codes = symbols(codes), round(2 ** (bits / len(columns)))
    possible = min(2**bits, len(codes))
    return {
        "perplexity": perplexity(tuples),
        "perplexity_code": sum(perplexity(column) for column in columns) / len(columns),
        "codes_used": len(torch.unique(tuples)) / possible,
        "codebook_used": sum(len(torch.unique(column)) for column in columns) / (len(columns) * num_codes),
    }
