"""E6, distractors: which factors a linear latent action model of the same clips would carry, known in closed form.

The rest of E6 is E5 over the worlds of experiments/worlds/distractors-*.yaml: the gain of the action and of the distractor,
drawn on the same axes. https://arxiv.org/abs/2506.15691 says why: without labels a latent of k numbers takes the k largest
directions of change, so large distractors displace the action unless they move with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from typing_extensions import override

from lam.evals.base import Evaluation, Results
from lam.evals.common.factors import ContinuousFactor, ground_truth_factors
from lam.evals.common.split import HOLD_BACK, Split, fit_half, too_few_to_fit
from lam.metrics.dimensionality import fit_linear_model
from lam.metrics.probes import ridge
from lam.models.base import Observation, WorldModel


class Distractors(Evaluation):
    """Predict continuous factors from the principal components of the state's change, without the trained model.

    Keys: ``linear_r2@<k>/<factor>``, R² by ridge regression from k numbers, directions and regression fitted on half
    of the sources and scored on the other half; they have values of single test clips, whose mean is the key. The same for
    all runs on the same states. Curves: ``variances``, the share of the change's variance along each direction.

    There are no keys where clips have no labels or come from too few sources.

    Args:
        sizes: Numbers k of a latent.
        num_clips: Clips used, at most.
    """

    name: ClassVar[str] = "distractors"

    def __init__(self, sizes: Sequence[int] = (1, 2, 4, 8, 16), num_clips: int = 512) -> None:
        super().__init__()
        self.sizes = sizes
        self.num_clips = num_clips

    @override
    def prepare(self, model: WorldModel) -> None:
        model.clip_buffer.require(self.num_clips)

    @override
    def reset(self) -> None:
        pass  # the model empties the clip buffer itself

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        pass  # the model fills the clip buffer itself

    @override
    def compute(self, model: WorldModel) -> Results:
        clips = model.clip_buffer.clips(self.num_clips)
        if clips is None or not clips.labels:
            return Results(skipped="needs recorded factors, the shards have none")
        ascending = clips.position.argsort()
        states, position = clips.states[ascending].float(), clips.position[ascending]
        changes = (states[:, 1:] - states[:, :-1]).flatten(2).flatten(0, 1)
        fit = fit_half(clips.source[ascending])
        split = Split(position, fit, ~fit, states.shape[1] - 1)
        if split.num_clips < HOLD_BACK or not len(split.test):
            return Results(skipped=too_few_to_fit(clips.source, split))
        labels = {name: value[ascending].flatten(0, 1) for name, value in clips.labels.items()}
        factors = [
            factor for factor in ground_truth_factors(labels, split.order, split.test) if isinstance(factor, ContinuousFactor)
        ]
        linear = fit_linear_model(changes[split.order], max(self.sizes))
        total = changes[split.order].double().var(dim=0, correction=0).sum()
        results = Results(curves={"variances": (linear.variances / total).tolist()})
        for k in self.sizes:
            z = linear.latents(changes, k)
            for factor in factors:
                rows = factor.contributions(ridge(z, factor.targets, split.order, split.test), split.test)
                of_clips = rows.view(len(split.test_clips), -1).sum(dim=1) * len(split.test_clips)
                key = f"linear_r2@{k}/{factor.name}"
                results.metrics[key] = rows.sum().item()
                results.clips[key] = (position[split.test_clips], of_clips)
        return results
