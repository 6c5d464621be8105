"""E5, probe: which ground-truth factors can be predicted from z, beyond what one state already tells.

The score of a probe alone means nothing: where the action is a function of the state, z predicts it by copying the state.
So the gain over the state comes first, and controls show what the score would be if z carried nothing, or everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from torch import Tensor
from typing_extensions import override

from lam.evals.base import Evaluation, Results
from lam.evals.common.factors import ground_truth_factors
from lam.evals.common.probe_fits import ProbeFits, ProbeScores, probe_inputs
from lam.evals.common.split import HOLD_BACK, Split, fit_half, fit_values
from lam.metrics.dimensionality import count_sketch
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import ClipSample, source_ids
from lam.runs.columns import Column

SKETCH_DIM = 256
"""Width to which states are projected by a fixed random map before they are kept."""

LABEL = "label/"
T = TypeVar("T")


class Probe(Evaluation):
    """Predict ground-truth factors from z and from controls, fitted on half of the sources and scored on the other half.

    Sources, sorted by the hash of their name, go to the two halves in turn. Probes are linear (ridge regression) or
    nonlinear (a small network on top of ridge regression). The score is R² for continuous factors (of a field of more than
    16 numbers their mean R²), for discrete ones the balanced accuracy. States are reduced to principal components of the
    fitting half.

    Keys, each followed by ``/<factor>``: ``r2_linear`` and ``r2_mlp`` from z (``accuracy_linear``, ``accuracy_mlp`` for
    discrete factors); ``gain``, the nonlinear score of state and z together minus that of the state, or of the best
    constant where that is better (R² 0, or one in the number of classes). These three also as ``<key>@<labels>/<factor>``
    with fewer labels, of which those held back to stop early are part. Controls, nonlinear with all labels: ``state``,
    ``next_state``, ``shuffled`` (z of other transitions), ``projection`` (random directions of the pair of states, as
    many as z has) and ``pair`` (state and difference: the ceiling of such probes). ``nmi``, for discrete latents:
    normalized mutual information of code tuple and factor (continuous factors in eight bins); it grows by chance as
    tuples grow rare. The first three keys have values of single test clips, whose mean is the key.

    Where a domain is recorded the linear scores and the gain come once more as ``<kind>_transferred``, fitted on clips of
    some bodies, cameras or scenes and tested on clips of others, by the same split of sources: what still holds there does
    not depend on appearance.

    There are no keys where clips have no labels or come from too few sources; a factor that does not vary has none.

    Args:
        components: Principal components of a state.
        budgets: Numbers of labels to try besides all; those that are not there are left out.
        max_clips: Clips used, at most.
        domains: Names of discrete factors that say which body, camera or scene a clip shows; the first that is recorded counts.
    """

    name: ClassVar[str] = "probe"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "gain/*",
            "gain *",
            digits=2,
            better=1,
            explanation="R² (balanced accuracy where a factor is discrete) of a factor from state and latent action together "
            "less that from the state alone; `table.csv` has all factors",
            order=400,
            brief=True,
            matched="too",
        ),
        Column(
            "r2_linear/*",
            "R² of z *",
            digits=2,
            better=1,
            explanation="the same factor from the latent action alone, linearly",
            order=410,
            matched="too",
            most=2,
        ),
    )

    def __init__(
        self,
        components: int = 32,
        budgets: Sequence[int] = (16, 64, 256, 1024),
        max_clips: int = 4096,
        domains: Sequence[str] = ("agent_body", "pose"),
    ) -> None:
        super().__init__()
        self.domains = domains
        self.components = components
        self.budgets = budgets
        self.max_clips = max_clips
        self.reset()

    @override
    def reset(self) -> None:
        self.sample = ClipSample(self.max_clips)

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        clip, states, output = observation.clip, observation.states, observation.bottleneck_output
        labels = clip.labels(model.encoder.frames_per_state)
        if not labels:
            return
        sketch = count_sketch(states.float().flatten(2).flatten(0, 1), SKETCH_DIM).unflatten(0, states.shape[:2])
        values = {"state": sketch, "z": output.z.float().flatten(2), "source": source_ids(clip.source)}
        if output.codes is not None:
            values["codes"] = output.codes
        self.sample.add(clip.position, values | {LABEL + name: value for name, value in labels.items()})

    @override
    def compute(self, model: WorldModel) -> Results:
        positions, values = self.sample.gather()
        if not len(positions):
            return Results()
        labels = {name.removeprefix(LABEL): value for name, value in values.items() if name.startswith(LABEL)}
        fit = fit_half(values["source"])
        scores = self._scores(positions, values, labels, fit, ~fit)
        if scores is None:
            return Results()
        for budget in scores.fits.budgets:
            scores.score_z(budget)
        scores.score_controls()
        if "codes" in values:
            scores.score_codes(values["codes"].flatten(0, 1))
        domain = next((name for name in self.domains if name in labels), None)
        if domain is not None:
            transferred = self._transferred(positions, values, labels, domain)
            scores.results.metrics |= transferred.metrics
            scores.results.clips |= transferred.clips
        return scores.results

    def _scores(
        self, positions: Tensor, values: dict[str, Tensor], labels: dict[str, Tensor], fit: Tensor, test: Tensor
    ) -> ProbeScores | None:
        """Fit probes on some clips, (n,) bool, to be scored on others, (n,) bool; None where there are too few."""
        split = Split(positions, fit, test, values["z"].shape[1])
        if split.num_clips < HOLD_BACK or not len(split.test):
            return None
        factors = ground_truth_factors({name: value.flatten(0, 1) for name, value in labels.items()}, split.order, split.test)
        if not factors:
            return None
        kinds = probe_inputs(values["state"], values["z"], split.order, self.components)
        budgets: list[int | None] = [budget for budget in self.budgets if budget < len(split.order)]
        return ProbeScores(ProbeFits(kinds, split, factors, [*budgets, None]), positions[split.test_clips])

    def _transferred(self, positions: Tensor, values: dict[str, Tensor], labels: dict[str, Tensor], name: str) -> Results:
        """Compute linear scores and gains on bodies, cameras or scenes that were not fitted on."""
        domain = labels[name][:, 0]
        if (labels[name] != domain[:, None]).any():
            raise ValueError(
                f"The factor {name!r} changes within clips, so it is no domain. Leave it out of the probe's domains."
            )
        known, half = fit_values(domain), fit_half(values["source"])
        scores = self._scores(positions, values, labels, known & half, ~known & ~half)
        if scores is None:
            return Results()
        for budget in scores.fits.budgets:
            scores.score_z(budget)
        found = scores.results
        return Results(metrics=_renamed(found.metrics), clips=_renamed(found.clips))


def _renamed(found: dict[str, T]) -> dict[str, T]:
    """Rename linear scores and gains from ``<kind>...`` to ``<kind>_transferred...``."""
    return {
        key.replace(kind, f"{kind}_transferred", 1): value
        for key, value in found.items()
        for kind in ("r2_linear", "accuracy_linear", "gain")
        if key.startswith(kind)
    }
