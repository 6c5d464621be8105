"""Probes of a validation pass, all fitted, and the predictions of the best of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from lam.evals.common.factors import GroundTruthFactor
from lam.evals.common.ground_truth import ground_truth_inputs
from lam.evals.common.split import Split
from lam.metrics import probes
from lam.metrics.dimensionality import count_sketch, principal_components
from lam.metrics.kernels import KernelInputs, Prediction, fit_kernels
from lam.metrics.memo import remember
from lam.metrics.state_reader import NUM_FEATURES, read_states

STATE_SCALES = (1.0, 0.1)
"""Scales of state inputs, that is penalties of their own; the better one on the labels held back is taken."""

SKETCH_DIM = 256
"""Width to which states are projected by a fixed random map before their principal components are taken."""

_fit_without_latents = remember(results=64)(fit_kernels)
"""Of a table's rows, which see the same states."""

EVERY_BUDGET = ("z", "state", "state_z")
CONTROLS = ("next_state", "shuffled", "projection", "pair")


class ProbeData(NamedTuple):
    """What probes of n clips are fitted on.

    Attributes:
        pictures: States as pictures, (n, T, C, h, w).
        z: Latents after the bottleneck, (n, T-1, d).
        z_drawn: Latents that pass the channel, (n, T-1, d).
        ground_truth: Recorded state by name, (n * (T-1), ...); empty where none is recorded.
        components: Principal components of a state.
    """

    pictures: Tensor
    z: Tensor
    z_drawn: Tensor
    ground_truth: Mapping[str, Tensor]
    components: int


