"""E3, leakage: does z hold the next state, or what happened? Measured at artificial scene cuts.

After section 4.3 of https://arxiv.org/abs/2601.05230, which leaves open where the cut is and which transitions count. Here it
is in the middle of the clip, and the transition across it and those after it are measured separately.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lam.evals.base import Results
from lam.evals.common.pairs import PairEvaluation
from lam.models.base import WorldModel
from lam.models.clip_buffer import BufferedClips
from lam.runs.columns import Column, Flag


class Leakage(PairEvaluation):
    """Measure how well a cut is predicted in clips whose second half is that of a clip of another source, at the same times.

    What follows a cut cannot be predicted from what was before. A z that describes a movement is useless there and the error
    jumps; if it does not, z holds the next state itself. **A jump is necessary, not sufficient**: it also occurs with a z
    that holds the next state in part, or only for video like that it was trained on. The ratio means little by itself, as
    unconstrained latents have the smaller denominator; compare ``cut`` between rows, and with the reference row ``none``.

    Keys: errors in units of the copy-last-state error, with values of single clips: ``uncut``, of the transition in the
    middle of the unmodified clip; ``cut``, of the same transition across the cut; ``after``, mean of those after it (left
    out where clips end there); ``copy_cut``, of predicting that nothing changes at the cut. ``ratio`` = cut / uncut;
    ``share`` = 1 - cut / copy_cut, how much of the cut is predicted; ``copies``, 1 where that is more than half.

    Frames are cut, then encoded, so an encoder with a memory has seen the cut. States of a feature cache were encoded
    before: those after the cut carry what such an encoder remembers of their own clip.

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
            better=1,
            explanation="error where two clips were spliced over the error where they were not; near 1, the latent copies "
            "what comes",
            order=200,
            brief=True,
            matched="only",
        ),
        Column(
            "share",
            "leakage share",
            digits=2,
            better=-1,
            explanation="what part of the next state the latent brought across the cut, 1 - error at the cut / error of "
            "repeating the state before it",
            order=210,
            matched="only",
        ),
        Column("cut", "error at a cut", digits=2, order=220),
    )
    flags: ClassVar[tuple[Flag, ...]] = (
        Flag("copies", "copies", explanation="the latent brings more than half of the next state across a cut", order=200),
    )

    @override
    def compare(self, model: WorldModel, clips: BufferedClips, indices: Tensor) -> dict[str, Tensor]:
        own = clips.take(indices, model.device)
        other = clips.take(clips.cross_source_pairs()[indices], model.device)
        kept = (own.z.shape[1] + 1) // 2  # states before the cut
        frames = kept * model.encoder.frames_per_state
        states = model.encoder(torch.cat([own.frames[:, :frames], other.frames[:, frames:]], dim=1))
        predicted = model.predict(states[:, :-1], model.apply_bottleneck(model.infer(states)).z)
        errors = model.error(predicted, states[:, 1:])[:, kept - 1 :]
        uncut = model.predict(own.states[:, :kept], own.z[:, :kept])[:, -1:]
        values = {
            "uncut": model.error(uncut, own.states[:, kept : kept + 1])[:, 0],
            "cut": errors[:, 0],
            "copy_cut": model.error(states[:, kept - 1 : kept], states[:, kept : kept + 1])[:, 0],
        }
        return values | ({"after": errors[:, 1:].mean(dim=1)} if errors.shape[1] > 1 else {})

    @override
    def compute(self, model: WorldModel) -> Results:
        positions, values = self.values(model)
        if not values:
            return Results()
        metrics = {name: value.mean().item() for name, value in values.items()}
        if metrics["uncut"] > 0:
            metrics["ratio"] = metrics["cut"] / metrics["uncut"]
        if metrics["copy_cut"] > 0:
            metrics["share"] = 1 - metrics["cut"] / metrics["copy_cut"]
            metrics["copies"] = float(metrics["share"] > 0.5)
        return Results(metrics, {name: (positions, value) for name, value in values.items()})
