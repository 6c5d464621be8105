"""Probes of a validation pass, all fitted at once, and their scores."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lam.evals.base import Results
from lam.evals.common.factors import GroundTruthFactor
from lam.evals.common.split import Split
from lam.metrics import probes
from lam.metrics.dimensionality import principal_components
from lam.metrics.entropy import symbols

STATE_SCALES = (1.0, 0.1)
"""Scales of state inputs, that is penalties of their own; the better one on the labels held back is taken."""

CONTROLS = ("state", "next_state", "shuffled", "projection", "pair")


def probe_inputs(states: Tensor, z: Tensor, fit: Tensor, components: int) -> dict[str, list[Tensor]]:
    """Compute the inputs of each kind of probe, (n * (T-1), d) each, in variants to be chosen by the labels held back.

    Args:
        states: Sketches of states, (n, T, S).
        z: Latents after the bottleneck, (n, T-1, L * A).
        fit: Indices of the transitions for fitting.
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
    """Shift and scale rows (n, d) to mean 0 and variance 1 over some of them; what does not vary there becomes 0."""
    mean, std = x[fit].mean(dim=0), x[fit].std(dim=0, correction=0)
    varies = std > 1e-6 * mean.abs().clamp(min=1e-6)
    return torch.where(varies, (x - mean) / torch.where(varies, std, 1.0), 0.0)


class ProbeFits:
    """All probes of a validation pass, fitted at once."""

    def __init__(
        self, kinds: dict[str, list[Tensor]], split: Split, factors: list[GroundTruthFactor], budgets: list[int | None]
    ) -> None:
        self.kinds, self.split, self.factors, self.budgets = kinds, split, factors, budgets
        self.targets = torch.cat([factor.targets for factor in factors], dim=1)
        self.factor_of_target = torch.cat([torch.full((factor.targets.shape[1],), g) for g, factor in enumerate(factors)])
        self.indices: dict[tuple[str, int | None], list[int]] = {}
        inputs: list[probes.ProbeInputs] = []
        for budget in budgets:
            for kind in kinds if budget is None else ("z", "state", "state_z"):
                self.indices[kind, budget] = list(range(len(inputs), len(inputs) + len(kinds[kind])))
                inputs += [probes.ProbeInputs(variant, split.labels(budget)) for variant in kinds[kind]]
            # a probe of state and z may ignore one of them, so it is at least as good as that of the other
            self.indices["state_z", budget] += self.indices["z", budget] + self.indices["state", budget]
        self.fitted = probes.fit_probes(inputs, self.targets, self.factor_of_target, split.test)

    def nonlinear(self, kind: str, budget: int | None, g: int) -> Tensor:
        """Compute what each test row adds to the score of factor g by the best nonlinear probe of a kind, (m,)."""
        indices = self.indices[kind, budget]
        best = indices[int(self.fitted.loss[indices, g].argmin())]
        return self.factors[g].contributions(self.fitted.predicted[best][:, self.factor_of_target == g], self.split.test)

    def linear(self, budget: int | None) -> Tensor:
        """Predict targets (m, Q) from z by ridge regression on all labels of a budget."""
        return probes.ridge(self.kinds["z"][0], self.targets, self.split.order[:budget], self.split.test)


class ProbeScores:
    """Scores of the probes of a validation pass, by key."""

    def __init__(self, fits: ProbeFits, positions: Tensor) -> None:
        self.fits, self.positions, self.results = fits, positions, Results()

    def score_z(self, budget: int | None) -> None:
        """Score the three probes of z with so many labels."""
        linear = self.fits.linear(budget)
        suffix = "" if budget is None else f"@{budget}"
        for g, factor in enumerate(self.fits.factors):
            state = self.fits.nonlinear("state", budget, g)
            constant = factor.constant_contributions(self.fits.split.test)
            control = state if state.sum() > constant.sum() else constant
            rows = {
                f"{factor.score}_linear": factor.contributions(
                    linear[:, self.fits.factor_of_target == g], self.fits.split.test
                ),
                f"{factor.score}_mlp": self.fits.nonlinear("z", budget, g),
                "gain": self.fits.nonlinear("state_z", budget, g) - control,
            }
            for key, value in rows.items():
                self.results.metrics[f"{key}{suffix}/{factor.name}"] = value.sum().item()
                if budget is None:
                    of_clips = value.view(len(self.positions), -1).sum(dim=1) * len(self.positions)
                    self.results.clips[f"{key}/{factor.name}"] = (self.positions, of_clips)

    def score_controls(self) -> None:
        """Score the same probes of inputs for which the answer is known."""
        for g, factor in enumerate(self.fits.factors):
            for kind in CONTROLS:
                self.results.metrics[f"{kind}/{factor.name}"] = self.fits.nonlinear(kind, None, g).sum().item()

    def score_codes(self, codes: Tensor) -> None:
        """Compute the mutual information of codes (n, C) and factors."""
        from sklearn.metrics import normalized_mutual_info_score

        tuples = symbols(codes).numpy()
        for factor in self.fits.factors:
            score = normalized_mutual_info_score(factor.bins().numpy(), tuples)
            self.results.metrics[f"nmi/{factor.name}"] = float(score)