class ProbeFits:
    """All probes of a validation pass.

    A probe of state and z may ignore one of them, so it is at least as good as that of the other.

    Args:
        data: What they are fitted on.
        split: Transitions for fitting and for testing.
        factors: What they predict.
        budgets: Numbers of labels to fit with, None for all.
        controls: Fit controls too.
    """

    def __init__(
        self, data: ProbeData, split: Split, factors: list[GroundTruthFactor], budgets: list[int | None], controls: bool = True
    ) -> None:
        self.split, self.factors, self.budgets, self.controls = split, factors, budgets, controls
        self.targets = torch.cat([factor.targets for factor in factors], dim=1)
        self.factor_of_target = torch.cat([torch.full((factor.targets.shape[1],), g) for g, factor in enumerate(factors)])
        self.draws_differ = not torch.equal(data.z, data.z_drawn)
        self.z = {"z": probes.standardize(data.z.flatten(0, 1), split.order)}
        if self.draws_differ:
            self.z["z_drawn"] = probes.standardize(data.z_drawn.flatten(0, 1), split.order)
        features = read_states(data.pictures, self.targets, split.labels(), self.factor_of_target)
        ground_truth = ground_truth_inputs(data.ground_truth, split.order)
        self.has_ground_truth = ground_truth is not None
        self.fitted: dict[tuple[str, int | None], list[Prediction]] = {}
        self._fit_networks(self._network_inputs(data, features))
        self._fit_kernels(self._kernel_inputs(features, ground_truth))
        for budget in budgets:
            for z in self.z:
                for state in ("state", "oracle"):
                    if (state, budget) in self.fitted and (z, budget) in self.fitted:
                        self.fitted[f"{state}_{z}", budget] += self.fitted[z, budget] + self.fitted[state, budget]

    def nonlinear(self, kind: str, budget: int | None, g: int) -> Tensor:
        """Compute what each test row adds to the score of factor g by the best nonlinear probe of a kind, (m,)."""
        best = min(self.fitted[kind, budget], key=lambda prediction: float(prediction.loss[g]))
        return self.factors[g].contributions(best.predicted[:, self.factor_of_target == g], self.split.test)

    def linear(self, kind: str, budget: int | None) -> Tensor:
        """Predict targets (m, Q) from z by ridge regression on all labels of a budget."""
        return probes.ridge(self.z[kind], self.targets, self.split.order[:budget], self.split.test)

    def _network_inputs(self, data: ProbeData, features: Tensor) -> dict[str, list[Tensor]]:
        """Return inputs of networks, (n * (T-1), d) each, for each kind of probe, in variants."""
        fit, generator = self.split.order, Generator().manual_seed(0)
        sketch = count_sketch(data.pictures.float().flatten(2).flatten(0, 1), SKETCH_DIM).unflatten(0, features.shape[:2])
        before, after = sketch[:, :-1].flatten(0, 1), sketch[:, 1:].flatten(0, 1)
        state, next_state = principal_components(torch.cat([before, after]), fit, data.components).chunk(2)
        change = principal_components(after - before, fit, data.components)
        both = torch.cat([before, after], dim=1)
        z = self.z["z"]
        directions = torch.randn(both.shape[1], z.shape[1], generator=generator)
        read = probes.standardize(torch.cat([features[:, :-1], features[:, 1:]], dim=2).flatten(0, 1), fit)
        inputs = {
            **{name: [values] for name, values in self.z.items()},
            "state": [scale * state for scale in STATE_SCALES],
            **{f"state_{name}": [torch.cat([scale * state, x], dim=1) for scale in STATE_SCALES] for name, x in self.z.items()},
            "next_state": [next_state, read[:, NUM_FEATURES:]],
            "shuffled": [z[torch.randperm(len(z), generator=generator)]],
            "projection": [probes.standardize(both @ directions, fit)],
            "pair": [*(torch.cat([scale * state, change], dim=1) for scale in STATE_SCALES), read],
        }
        inputs["state"].append(read[:, :NUM_FEATURES])
        return inputs

    def _kernel_inputs(self, features: Tensor, ground_truth: KernelInputs | None) -> dict[str, KernelInputs]:
        """Return inputs of kernel probes for each kind: what the reader sees in states, recorded state, and z."""
        before, after = features[:, :-1].flatten(0, 1), features[:, 1:].flatten(0, 1)
        state = KernelInputs(before)
        inputs = {"state": state, "next_state": KernelInputs(after), "pair": KernelInputs(torch.cat([before, after], dim=1))}
        inputs |= {f"state_{name}": state._replace(z=z) for name, z in self.z.items()}
        if ground_truth is not None:
            inputs["oracle"] = ground_truth
            inputs |= {f"oracle_{name}": ground_truth._replace(z=z) for name, z in self.z.items()}
        return inputs

    def _fit_networks(self, kinds: dict[str, list[Tensor]]) -> None:
        """Fit all networks at once."""
        inputs: list[probes.ProbeInputs] = []
        indices: dict[tuple[str, int | None], list[int]] = {}
        for budget in self.budgets:
            for kind in self._kinds(kinds, budget):
                indices[kind, budget] = list(range(len(inputs), len(inputs) + len(kinds[kind])))
                inputs += [probes.ProbeInputs(variant, self.split.labels(budget)) for variant in kinds[kind]]
        predicted, loss = probes.fit_probes(inputs, self.targets, self.factor_of_target, self.split.test)
        for key, own in indices.items():
            self.fitted[key] = [Prediction(predicted[i], loss[i]) for i in own]

    def _fit_kernels(self, kinds: dict[str, KernelInputs]) -> None:
        """Fit one kernel probe after another."""
        for budget in self.budgets:
            for kind in self._kinds(kinds, budget):
                labels = self.split.labels(budget)
                fit = fit_kernels if kinds[kind].z is not None else _fit_without_latents
                found = fit(kinds[kind], self.targets, labels, self.factor_of_target, self.split.test)
                self.fitted.setdefault((kind, budget), []).append(found)

    def _kinds(self, kinds: Iterable[str], budget: int | None) -> list[str]:
        """List the kinds, of some, that are fitted with so many labels."""
        if budget is not None:
            return [kind for kind in kinds if kind in EVERY_BUDGET]
        return [kind for kind in kinds if self.controls or kind not in CONTROLS]
