"""E4, transfer: does z mean the same in another clip? The cycle test with its controls.

The cycle is section 4.4 of https://arxiv.org/abs/2601.05230; floor, random latents and retention are not there, and without
them the ratio cannot tell latents that transfer well from latents that are ignored or that copy.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lam.evals.base import Results
from lam.evals.common.pairs import PairEvaluation
from lam.metrics.scores import confidence_interval
from lam.models.base import WorldModel
from lam.models.clip_buffer import BufferedClips
from lam.runs.columns import Column, Flag


class Transfer(PairEvaluation):
    """Drive clip B of another source with the latents of clip A, infer them again from what B did, and drive A with those.

    Keys: errors of A rolled out from its first state, in units of the copy-last-state error, mean over horizons:
    ``original``, with its own latents; ``cycle``, with latents inferred from B as A's latents drove it; ``floor``, the same
    with B = A; ``random``, with latents of a third clip. ``retention`` is the share of states of B as it was driven that
    lie nearer to B's true states than to A's: a z that holds whole states turns B into A, which makes a perfect cycle, and
    only this shows it. All five have values of single clips. ``ratio`` = cycle / original, of means. ``normalized`` =
    (cycle - floor) / (random - floor): 0 where the meaning is kept, 1 where all of it is lost; left out unless
    random - floor is above 0 by its 95 % interval over clips. ``ignored``, 1 where that interval holds 0: it makes no
    difference which latents drive a clip, the ratio means nothing and the row must not be ranked by it.

    Args:
        num_clips: Clips compared, at most.
        batch: Clips at a time.
    """

    name: ClassVar[str] = "transfer"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "ratio",
            "transfer ratio",
            digits=2,
            better=-1,
            explanation="error with latents that went through another clip and back, over the error with the clip's own; a "
            "latent that says nothing has the best ratio, so it compares only at matched capacity (`matched.md`)",
            order=300,
            brief=True,
            matched="only",
        ),
        Column("ratio_floor", "its floor", digits=2, explanation="with latents that went through the clip itself", order=310),
        Column("ratio_random", "its ceiling", digits=2, explanation="with latents of a random clip", order=320),
        Column("cycle", "error after transfer", digits=2, order=330),
        Column(
            "normalized",
            "transfer normalized",
            digits=2,
            better=-1,
            explanation="the ratio between its floor and its ceiling (0 to 1; undefined where random latents do no harm)",
            order=340,
            matched="too",
        ),
        Column(
            "retention",
            "retention",
            digits=2,
            better=1,
            explanation="share of transfers whose prediction stays with the target clip",
            order=350,
            matched="only",
        ),
    )
    flags: ClassVar[tuple[Flag, ...]] = (
        Flag(
            "ignored",
            "ignored",
            explanation="it makes no difference which latents drive a prediction, as for `none` by construction",
            order=100,
        ),
    )

    @override
    def compare(self, model: WorldModel, clips: BufferedClips, indices: Tensor) -> dict[str, Tensor]:
        a = clips.take(indices, model.device)
        b = clips.take(clips.cross_source_pairs()[indices], model.device)
        third = clips.take(clips.cross_source_pairs(2)[indices], model.device)
        first, true = a.states[:, :1], a.states[:, 1:]

        def reinferred(start: Tensor, driven: Tensor) -> Tensor:
            """Roll A out with latents inferred again from a clip that latents drove."""
            return model.rollout(first, model.apply_bottleneck(model.infer(torch.cat([start, driven], dim=1))).z)

        original = model.rollout(first, a.z)
        driven = model.rollout(b.states[:, :1], a.z)
        predictions = {
            "original": original,
            "cycle": reinferred(b.states[:, :1], driven),
            "floor": reinferred(first, original),
            "random": model.rollout(first, third.z),
        }
        errors = {name: model.error(predicted, true).mean(dim=1) for name, predicted in predictions.items()}
        nearer = model.error(driven, b.states[:, 1:]) < model.error(driven, true)
        return errors | {"retention": nearer.double().mean(dim=1)}

    @override
    def compute(self, model: WorldModel) -> Results:
        clips = model.clip_buffer.clips(self.num_clips)
        positions, values = self.values(model)
        if clips is None or not values:
            return Results()
        metrics = {name: value.mean().item() for name, value in values.items()}
        if metrics["original"] > 0:
            metrics["ratio"] = metrics["cycle"] / metrics["original"]
        low, high = confidence_interval(values["random"] - values["floor"], clips.source[clips.position.argsort()])
        metrics["ignored"] = float(low <= 0 <= high)
        if low > 0:
            span = metrics["random"] - metrics["floor"]
            metrics["normalized"] = (metrics["cycle"] - metrics["floor"]) / span
        return Results(metrics, {name: (positions, value) for name, value in values.items()})
