"""E2, rate: bits a transition that the bottleneck lets through, by its own account.

Only what a family itself defines is here: the capacity of its codes, the entropy of the codes it used, the divergence of
its posterior. Families without a finite rate have no key.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from lam.evals.base import Evaluation, Observation, Results
from lam.evals.sample import ClipSample
from lam.evals.split import fit_half, source_ids
from lam.metrics.entropy import code_lengths, plugin_entropy, symbols


class Rate(Evaluation):
    """Capacity and nominal bits of a transition.

    Keys of discrete latents: ``bits_capacity``, log2 of the number of code tuples; ``bits_nominal``, plug-in entropy of
    the held-out tuples, which cannot exceed ``bits_limit``, log2 of the number of transitions; ``bits_coded``, mean length
    of the held-out tuples of one half of the sources in the best of three codes fitted on the other half (whole tuples,
    each code by itself, and log2 of the number of tuples); left out where all clips come from one source.

    Keys of Gaussian latents: ``bits_nominal``, the mean divergence from the prior; ``error_sampled``, the prediction error
    with z drawn from the posterior, which is what these bits pay for.
    """

    name: ClassVar[str] = "rate"

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Forgets what was observed."""
        self.sample = ClipSample()

    def observe(self, observation: Observation, module: Any) -> None:
        """Keeps bits and codes, or bits and the error with a drawn z."""
        limited, clip = observation.limited, observation.clip
        if limited.rate_bits is None:
            return
        values = {"bits": limited.rate_bits.double()}
        if limited.codes is None:
            values["error_sampled"] = _sampled_error(observation, module).double().mean(dim=1)
        else:
            values |= {"codes": limited.codes, "source": source_ids(clip.source)}
        self.sample.add(clip.position, values)

    def compute(self, module: Any) -> Results:
        """Bits over all clips."""
        positions, values = self.sample.gather()
        if not len(positions):
            return Results()
        if "codes" in values:
            return _discrete(positions, values["codes"], values["bits"], fit_half(values["source"]))
        clips = {"bits_nominal": values["bits"].mean(dim=1), "error_sampled": values["error_sampled"]}
        return Results(
            metrics={name: value.mean().item() for name, value in clips.items()},
            clips={name: (positions, value) for name, value in clips.items()},
        )


def _sampled_error(observation: Observation, module: Any) -> Tensor:
    """Error (B, T-1) with a z that is drawn, each clip's noise a function of its position."""
    with module.bottleneck.keyed(observation.clip.position):
        z = module.limit(observation.latent, sample=True).z
    return module.error(module.predict(observation.states[:, :-1], z), observation.states[:, 1:])


def _discrete(positions: Tensor, codes: Tensor, bits: Tensor, fit: Tensor) -> Results:
    """Bits of codes (n, T-1, C) of n clips, with bits (n, T-1) their capacity and fit (n,) the clips for fitting."""
    tuples = symbols(codes.flatten(0, 1)).view(codes.shape[:2])
    capacity = bits.mean().item()
    results = Results(
        metrics={
            "bits_capacity": capacity,
            "bits_nominal": plugin_entropy(tuples.flatten()),
            "bits_limit": math.log2(tuples.numel()),
        }
    )
    if fit.all():
        return results
    columns = [(tuples, capacity)] + [(column, capacity / codes.shape[2]) for column in codes.unbind(dim=2)]
    whole, *single = (_held_out(column, fit, alphabet) for column, alphabet in columns)
    coders = [whole, torch.stack(single).sum(dim=0), torch.full_like(whole, capacity)]
    best = min(coders, key=lambda lengths: lengths.mean().item())
    results.metrics["bits_coded"] = best.mean().item()
    results.clips["bits_coded"] = (positions[~fit], best)
    return results


def _held_out(symbols: Tensor, fit: Tensor, alphabet_bits: float) -> Tensor:
    """Mean code length of each clip that is not for fitting; symbols (n, T-1), fit (n,)."""
    lengths = code_lengths(symbols[fit].flatten(), symbols[~fit].flatten(), alphabet_bits)
    return lengths.view(-1, symbols.shape[1]).mean(dim=1)
