"""Bits of a transition by the bottleneck's own account: capacity and entropy of codes, divergence of a posterior."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lam.evals.base import Results
from lam.metrics.entropy import code_lengths, plugin_entropy, symbols
from lam.models.base import Observation, WorldModel


def sampled_error(observation: Observation, model: WorldModel) -> Tensor:
    """Error (B, T-1) with a z that is drawn, each clip's noise a function of its position."""
    z = model.apply_bottleneck(observation.latent, sample=True, noise_keys=observation.clip.position).z
    return model.error(model.predict(observation.states[:, :-1], z), observation.states[:, 1:])


def discrete_bits(positions: Tensor, codes: Tensor, bits: Tensor, fit: Tensor) -> Results:
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
