"""E1, capacity: how well held-out video is predicted when the latent action has seen the answer.

One-step and rolled-out error, after section 4.1 of https://arxiv.org/abs/2601.05230. The report
computes what needs several runs: errors of reference rows and gap closed.
"""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

from lam.evals.base import Evaluation, Results, cached_error_drawn, cached_rollout, cached_rollout_drawn
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import ClipSample
from lam.runs.columns import Column

CURVES = ("unrolled", "unrolled_drawn", "unrolled_copy")


class Capacity(Evaluation):
    """Measure the prediction error of held-out clips, in units of the error of predicting that nothing changes in them.

    Keys: ``error``, mean over transitions; ``copy_error``, error of predicting that nothing changes, 1 by the choice of the
    unit; ``copy_error_ratio``, this unit over that of training, which is measured on training clips: above 1 the held-out clips
    move more; ``unrolled@h``, error of the state h steps after the first, predicted from the first state and inferred latents
    alone, predictions fed back.
    ``error_drawn`` and ``unrolled_drawn@h`` are the same with what passed the channel: a z drawn from the posterior where
    there is one, each clip's noise a function of its position; elsewhere, as for codes, equal to the keys without suffix. A
    Gaussian's mean costs nothing and says more than its bits pay for, so families are compared by the drawn ones.
    Curves: ``unrolled``, ``unrolled_drawn`` and ``unrolled_copy`` (the first state stays) over the horizon. All keys but
    ``copy_error_ratio`` have values of single clips. The unit is the same constant in every row; intervals leave out that it
    is measured on a sample.

    Cost: where z is drawn, one more prediction and one more rollout of each clip.
    """

    name: ClassVar[str] = "capacity"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "error",
            "error",
            better=-1,
            explanation="one-step prediction error on held-out clips, 1 = predicting that nothing changes",
            order=100,
        ),
        Column(
            "error_drawn",
            "error drawn",
            better=-1,
            explanation="the same with z drawn from its posterior, as it passes the channel; equal where z is not noisy",
            order=101,
            brief=True,
            matched="too",
        ),
    )

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    @override
    def reset(self) -> None:
        self.sample = ClipSample()

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        states = observation.states
        first = states[:, :1].expand_as(states[:, 1:])
        values = {
            "error": observation.error.mean(dim=1),
            "error_drawn": cached_error_drawn(model, observation).mean(dim=1),
            "copy_error": observation.copy_error.mean(dim=1),
            "unrolled": model.error(cached_rollout(model, observation), states[:, 1:]),
            "unrolled_drawn": model.error(cached_rollout_drawn(model, observation), states[:, 1:]),
            "unrolled_copy": model.error(first, states[:, 1:]),
        }
        self.sample.add(observation.clip.position, {name: value.double() for name, value in values.items()})

    @override
    def compute(self, model: WorldModel) -> Results:
        positions, values = self.sample.gather()
        if not len(positions):
            return Results()
        results = Results(clips={name: (positions, values[name]) for name in ("error", "error_drawn", "copy_error")})
        for name in ("unrolled", "unrolled_drawn"):
            columns = enumerate(values[name].unbind(dim=1), start=1)
            results.clips |= {f"{name}@{h}": (positions, column) for h, column in columns}
        results.metrics = {name: value.mean().item() for name, (_, value) in results.clips.items()}
        if model.held_out_copy_error is not None:
            results.metrics["copy_error_ratio"] = model.held_out_copy_error / model.copy_error.item()
        results.curves = {name: values[name].mean(dim=0).tolist() for name in CURVES}
        return results
