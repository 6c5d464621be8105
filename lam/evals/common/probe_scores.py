"""Scores of the probes of a validation pass, by key."""

from __future__ import annotations

from torch import Tensor

from lam.evals.base import Results
from lam.evals.common.probe_fits import CONTROLS, ProbeFits
from lam.metrics.entropy import symbols

CEILING_MARGIN = 0.05
"""A ceiling is too low where the probe of z, or of state and z, scores higher by more than this, in R² or balanced accuracy."""


class ProbeScores:
    """Scores of probes, by key.

    Args:
        fits: The probes.
        positions: Positions of the test clips, (n,).
        is_state: Names of labels that are recorded state, which have no gain given that state.
    """

    def __init__(self, fits: ProbeFits, positions: Tensor, is_state: frozenset[str]) -> None:
        self.fits, self.positions, self.results = fits, positions, Results()
        self.with_oracle = [fits.has_ground_truth and factor.label not in is_state for factor in fits.factors]

    def score_z(self, budget: int | None) -> None:
        """Score the probes of z with so many labels, with all labels also of z as it is drawn and given recorded state."""
        suffix = "" if budget is None else f"@{budget}"
        for key, value in self._of_z("z", budget).items():
            self._add(key.replace("/", f"{suffix}/", 1), value, with_clips=budget is None)

    def score_drawn(self) -> None:
        """Score z as it is drawn, where that differs from z; elsewhere the numbers are those of z."""
        drawn = self._of_z("z_drawn" if self.fits.draws_differ else "z", None)
        for key, value in drawn.items():
            self._add(key.replace("/", "_drawn/", 1), value, with_clips=True)

    def score_controls(self) -> None:
        """Score the same probes of inputs for which the answer is known, and say where the ceiling is none."""
        metrics = self.results.metrics
        for g, factor in enumerate(self.fits.factors):
            controls = ["state", *CONTROLS, *(["oracle"] if self.with_oracle[g] else [])]
            metrics |= {f"{kind}/{factor.name}": self._score(kind, g) for kind in controls}
            kinds = ("z", "state_z", "oracle_z") if self.with_oracle[g] else ("z", "state_z")
            highest = max(metrics[f"{factor.score}_linear/{factor.name}"], *(self._score(kind, g) for kind in kinds))
            metrics[f"ceiling_low/{factor.name}"] = float(metrics[f"pair/{factor.name}"] < highest - CEILING_MARGIN)

    def score_codes(self, codes: Tensor) -> None:
        """Compute the mutual information of codes (n, C) and factors."""
        from sklearn.metrics import normalized_mutual_info_score

        tuples = symbols(codes).numpy()
        for factor in self.fits.factors:
            score = normalized_mutual_info_score(factor.bins().numpy(), tuples)
            self.results.metrics[f"nmi/{factor.name}"] = float(score)

    def _of_z(self, z: str, budget: int | None) -> dict[str, Tensor]:
        """Compute what each test row adds to the scores of z by key, (m,) each."""
        linear = self.fits.linear(z, budget)
        found = {}
        for g, factor in enumerate(self.fits.factors):
            own = linear[:, self.fits.factor_of_target == g]
            found[f"{factor.score}_linear/{factor.name}"] = factor.contributions(own, self.fits.split.test)
            found[f"{factor.score}_mlp/{factor.name}"] = self.fits.nonlinear(z, budget, g)
            found[f"gain/{factor.name}"] = self._gain("state", z, budget, g)
            if budget is None and self.with_oracle[g]:
                found[f"gain_oracle/{factor.name}"] = self._gain("oracle", z, budget, g)
        return found

    def _gain(self, state: str, z: str, budget: int | None, g: int) -> Tensor:
        """Compute what each test row adds to the gain of z over the state, or over the best constant, (m,)."""
        alone = self.fits.nonlinear(state, budget, g)
        constant = self.fits.factors[g].constant_contributions(self.fits.split.test)
        return self.fits.nonlinear(f"{state}_{z}", budget, g) - (alone if alone.sum() > constant.sum() else constant)

    def _score(self, kind: str, g: int) -> float:
        """Compute the score of factor g by the best nonlinear probe of a kind with all labels."""
        return self.fits.nonlinear(kind, None, g).sum().item()

    def _add(self, key: str, value: Tensor, with_clips: bool) -> None:
        """Add a score to the results, and what each test clip adds to it."""
        self.results.metrics[key] = value.sum().item()
        if with_clips:
            of_clips = value.view(len(self.positions), -1).sum(dim=1) * len(self.positions)
            self.results.clips[key] = (self.positions, of_clips)
