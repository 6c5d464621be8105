"""E4, transfer: does z mean the same in another clip? The cycle test with its controls.

The cycle is section 4.4 of https://arxiv.org/abs/2601.05230; floor, random latents and retention are not there, and without
them the ratio cannot tell latents that transfer well from latents that are ignored or that copy. Nor are placement and
heading, which need no labels: a difference that is pasted, and a movement that means another one in each scene, go through
the cycle unharmed.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lam.evals.base import Results
from lam.evals.common.pairs import PairEvaluation
from lam.metrics.displacement import main_direction
from lam.metrics.scores import confidence_interval
from lam.models.base import WorldModel
from lam.models.clip_buffer import BufferedClips
from lam.runs.columns import Column, Flag

FLOOR = 1e-3
"""Errors below a thousandth of the unit are nothing to divide by."""


class Transfer(PairEvaluation):
    """Drive clip B of another source with the latents of clip A, infer them again from what B did, and drive A with those.

    Keys: errors of A rolled out from its first state, in units of the copy-last-state error, mean over horizons:
    ``original``, with its own latents; ``cycle``, with latents inferred from B as A's latents drove it; ``floor``, the same
    with B = A; ``random``, with latents of a third clip. ``retention`` is the share of states of B as it was driven that
    lie nearer to B's true states than to A's: a z that holds whole states turns B into A, which makes a perfect cycle, and
    only this shows it. ``replaces``, 1 where its 95 % interval over clips lies below a half. ``ratio`` = cycle / original, of
    means, left out where the interval of original reaches down to ``FLOOR``. ``normalized`` = (cycle - floor) / (random -
    floor): 0 where the meaning is kept, 1 where all of it is lost; left out unless random - floor is above 0 by its interval.
    ``ignored``, 1 where that interval holds 0: it makes no difference which latents drive a clip, the ratio means nothing and
    the row must not be ranked by it.

    ``placement``, -1 to 1, one step from B's true states: where does the change lie that A's latents make in B? The cosine of
    its map with the map of B's own change, which is where B's moving content is, less the cosine with the map of A's change,
    where a difference copied from A lies. ``placement_self`` is that of B's own latents, the ceiling; ``placement_pasted``
    that of A's change pasted into B, the floor. ``pastes``, 1 where placement is below 0 by its interval.

    ``heading``, -1 to 1, where states are pixels: does what moves in B go the way that it went in A? The cosine of the main
    directions of both changes (``lam.metrics.displacement.main_direction``), weighted by how far A's went, from a pixel on
    equally. ``heading_self`` is that of A's own prediction, the ceiling. ``misdirects``, 1 where heading is not above 0, and
    less than half of its ceiling, both by the interval: latents move their own clip, and which way says nothing of the way
    elsewhere. Tight codes have a low heading too, as they say part of a movement and leave the rest to the state, but it is
    above 0: 0.16, of 0.65, for four codes on ``arm``.

    All but ratios have values of single clips (heading is the ratio of the means of ``aligned`` and ``moved``) and, but for
    controls and flags, ``_drawn`` beside them: with z drawn from its posterior; equal where z is not noisy.

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
            explanation="error with latents that went through another clip and back, over the error with the clip's own; a "
            "latent that says nothing has the best ratio, so it compares only at matched capacity (`matched.md`)",
            order=300,
        ),
        Column("ratio_drawn", "transfer ratio drawn", digits=2, better=-1, order=301, brief=True, matched="only"),
        Column("ratio_floor", "its floor", digits=2, explanation="with latents that went through the clip itself", order=310),
        Column("ratio_random", "its ceiling", digits=2, explanation="with latents of a random clip", order=320),
        Column("cycle", "error after transfer", digits=2, order=330),
        Column(
            "normalized",
            "transfer normalized",
            digits=2,
            explanation="the ratio between its floor and its ceiling (0 to 1; undefined where random latents do no harm)",
            order=340,
        ),
        Column("normalized_drawn", "transfer normalized drawn", digits=2, better=-1, order=341, matched="too"),
        Column(
            "retention",
            "retention",
            digits=2,
            explanation="share of transfers whose prediction stays with the target clip",
            order=350,
        ),
        Column("retention_drawn", "retention drawn", digits=2, better=1, order=351, matched="only"),
        Column(
            "placement",
            "placement",
            digits=2,
            explanation="does the change that another clip's latents make lie where the target's moving content is (above 0) "
            "or where the other clip's was (below 0, a pasted difference)",
            order=360,
        ),
        Column("placement_drawn", "placement drawn", digits=2, better=1, order=361, matched="only"),
        Column(
            "heading",
            "heading",
            digits=2,
            explanation="cosine of the main directions in which a latent moves another clip and moved its own; 0 where it "
            "means another movement in every scene, or pastes",
            order=370,
        ),
        Column("heading_drawn", "heading drawn", digits=2, better=1, order=371, matched="only"),
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
        values = self._measure(model, a, b, third, drawn=False)
        values |= controls(model, a, b)
        if not torch.equal(clips.z, clips.z_drawn):  # of all clips, so on every process alike
            drawn = self._measure(model, a, b, third, drawn=True)
            values |= {f"{name}_drawn": value for name, value in drawn.items()}
        return values

    @staticmethod
    def _measure(model: WorldModel, a: BufferedClips, b: BufferedClips, third: BufferedClips, drawn: bool) -> dict[str, Tensor]:
        """Compute values (b,) with z, or with z drawn from its posterior."""
        first, true = a.states[:, :1], a.states[:, 1:]
        z, other = (clips.z_drawn if drawn else clips.z for clips in (a, third))

        def reinferred(start: Tensor, driven: Tensor) -> Tensor:
            """Roll A out with latents inferred again from a clip that latents drove."""
            latent = model.infer(torch.cat([start, driven], dim=1))
            keys = a.position if drawn else None
            return model.rollout(first, model.apply_bottleneck(latent, sample=drawn, noise_keys=keys).z)

        original = model.rollout(first, z)
        driven = model.rollout(b.states[:, :1], z)
        predictions = {
            "original": original,
            "cycle": reinferred(b.states[:, :1], driven),
            "floor": reinferred(first, original),
            "random": model.rollout(first, other),
        }
        values = {name: model.error(predicted, true).mean(dim=1) for name, predicted in predictions.items()}
        nearer = model.error(driven, b.states[:, 1:]) < model.error(driven, true)
        values["retention"] = nearer.double().mean(dim=1)
        induced = model.predict(b.states[:, :-1], z)
        made, own, others = (change_map(model, *pair) for pair in ((b, induced), (b, b.states[:, 1:]), (a, a.states[:, 1:])))
        values["placement"] = (_cosine(made, own) - _cosine(made, others)).mean(dim=1)
        if model.encoder.shows_pixels:
            values["aligned"] = _aligned(direction(model, b, induced), direction(model, a, true))
        return values

    @override
    def compute(self, model: WorldModel) -> Results:
        clips = model.clip_buffer.clips(self.num_clips)
        positions, values = self.values(model)
        if clips is None or not values:
            return Results(skipped=self.too_few(model))
        sources = clips.source[clips.position.argsort()]
        for name in ("original", "cycle", "floor", "random", "retention", "placement", "aligned"):
            if name in values:
                values.setdefault(f"{name}_drawn", values[name])
        metrics = {name: value.mean().item() for name, value in values.items()}
        for drawn in ("", "_drawn"):
            original, cycle, floor, random = (values[f"{name}{drawn}"] for name in ("original", "cycle", "floor", "random"))
            if confidence_interval(original, sources)[0] > FLOOR:
                metrics[f"ratio{drawn}"] = (cycle.mean() / original.mean()).item()
            if confidence_interval(random - floor, sources)[0] > 0:
                metrics[f"normalized{drawn}"] = ((cycle - floor).mean() / (random - floor).mean()).item()
        low, high = confidence_interval(values["random"] - values["floor"], sources)
        metrics["ignored"] = float(low <= 0 <= high)
        metrics["replaces"] = float(confidence_interval(values["retention"], sources)[1] < 0.5)
        metrics["pastes"] = float(confidence_interval(values["placement"], sources)[1] < 0)
        if "moved" in values and metrics["moved"] > 0:
            for name in ("", "_drawn", "_self"):
                metrics[f"heading{name}"] = metrics[f"aligned{name}"] / metrics["moved"]
            missed = confidence_interval(values["aligned_self"] / 2 - values["aligned"], sources)[0]
            metrics["misdirects"] = float(missed > 0 and confidence_interval(values["aligned"], sources)[0] <= 0)
        return Results(metrics, {name: (positions, value) for name, value in values.items()})


