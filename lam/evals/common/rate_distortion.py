"""Rates of E2: by the bottleneck's own account, and measured, with how well the forward model predicts from coded latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lam.distributed import gather
from lam.evals.base import Results
from lam.metrics.entropy import code_lengths, plugin_entropy, symbols
from lam.metrics.quantization import fit_codebooks, fit_transform, quantize_scalars
from lam.models.base import WorldModel
from lam.models.clip_buffer import BufferedClips

NUM_PROJECTIONS = 4
"""Random projections of a clip's predictions whose gradients give the sensitivity."""

MAX_STEPS = 30
"""Steps of the scalar quantizer at most."""


@dataclass(frozen=True)
class CoderGrid:
    """How many points are measured of one latent.

    Attributes:
        step_ratio: Ratio of a step of the scalar quantizer to the next.
        negligible: Rise of the error, as a share of what z closes, at which no finer step is tried.
        bit_prices: Prices of a bit in the vector quantizer, as shares of the variance.
    """

    step_ratio: float
    negligible: float
    bit_prices: tuple[float, ...]


FINE = CoderGrid(2 ** (1 / 3), 1e-3, tuple(2.0**-i for i in range(9, -2, -1)))
"""A third of a bit a component. The chord between two points is then no more than 0.02 bit a component above the curve through
them."""

COARSE = CoderGrid(2.0, 0.03, tuple(2.0**-i for i in (8, 5, 2, -1)))
"""A bit a component, for one of several lengths that a latent is cut to: finely coded, a longer one is better."""

MAX_CODES = 1024
"""Codes of the vector quantizer at most; a quarter of the transitions that it is fitted on, where they are few."""


@dataclass
class RatePoint:
    """Bits and error of one way of coding z.

    Attributes:
        coder: ``mean``, ``scalar``, ``vector`` or ``code``.
        bits: Mean bits a transition of each test clip, (n,).
        error: Mean prediction error of each test clip with z as decoded, (n,).
    """

    coder: str
    bits: Tensor
    error: Tensor


