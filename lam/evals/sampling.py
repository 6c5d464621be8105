"""E12, sampling: is the prior usable, that is, can its samples be told from inferred latents?"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator, Tensor
from typing_extensions import override

from lam.evals.base import Evaluation, Results
from lam.evals.common.split import few_sources, fit_half
from lam.metrics.scores import cross_fitted_placements, held_out_placements
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import ClipSample, hashed_order, source_ids
from lam.runs.columns import Column


class Sampling(Evaluation):
    """Train a classifier to tell latents sampled from the posterior from latents sampled from the prior.

    The classifier (ridge regression and a small network on z and its squares) is fitted on half of the sources and scored on
    the other half, then the other way round. What a prior is: N(0, I) for Gaussian latents, codes drawn evenly from those in
    use, Langevin dynamics on the energy of sparse latents (``sample_prior`` of each bottleneck). Unconstrained, residual and
    nested latents have none. Every family is also told from a moment-matched prior: the Gaussian with the mean and the
    covariance of the half that the classifier is fitted on.

    Keys: ``auc``, chance that a posterior sample looks more inferred than a prior sample: 0.5 where they cannot be told apart,
    1 where always; left out where there is no prior. ``auc_moment_matched``, the same for the moment-matched prior.
    ``auc_halves``, the control, the same between latents of two random halves of the clips, about 0.5. The first two have
    values of single clips. No keys for fewer than two sources a half.

    Args:
        max_clips: Clips used, at most; one transition of each.
    """

    name: ClassVar[str] = "sampling"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "auc",
            "auc",
            digits=2,
            better=-1,
            explanation="how well a classifier tells inferred latents from those of the family's own prior, 0.5 not at all",
            order=500,
            matched="only",
        ),
        Column(
            "auc_moment_matched",
            "auc, moment-matched",
            digits=2,
            better=-1,
            explanation="the same against a Gaussian with the latents' own mean and covariance, for families with no prior too",
            order=501,
            matched="only",
        ),
    )

    def __init__(self, max_clips: int = 1024) -> None:
        super().__init__()
        self.max_clips = max_clips
        self.reset()

    @override
    def reset(self) -> None:
        self.sample = ClipSample(self.max_clips)

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        position = observation.clip.position
        z = observation.z_drawn.float().flatten(2)
        chosen = position % z.shape[1]
        values = {"z": z[torch.arange(len(z), device=z.device), chosen], "source": source_ids(observation.clip.source)}
        self.sample.add(position, values)

    @override
    def compute(self, model: WorldModel) -> Results:
        positions, values = self.sample.gather()
        if len(positions) < 4 or len(torch.unique(values["source"])) < 4:
            return Results(skipped=few_sources(values.get("source"), 4))
        z, fold = values["z"], fit_half(values["source"])
        placed = {"auc_moment_matched": _placed_among_matched(z, fold)}
        if model.bottleneck.has_prior:
            generator = Generator(device=model.device).manual_seed(0)
            prior = model.bottleneck.sample_prior(len(z), generator).float().flatten(1).cpu()
            placed["auc"] = cross_fitted_placements(z, prior, fold, fold)
        halves = torch.zeros(len(z), dtype=torch.bool)
        for side in (fold, ~fold):  # within each half of the sources, or the two halves would be of different sources
            members = side.nonzero()[:, 0]
            halves[members[hashed_order(positions[members])[: len(members) // 2]]] = True
        control = cross_fitted_placements(z[halves], z[~halves], fold[halves], fold[~halves])
        return Results(
            metrics={name: values.mean().item() for name, values in placed.items()} | {"auc_halves": control.mean().item()},
            clips={name: (positions, values) for name, values in placed.items()},
        )


def _placed_among_matched(z: Tensor, fold: Tensor) -> Tensor:
    """Compute placements (n,) of latents among draws of the Gaussian with the moments of the other fold.

    Args:
        z: Latents, (n, d).
        fold: Fold of each, (n,) bool.
    """
    placed = torch.zeros(len(z), dtype=torch.float64)
    for test in (fold, ~fold):
        matched = draw_matched(z[~test], len(z), Generator().manual_seed(0))
        placed[test] = held_out_placements(z, matched, test, test)
    return placed


def draw_matched(z: Tensor, n: int, generator: Generator) -> Tensor:
    """Draw n rows (n, d) from the Gaussian with the mean and the covariance of rows z (m, d); constant directions stay so."""
    mean = z.double().mean(dim=0)
    centered = z.double() - mean
    variances, directions = torch.linalg.eigh(centered.T @ centered / len(z))
    noise = torch.randn(n, z.shape[1], dtype=torch.float64, generator=generator)
    drawn: Tensor = mean + noise * variances.clamp_min(0).sqrt() @ directions.T
    return drawn.to(z.dtype)
