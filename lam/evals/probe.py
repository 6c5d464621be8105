"""E5, probe: which known causes can be read from z, beyond what one state already tells.

A probe number alone is worth nothing: where the action is a function of the state, z predicts it by copying the state.
So the gain over the state comes first, and controls say what the number would be if z carried nothing, or everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from lam.evals.base import Evaluation, Observation, Results
from lam.evals.causes import Cause, known_causes
from lam.evals.sample import ClipSample
from lam.evals.split import HOLD_BACK, Split, source_ids
from lam.metrics import probes
from lam.metrics.entropy import symbols
from lam.metrics.sketch import count_sketch, principal_components

SKETCH = 256
"""Width to which states are cut by a fixed random map before they are kept."""

STATE_SCALES = (1.0, 0.1)
"""State inputs come at two scales, that is with two penalties of their own; labels held back choose."""

CONTROLS = ("state", "next_state", "shuffled", "projection", "pair")
LABEL = "label/"


class Probe(Evaluation):
    """Predicts known causes from z and from controls; fitted on half of the sources, scored on the other half.

    Sources, sorted by the hash of their name, go to the two halves in turn. Probes are linear (ridge regression) or
    nonlinear (a small network on top of ridge regression). The score is R² for continuous causes (of a field of more than
    16 numbers their mean R²), for discrete ones the balanced accuracy. States are reduced to principal components of the
    fitting half.

    Keys, each followed by ``/<cause>``: ``r2_linear`` and ``r2_mlp`` from z (``accuracy_linear``, ``accuracy_mlp`` for
    discrete causes); ``gain``, the nonlinear score of state and z together minus that of the state, or of the best
    constant where that is better (R² 0, or one in the number of classes). These three also as ``<key>@<labels>/<cause>``
    with fewer labels, of which those held back to stop early are part. Controls, nonlinear with all labels: ``state``,
    ``next_state``, ``shuffled`` (z of other transitions), ``projection`` (random directions of the pair of states, as
    many as z has) and ``pair`` (state and difference: the ceiling of such probes). ``nmi``, for discrete latents:
    normalized mutual information of code tuple and cause (continuous causes in eight bins); it grows by chance as
    tuples grow rare. The first three keys have values of single test clips, whose mean is the key.

    There are no keys where clips have no labels or come from too few sources; a cause that does not vary has none.

    Args:
        components: Principal components of a state.
        budgets: Numbers of labels to try besides all; those that are not there are left out.
        max_clips: Clips used, at most.
    """

    name: ClassVar[str] = "probe"

    def __init__(self, components: int = 32, budgets: Sequence[int] = (16, 64, 256, 1024), max_clips: int = 4096) -> None:
        super().__init__()
        self.components = components
        self.budgets = budgets
        self.max_clips = max_clips
        self.reset()

    def reset(self) -> None:
        """Forgets what was observed."""
        self.sample = ClipSample(self.max_clips)

    def observe(self, observation: Observation, module: Any) -> None:
        """Keeps z, codes, labels and short sketches of the states."""
        clip, states, limited = observation.clip, observation.states, observation.limited
        labels = clip.labels(module.encoder.frames_per_state)
        if not labels:
            return
        sketch = count_sketch(states.float().flatten(2).flatten(0, 1), SKETCH).unflatten(0, states.shape[:2])
        values = {"state": sketch, "z": limited.z.float().flatten(2), "source": source_ids(clip.source)}
        if limited.codes is not None:
            values["codes"] = limited.codes
        self.sample.add(clip.position, values | {LABEL + name: value for name, value in labels.items()})

    def compute(self, module: Any) -> Results:
        """Fits and scores all probes."""
        positions, values = self.sample.gather()
        if not len(positions):
            return Results()
        split = Split(positions, values["source"], values["z"].shape[1])
        if split.num_clips < HOLD_BACK or not len(split.test):
            return Results()
        labels = {name.removeprefix(LABEL): value for name, value in values.items() if name.startswith(LABEL)}
        causes = known_causes({name: value.flatten(0, 1) for name, value in labels.items()}, split.order, split.test)
        if not causes:
            return Results()
        kinds = inputs(values["state"], values["z"], split.order, self.components)
        budgets: list[int | None] = [budget for budget in self.budgets if budget < len(split.order)]
        scores = _Scores(_Fits(kinds, split, causes, [*budgets, None]), positions[split.test_clips])
        for budget in [*budgets, None]:
            scores.score_z(budget)
        scores.score_controls()
        if "codes" in values:
            scores.score_codes(values["codes"].flatten(0, 1))
        return scores.results


def inputs(states: Tensor, z: Tensor, fit: Tensor, components: int) -> dict[str, list[Tensor]]:
    """What the probes of each kind see, (n * (T-1), d) each, in variants among which labels held back choose.

    Args:
        states: Sketches of states, (n, T, S).
        z: Limited latents, (n, T-1, L * A).
        fit: Places of the transitions for fitting.
        components: Principal components of a state.
    """
    before, after, z = states[:, :-1].flatten(0, 1), states[:, 1:].flatten(0, 1), z.flatten(0, 1)
    generator = Generator().manual_seed(0)
    state, next_state = principal_components(torch.cat([before, after]), fit, components).chunk(2)
    change = principal_components(after - before, fit, components)
    both = torch.cat([before, after], dim=1)
    directions = torch.randn(both.shape[1], z.shape[1], generator=generator)
    z = _standardized(z, fit)
    return {
        "z": [z],
        "state": [scale * state for scale in STATE_SCALES],
        "state_z": [torch.cat([scale * state, z], dim=1) for scale in STATE_SCALES],
        "next_state": [next_state],
        "shuffled": [z[torch.randperm(len(z), generator=generator)]],
        "projection": [_standardized(both @ directions, fit)],
        "pair": [torch.cat([scale * state, change], dim=1) for scale in STATE_SCALES],
    }


def _standardized(x: Tensor, fit: Tensor) -> Tensor:
    """Rows (n, d) with mean 0 and variance 1 over some of them; what does not vary there is 0."""
    mean, std = x[fit].mean(dim=0), x[fit].std(dim=0, correction=0)
    alive = std > 1e-6 * mean.abs().clamp(min=1e-6)
    return torch.where(alive, (x - mean) / torch.where(alive, std, 1.0), 0.0)


class _Fits:
    """All probes of a pass, fitted at once."""

    def __init__(self, kinds: dict[str, list[Tensor]], split: Split, causes: list[Cause], budgets: list[int | None]) -> None:
        self.kinds, self.split, self.causes = kinds, split, causes
        self.targets = torch.cat([cause.columns for cause in causes], dim=1)
        self.columns = torch.cat([torch.full((cause.columns.shape[1],), g) for g, cause in enumerate(causes)])
        self.places: dict[tuple[str, int | None], list[int]] = {}
        wanted: list[probes.Probe] = []
        for budget in budgets:
            for kind in kinds if budget is None else ("z", "state", "state_z"):
                self.places[kind, budget] = list(range(len(wanted), len(wanted) + len(kinds[kind])))
                wanted += [probes.Probe(variant, split.labels(budget)) for variant in kinds[kind]]
            # a probe of state and z may give one of them no weight at all
            self.places["state_z", budget] += self.places["z", budget] + self.places["state", budget]
        self.fitted = probes.fit_probes(wanted, self.targets, self.columns, split.test)

    def nonlinear(self, kind: str, budget: int | None, g: int) -> Tensor:
        """What each test row adds to the score of cause g, (m,)."""
        places = self.places[kind, budget]
        best = places[int(self.fitted.loss[places, g].argmin())]
        return self.causes[g].rows(self.fitted.predicted[best][:, self.columns == g], self.split.test)

    def linear(self, budget: int | None) -> Tensor:
        """Predictions from z by ridge regression on all labels of a budget, (m, Q)."""
        return probes.ridge(self.kinds["z"][0], self.targets, self.split.order[:budget], self.split.test)


class _Scores:
    """The keys of a pass."""

    def __init__(self, fits: _Fits, positions: Tensor) -> None:
        self.fits, self.positions, self.results = fits, positions, Results()

    def score_z(self, budget: int | None) -> None:
        """The three probes of z with so many labels."""
        linear = self.fits.linear(budget)
        at = "" if budget is None else f"@{budget}"
        for g, cause in enumerate(self.fits.causes):
            state = self.fits.nonlinear("state", budget, g)
            constant = cause.constant_rows(self.fits.split.test)
            foil = state if state.sum() > constant.sum() else constant
            rows = {
                f"{cause.score}_linear": cause.rows(linear[:, self.fits.columns == g], self.fits.split.test),
                f"{cause.score}_mlp": self.fits.nonlinear("z", budget, g),
                "gain": self.fits.nonlinear("state_z", budget, g) - foil,
            }
            for key, value in rows.items():
                self.results.metrics[f"{key}{at}/{cause.name}"] = value.sum().item()
                if budget is None:
                    of_clips = value.view(len(self.positions), -1).sum(dim=1) * len(self.positions)
                    self.results.clips[f"{key}/{cause.name}"] = (self.positions, of_clips)

    def score_controls(self) -> None:
        """What the same probes say where the answer is known."""
        for g, cause in enumerate(self.fits.causes):
            for kind in CONTROLS:
                self.results.metrics[f"{kind}/{cause.name}"] = self.fits.nonlinear(kind, None, g).sum().item()

    def score_codes(self, codes: Tensor) -> None:
        """Mutual information of codes (n, C) and causes."""
        from sklearn.metrics import normalized_mutual_info_score

        tuples = symbols(codes).numpy()
        for cause in self.fits.causes:
            score = normalized_mutual_info_score(cause.bins().numpy(), tuples)
            self.results.metrics[f"nmi/{cause.name}"] = float(score)
