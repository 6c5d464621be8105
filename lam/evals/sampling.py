"""E12, sampling: is the prior usable, that is, can its samples be told from inferred latents?"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Generator
from typing_extensions import override

from lam.evals.base import Evaluation, Results
from lam.evals.common.split import fit_half
from lam.metrics.scores import cross_fitted_placements
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import ClipSample, hashed_order, source_ids
from lam.runs.columns import Column


class Sampling(Evaluation):
    """Train a classifier to tell latents sampled from the posterior from latents sampled from the prior.

    The classifier (ridge regression and a small network on z and its squares) is fitted on half of the sources and scored on
    the other half, then the other way round. What a prior is: N(0, I) for Gaussian, unconstrained and residual latents,
    codes drawn evenly from those in use, Langevin dynamics on the energy of sparse latents (``sample_prior`` of each
    bottleneck).

    Keys: ``auc``, chance that a posterior sample looks more inferred than a prior sample: 0.5 where they cannot be told apart,
    1 where always; ``auc_halves``, the control, the same between latents of two random halves of the clips, about 0.5. The
    first has values of single clips. No keys for fewer than two sources a half.

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
            explanation="how well a classifier tells inferred latents from the prior's, 0.5 not at all",
            order=500,
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
            return Results()
        z, fold = values["z"], fit_half(values["source"])
        prior = model.bottleneck.sample_prior(len(z), Generator(device=model.device).manual_seed(0)).float().flatten(1).cpu()
        placed = cross_fitted_placements(z, prior, fold, fold)
        halves = torch.zeros(len(z), dtype=torch.bool)
        for side in (fold, ~fold):  # within each half of the sources, or the two halves would be of different sources
            members = side.nonzero()[:, 0]
            halves[members[hashed_order(positions[members])[: len(members) // 2]]] = True
        control = cross_fitted_placements(z[halves], z[~halves], fold[halves], fold[~halves])
        return Results(
            metrics={"auc": placed.mean().item(), "auc_halves": control.mean().item()},
            clips={"auc": (positions, placed)},
        )