class ClipPredictor:
    """Predict clips of the clip buffer with other latents than their own, or differentiate predictions by their latents.

    Args:
        model: The model.
        clips: Clips, the same on every process; each process predicts a part.
        batch: Clips at a time.
        autocast: Makes the context of the run's precision.
    """

    def __init__(
        self, model: WorldModel, clips: BufferedClips, batch: int, autocast: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self.model = model
        self.clips = clips
        self.batch = batch
        self.autocast = autocast

    def error(self, z: Tensor) -> Tensor:
        """Compute the mean error of each clip, (n,), with latents (n (T-1), L A) and the true states before each."""
        z = z.view_as(self.clips.z).to(self.clips.z.dtype)
        found = [torch.empty(0, dtype=torch.float64)]
        with self.autocast():
            for indices in self.clips.local_indices(self.batch):
                states, given = (x[indices].to(self.model.device) for x in (self.clips.states, z))
                error = self.model.error(self.model.predict(states[:, :-1], given), states[:, 1:])
                found.append(error.double().mean(dim=1).cpu())
        return self._gather(found)

    def gradients(self) -> Tensor:
        """Compute gradients (m, L A) of random projections of a clip's predictions, one for each of its transitions."""
        found = [torch.empty(0, self.clips.z.shape[1], NUM_PROJECTIONS, self.clips.z[0, 0].numel())]
        # validation runs in inference mode, whose tensors have no gradients: hence the clones
        with torch.inference_mode(False), torch.enable_grad(), self.autocast():
            for indices in self.clips.local_indices(self.batch):
                states, z = (x[indices].clone().to(self.model.device) for x in (self.clips.states, self.clips.z))
                predicted = self.model.predict(states[:, :-1], z.requires_grad_())
                noise = [_projections(seed, predicted.shape[1:]) for seed in self.clips.position[indices].tolist()]
                projections = torch.stack(noise, dim=1).to(predicted)
                rows = [torch.autograd.grad(predicted, z, projection, retain_graph=True)[0] for projection in projections]
                found.append(torch.stack(rows, dim=2).flatten(3).float().cpu())
        return self._gather(found).flatten(0, 2)

    def _gather(self, found: list[Tensor]) -> Tensor:
        """Gather values (n, ...) of all clips from those of each process, in the order of the clips."""
        return gather(torch.cat([*self.clips.local_indices(self.batch)] or [torch.arange(0)]), torch.cat(found))[1]


def _projections(seed: int, shape: torch.Size) -> Tensor:
    """Draw standard normal noise (NUM_PROJECTIONS, *shape) that belongs to a clip."""
    return torch.randn(NUM_PROJECTIONS, *shape, generator=torch.Generator().manual_seed(seed))


def rate_error_points(
    predictor: ClipPredictor, fit: Tensor, gradients: Tensor, unquantized: Tensor, grid: CoderGrid = FINE
) -> Iterator[RatePoint]:
    """Measure rate-error points of coders fitted on the latents of other sources.

    z replaced by its mean; then a scalar quantizer from coarse to fine, until the loss is negligible; then a vector
    quantizer from fine to coarse. Those that decode z as the point before are left out.

    Args:
        predictor: Clips that are coded.
        fit: Latents that coders are fitted on, (n, L A).
        gradients: Gradients of predictions, (m, L A), for the sensitivity.
        unquantized: Error of each coded clip with z as it is, (n,).
        grid: How many points.
    """
    transform = fit_transform(fit, gradients)
    known, new = transform.components(fit), transform.components(predictor.clips.z.flatten(2).flatten(0, 1))
    variance = known.square().sum(dim=1).mean()
    decoded = torch.zeros_like(new)

    def differs(components: Tensor) -> bool:
        """Tell whether something is decoded otherwise than at the last point."""
        nonlocal decoded
        loss = (components - new).square().sum(dim=1).mean()
        change = (loss - (decoded - new).square().sum(dim=1).mean()).abs()
        if change <= 0.02 * loss + 1e-6 * variance:
            return False
        decoded = components
        return True

    def point(coder: str, bits: Tensor, z: Tensor) -> RatePoint:
        return RatePoint(coder, bits.double().view(len(unquantized), -1).mean(dim=1), predictor.error(z))

    mean = point("mean", new.new_zeros(len(new)), transform.mean.expand(len(new), -1))
    yield mean
    if not known.shape[1]:
        return
    acceptable = unquantized.mean() + grid.negligible * (mean.error - unquantized).mean()
    widest = 4 * known.std(dim=0).max().item()
    for i in range(MAX_STEPS):
        bits, components = quantize_scalars(known, new, widest / grid.step_ratio**i)
        if differs(components):
            scalar = point("scalar", bits, transform.latents(components))
            yield scalar
            if scalar.error.mean() <= acceptable:
                break
    books = fit_codebooks(
        known.float(), [w * variance.item() for w in grid.bit_prices], max(1, min(MAX_CODES, len(known) // 4))
    )
    for book in books:
        codes = book.assign(new.float())
        if differs(book.codes[codes].double()):
            # means of latents, not latents of means: a discrete latent is restored exactly
            yield point("vector", book.lengths[codes], book.centers(fit.double())[codes])


def discrete_bits(positions: Tensor, codes: Tensor, bits: Tensor, fit: Tensor) -> Results:
    """Measure bits of codes (n, T-1, C) of n clips, with bits (n, T-1) their capacity and fit (n,) the clips for fitting."""
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
    """Compute the mean code length of each clip that is not for fitting; symbols (n, T-1), fit (n,)."""
    lengths = code_lengths(symbols[fit].flatten(), symbols[~fit].flatten(), alphabet_bits)
    return lengths.view(-1, symbols.shape[1]).mean(dim=1)
