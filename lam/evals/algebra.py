"""E13, algebra: do latents add up along time, and does the way back undo the way there?"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from lam.evals.base import Results
from lam.evals.common.pairs import PairEvaluation
from lam.models.base import WorldModel
from lam.models.clip_buffer import BufferedClips
from lam.runs.columns import Column


class Algebra(PairEvaluation):
    """Compose latents of a clip and compare them with the latent that the inverse model infers of the composed movement.

    z(a, b) is the latent, after the bottleneck, of the transition from state a to state b, less that of (a, a): a transition
    in which nothing happens is the origin.

    Keys: ``additivity``, mean |z(t, t+1) + z(t+1, t+2) - z(t, t+2)|² over the same with z(t, t+2) of another clip;
    ``reversibility``, mean |z(t, t+1) + z(t+1, t)|² over the same with z(t+1, t) of another clip: 0 where latents
    compose like movements, 1 by chance. ``cosine``, of past-to-current z(t-1, t) and future-to-current
    z(t+1, t) as inferred, without subtracting the origin (CoMo's measure; 1 where both copy the current state). Undefined keys
    are left out: all where z never varies, the first and last for clips of two states. Numerators and denominators have
    values of single clips: ``additive``, ``additive_random``, ``reverse``, ``reverse_random``.
    """

    name: ClassVar[str] = "algebra"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "additivity",
            "additivity",
            digits=2,
            better=-1,
            explanation="how far the latents of two steps are from adding up to that of both, over the same with another "
            "clip's latent: 0 where they compose like movements, 1 is chance",
            order=540,
            matched="only",
        ),
        Column(
            "reversibility",
            "reversibility",
            digits=2,
            better=-1,
            explanation="the same for a step and the way back, which should cancel",
            order=550,
            matched="only",
        ),
        Column(
            "cosine",
            "cosine of past and future",
            digits=2,
            explanation="between the latents from the state before and from the state after to the same state; 1 where both "
            "copy it",
            order=560,
        ),
    )

    @override
    def compare(self, model: WorldModel, clips: BufferedClips, indices: Tensor) -> dict[str, Tensor]:
        own = _Latents(model, clips.take(indices, model.device))
        other = _Latents(model, clips.take(clips.cross_source_pairs()[indices], model.device))
        found = {
            "reverse": _square(own.forward + own.backward),
            "reverse_random": _square(own.forward + other.backward),
        }
        if own.two_steps is not None and other.two_steps is not None:
            both = own.forward[:, :-1] + own.forward[:, 1:]
            found |= {"additive": _square(both - own.two_steps), "additive_random": _square(both - other.two_steps)}
            found["cosine"] = F.cosine_similarity(own.from_past, own.from_future, dim=-1).mean(dim=1)
        return found

    @override
    def compute(self, model: WorldModel) -> Results:
        positions, values = self.values(model)
        results = Results(skipped=self.too_few(model))
        for key, part in (("additivity", "additive"), ("reversibility", "reverse")):
            if part in values and values[f"{part}_random"].mean() > 0:
                results.metrics[key] = (values[part].mean() / values[f"{part}_random"].mean()).item()
                results.clips |= {name: (positions, values[name]) for name in (part, f"{part}_random")}
        if "additivity" in results.metrics:
            results.metrics["cosine"] = values["cosine"].mean().item()
            results.clips["cosine"] = (positions, values["cosine"])
        return results


class _Latents:
    """Flat latents of pairs of states of some clips; those in ``forward``, ``backward`` and ``two_steps`` less their origin.

    Attributes:
        forward: From each state to the next, (b, T-1, L * A).
        backward: From each state to the one before, (b, T-1, L * A).
        two_steps: From each state to the one after the next, (b, T-2, L * A); None for clips of two states.
        from_past: From states 0..T-3 to the next, (b, T-2, L * A), as inferred.
        from_future: From states 2..T-1 to the one before, (b, T-2, L * A), as inferred.
    """

    def __init__(self, model: WorldModel, clips: BufferedClips) -> None:
        states = clips.states
        origin, forward = _infer(model, states, states), clips.z.float().flatten(2)
        backward = _infer(model, states[:, 1:], states[:, :-1])
        self.forward, self.backward = forward - origin[:, :-1], backward - origin[:, 1:]
        self.from_past, self.from_future = forward[:, :-1], backward[:, 1:]
        self.two_steps = _infer(model, states[:, :-2], states[:, 2:]) - origin[:, :-2] if states.shape[1] > 2 else None


def _infer(model: WorldModel, before: Tensor, after: Tensor) -> Tensor:
    """Infer latents (b, t, L * A), flat, after the bottleneck, of pairs of states (b, t, N, D)."""
    pairs = torch.stack([before, after], dim=2).flatten(0, 1)  # (b * t, 2, N, D)
    z: Tensor = model.apply_bottleneck(model.infer(pairs)).z.float().flatten(1).unflatten(0, before.shape[:2])
    return z


def _square(vectors: Tensor) -> Tensor:
    """Compute the mean squared length of vectors (b, t, d), (b,)."""
    return vectors.square().sum(dim=2).mean(dim=1)