def controls(model: WorldModel, a: BufferedClips, b: BufferedClips) -> dict[str, Tensor]:
    """Compute ceilings and floors of placement and heading, and the weight of heading, (b,) each."""
    pasted, own = (change_map(model, clips, clips.states[:, 1:]) for clips in (a, b))
    made = change_map(model, b, model.predict(b.states[:, :-1], b.z))
    values = {
        "placement_self": (_cosine(made, own) - _cosine(made, pasted)).mean(dim=1),
        "placement_pasted": (_cosine(pasted, own) - 1).mean(dim=1),
    }
    if model.encoder.shows_pixels:
        true = direction(model, a, a.states[:, 1:])
        predicted = direction(model, a, model.predict(a.states[:, :-1], a.z))
        values |= {"aligned_self": _aligned(predicted, true), "moved": _weight(true).mean(dim=1)}
    return values


def change_map(model: WorldModel, clips: BufferedClips, after: Tensor) -> Tensor:
    """Return how much a state changes at each place, (b, T-1, places): blurred pixels, or tokens where there are none.

    Args:
        model: The model.
        clips: Clips whose states come before.
        after: States after, (b, T-1, N, D).
    """
    before = clips.states[:, :-1]
    if not model.encoder.shows_pixels:
        return (after - before).float().abs().mean(dim=-1)
    change = (model.encoder.to_image(after) - model.encoder.to_image(before)).float().abs().mean(dim=2)
    blurred: Tensor = torch.nn.functional.avg_pool2d(change, 3, 1, 1)
    return blurred.flatten(2)


def direction(model: WorldModel, clips: BufferedClips, after: Tensor) -> Tensor:
    """Return the main direction from the states of clips to states after, (b, T-1, N, D), as moves (b, T-1, 2)."""
    before = clips.states[:, :-1]
    pictures = (model.encoder.to_image(states).float().flatten(0, 1) for states in (before, after))
    with torch.autocast(after.device.type, enabled=False):  # fractions of a pixel need full precision
        return main_direction(*pictures).reshape(*before.shape[:2], 2)


def _weight(moves: Tensor) -> Tensor:
    """Weigh moves (b, T-1, 2): by their length, from a pixel on equally."""
    length: Tensor = moves.norm(dim=-1)
    return length.clamp(max=1)


def _aligned(moves: Tensor, true: Tensor) -> Tensor:
    """Compute the weighted cosine of moves and true moves (b, T-1, 2), mean over transitions, (b,)."""
    return (_weight(true) * _cosine(moves, true)).mean(dim=1)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Compute cosines over the last axis; 0 where one of both is 0."""
    norms = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(norms > 0, (a * b).sum(dim=-1) / norms.clamp(min=1e-12), 0.0)
