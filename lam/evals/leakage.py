"""E3, leakage: does z hold the next state, or what happened? Measured at artificial scene cuts.

After section 4.3 of https://arxiv.org/abs/2601.05230, which leaves open where the cut is and which transitions count. Here it
is in the middle of the clip, and the transition across it and those after it are measured separately. Identification is not
there: it cannot be gained by shrinkage, and its faint forms find what is copied only where changes are small.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lam.evals.base import Results
from lam.evals.common.pairs import PairEvaluation
from lam.evals.common.scenes import candidate_scenes, faint_scenes, imposed_scenes
from lam.evals.common.split import fit_half
from lam.metrics.identification import identified, information, resemblance
from lam.metrics.scores import confidence_interval
from lam.models.base import WorldModel
from lam.models.clip_buffer import BufferedClips
from lam.runs.columns import Column, Flag

FLOOR = 1e-3
"""Errors below a thousandth of the unit are nothing to divide by."""

KINDS = ("identified", "identified_faint", "identified_imposed")


class Leakage(PairEvaluation):
    """Measure how well a cut is predicted in clips whose second half is that of a clip of another source, at the same times.

    What follows a cut cannot be predicted from what was before. A z that describes a movement is useless there and the error
    jumps; if it does not, z holds the next state itself. **A jump is necessary, not sufficient**: it also occurs with a z
    that holds the next state in part, or only for video like that it was trained on. The ratio means little by itself, as
    unconstrained latents have the smaller denominator; compare ``cut`` between rows, and with the reference row ``none``.
    The share of a cut that is predicted means little either: on natural video a flat, mean or blurred picture predicts 0.1 to
    0.5 of it and knows nothing, and a movement that takes a body to where the next scene has one predicts half of it.

    Identification asks instead which of K scenes of other sources was spliced in, told from the prediction alone. The scene is
    drawn evenly, so a prediction that does not know it is right one time in K however it looks. Asked three times:
    ``identified``, at the cut, where a movement can tell a scene too, by where its body is; ``identified_faint``, of a scene
    faded in by no more than the clip itself changes there, which a z that holds small differences alone passes on too;
    ``identified_imposed``, of the clip's own change with each number's sign set by a scene, which no rule by the size or the
    place of a change tells from the clip's own. No movement says which scene was faded in or imposed, so ``copies`` is 1 where
    one of these two lies more than half of the way from chance to certainty, by the lower end of its 95 % interval.

    Keys: errors in units of the copy-last-state error, with values of single clips: ``uncut``, of the transition in the
    middle of the unmodified clip; ``cut``, of the same transition across the cut; ``after``, mean of those after it (left
    out where clips end there); ``copy_cut``, of predicting that nothing changes at the cut. ``ratio`` = cut / uncut, left out
    where the interval of uncut reaches down to ``FLOOR``; ``share`` = 1 - cut / copy_cut. ``identified``, its two faint forms,
    and each with ``_bits`` (``lam.metrics.identification.information``), with values of single clips; ``candidates``, K. All
    but ``copy_cut`` and ``candidates`` also with ``_drawn``: z drawn from its posterior; equal where z is not noisy.

    Frames are cut, then encoded, so an encoder with a memory has seen the cut. States of a feature cache were encoded
    before: those after the cut carry what such an encoder remembers of their own clip. Scenes are faded in and imposed on
    states, not on frames.

    Args:
        num_clips: Clips compared, at most.
        batch: Clips at a time.
    """

    name: ClassVar[str] = "leakage"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "ratio",
            "leakage ratio",
            digits=2,
            explanation="error where two clips were spliced over the error where they were not; near 1, the latent copies "
            "what comes",
            order=200,
        ),
        Column("ratio_drawn", "leakage ratio drawn", digits=2, better=1, order=201, brief=True, matched="only"),
        Column(
            "identified_faint",
            "faint scene identified",
            digits=2,
            explanation="how often a prediction tells which of up to 64 scenes was faded in by no more than the clip itself "
            "changes; a prediction that knows nothing, flat, mean or blurred, is right one time in 64",
            order=205,
        ),
        Column("identified_faint_drawn", "faint scene identified drawn", digits=2, better=-1, order=206, matched="only"),
        Column(
            "identified_imposed",
            "imposed scene identified",
            digits=2,
            explanation="the same of a scene that sets the sign of every number's own change",
            order=207,
        ),
        Column(
            "identified",
            "cut scene identified",
            digits=2,
            explanation="the same of a scene that was spliced in whole, which a movement of the body can tell too",
            order=208,
        ),
        Column(
            "share",
            "leakage share",
            digits=2,
            explanation="what part of the next state the latent brought across the cut, 1 - error at the cut / error of "
            "repeating the state before it; a flat or blurred picture that knows nothing of it has some too",
            order=210,
        ),
        Column("share_drawn", "leakage share drawn", digits=2, better=-1, order=211, matched="only"),
        Column("cut", "error at a cut", digits=2, order=220),
    )
    flags: ClassVar[tuple[Flag, ...]] = (
        Flag(
            "copies",
            "copies",
            explanation="predictions tell which scene was put into a change, more than half of the way from chance to 1",
            order=200,
        ),
    )

    @override
    def compare(self, model: WorldModel, clips: BufferedClips, indices: Tensor) -> dict[str, Tensor]:
        own = clips.take(indices, model.device)
        chosen = candidate_scenes(clips)[indices]
        kept = (own.z.shape[1] + 1) // 2  # states before the cut
        values = self._measure(model, clips, own, chosen, kept, drawn=False)
        if not torch.equal(clips.z, clips.z_drawn):  # of all clips, so on every process alike
            drawn = self._measure(model, clips, own, chosen, kept, drawn=True)
            values |= {f"{name}_drawn": value for name, value in drawn.items()}
        values["copy_cut"] = model.error(*self._ends(model, own, clips.take(chosen[:, 0], model.device), kept))[:, 0]
        return values

    @staticmethod
    def _splice(model: WorldModel, own: BufferedClips, other: BufferedClips, kept: int) -> Tensor:
        """Return the states (b, T, N, D) of clips that go on as others after some states."""
        frames = kept * model.encoder.frames_per_state
        states: Tensor = model.encoder(torch.cat([own.frames[:, :frames], other.frames[:, frames:]], dim=1))
        return states

    def _ends(self, model: WorldModel, own: BufferedClips, other: BufferedClips, kept: int) -> tuple[Tensor, Tensor]:
        """Return the states before and after the cut, (b, 1, N, D) each."""
        states = self._splice(model, own, other, kept)
        return states[:, kept - 1 : kept], states[:, kept : kept + 1]

    def _measure(
        self, model: WorldModel, clips: BufferedClips, own: BufferedClips, chosen: Tensor, kept: int, drawn: bool
    ) -> dict[str, Tensor]:
        """Compute errors (b,) and scores of candidates (b, K) with z, or with z drawn from its posterior."""

        def predict(states: Tensor) -> Tensor:
            latent = model.infer(states)
            z = model.apply_bottleneck(latent, sample=drawn, noise_keys=own.position if drawn else None).z
            return model.predict(states[:, :-1], z)

        states = self._splice(model, own, clips.take(chosen[:, 0], model.device), kept)
        predicted = predict(states)
        errors = model.error(predicted, states[:, 1:])[:, kept - 1 :]
        uncut = model.predict(own.states[:, :kept], (own.z_drawn if drawn else own.z)[:, :kept])[:, -1:]
        values = {"uncut": model.error(uncut, own.states[:, kept : kept + 1])[:, 0], "cut": errors[:, 0]}
        if errors.shape[1] > 1:
            values["after"] = errors[:, 1:].mean(dim=1)
        if chosen.shape[1] < 2:  # with a single other source there is nothing to choose among
            return values
        before, after = own.states[:, kept - 1].float(), own.states[:, kept].float()
        scenes = clips.states[chosen, kept].to(model.device).float()
        values["identified"] = _scores(before, predicted[:, kept - 1], scenes)
        for name, candidates in (
            ("faint", faint_scenes(before, after, scenes)),
            ("imposed", imposed_scenes(before, after, scenes)),
        ):
            shown = torch.cat([own.states[:, :kept], candidates[:, :1].to(own.states.dtype)], dim=1)
            values[f"identified_{name}"] = _scores(before, predict(shown)[:, -1], candidates)
        return values

    @override
    def compute(self, model: WorldModel) -> Results:
        clips = model.clip_buffer.clips(self.num_clips)
        positions, values = self.values(model)
        if clips is None or not values:
            return Results(skipped=self.too_few(model))
        sources = clips.source[clips.position.argsort()]
        metrics: dict[str, float] = {}
        copies: list[bool] = []
        for kind in KINDS:
            for name in [name for name in (kind, f"{kind}_drawn") if name in values]:
                scores, drawn = values.pop(name), name.removeprefix(kind)
                metrics["candidates"] = chance = scores.shape[1]
                values[name] = identified(scores)
                values[f"{kind}_bits{drawn}"] = information(scores, fit_half(sources))
                if kind != "identified" and not drawn:
                    low, _ = confidence_interval(values[name], sources)
                    copies.append(low > (1 + 1 / chance) / 2)
        for name in [name for name in values if name != "copy_cut" and not name.endswith("_drawn")]:
            values.setdefault(f"{name}_drawn", values[name])
        metrics |= {name: value.mean().item() for name, value in values.items()}
        for drawn in ("", "_drawn"):
            if confidence_interval(values[f"uncut{drawn}"], sources)[0] > FLOOR:
                metrics[f"ratio{drawn}"] = metrics[f"cut{drawn}"] / metrics[f"uncut{drawn}"]
            if metrics["copy_cut"] > FLOOR:
                metrics[f"share{drawn}"] = 1 - metrics[f"cut{drawn}"] / metrics["copy_cut"]
        if copies:
            metrics["copies"] = float(any(copies))
        return Results(metrics, {name: (positions, value) for name, value in values.items()})


def _scores(before: Tensor, predicted: Tensor, candidates: Tensor) -> Tensor:
    """Score candidates (b, K, N, D) by a prediction (b, N, D), (b, K)."""
    return resemblance(before.flatten(1), predicted.float().flatten(1), candidates.flatten(2))
