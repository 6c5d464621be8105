"""E5, probe: which ground-truth factors can be predicted from z, beyond what one state already tells.

The score of a probe alone means nothing: where the action is a function of the state, z predicts it by copying the state.
So the gain over the state comes first, and controls show what the score would be if z carried nothing, or everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from torch import Tensor
from typing_extensions import override

from lam.distributed import gather_objects
from lam.evals.base import Evaluation, Results
from lam.evals.common.factors import ground_truth_factors
from lam.evals.common.ground_truth import recorded_state
from lam.evals.common.probe_fits import ProbeData, ProbeFits
from lam.evals.common.probe_scores import ProbeScores
from lam.evals.common.split import HOLD_BACK, Split, fit_half, fit_values, too_few_to_fit
from lam.evals.common.state_pictures import state_pictures
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import ClipSample, source_ids
from lam.runs.columns import Column

LABEL = "label/"
T = TypeVar("T")


class Probe(Evaluation):
    """Predict ground-truth factors from z and from controls, fitted on half of the sources and scored on the other half.

    Sources, sorted by the hash of their name, go to the two halves in turn. Probes are linear (ridge regression) or
    nonlinear (a small network on top of ridge regression). The score is R² for continuous factors (of a field of more than
    16 numbers their mean R²), for discrete ones the balanced accuracy.

    A probe of the state is whichever does best on labels held back: a network on principal components of the state, or one on,
    or a kernel method of, the features of a small convolutional network that is trained on the fitting half to predict all
    factors from the pair of states. Of state and z together the kernel is a product, so what z says may depend on the state in
    any way. States are pictures here, of pixels where the encoder shows pixels, else of tokens, and at most 32 KiB are kept of
    each.

    Keys, each followed by ``/<factor>``: ``r2_linear`` and ``r2_mlp`` from z (``accuracy_linear``, ``accuracy_mlp`` for
    discrete factors); ``gain``, the nonlinear score of state and z together minus that of the state, or of the best
    constant where that is better (R² 0, or one in the number of classes). These three also as ``<key>@<labels>/<factor>``
    with fewer labels, of which those held back to stop early are part; the convolutional network has learned from all.
    ``gain_oracle``: the same gain given the state as it was recorded in the place of states; recorded state is what is counted
    before a step (aggregation ``first``, as locations are) and the domains, and has no such gain itself. All four also as
    ``<key>_drawn``, of z as it passes the channel, fitted and tested on draws.

    Controls, nonlinear with all labels: ``state``, ``oracle`` (recorded state alone), ``next_state``, ``shuffled`` (z of other
    transitions), ``projection`` (random directions of the pair of states, as many as z has) and ``pair`` (both states: the
    ceiling of such probes). ``ceiling_low`` is 1 where the ceiling lies below what was measured with z by more than 0.05, so
    that it bounds nothing and the gain may be that of a probe which cannot see, else 0. ``nmi``, for discrete latents:
    normalized mutual information of code tuple and factor (continuous factors in eight bins); it grows by chance as
    tuples grow rare. Scores of z and gains with all labels have values of single test clips, whose mean is the key.

    Where a domain is recorded the linear scores and the gain with all labels come once more as ``<kind>_transferred``, fitted
    on clips of some bodies, cameras or scenes and tested on clips of others, by the same split of sources: what still holds
    there does not depend on appearance.

    There are no keys where clips have no labels or come from too few sources; a factor that does not vary has none.

    Args:
        components: Principal components of a state.
        budgets: Numbers of labels to try besides all; those that are more than half of all are left out.
        max_clips: Clips used, at most.
        domains: Names of discrete factors that say which body, camera or scene a clip shows; the first that is recorded is that
            of transferred scores.
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
            doubt="ceiling_low/*",
        ),
        Column(
            "gain_drawn/*",
            "gain, drawn *",
            digits=2,
            better=1,
            explanation="the same of latents as they pass the channel, with its noise",
            order=402,
            brief=True,
            matched="too",
            most=2,
            doubt="ceiling_low/*",
        ),
        Column(
            "gain_oracle_drawn/*",
            "gain given the true state, drawn *",
            digits=2,
            better=1,
            explanation="the same, the recorded state in the place of what a probe sees of it: what a latent action says "
            "to whoever knows the state exactly",
            order=404,
            matched="too",
            most=2,
        ),
        Column(
            "r2_linear/*",
            "R² of z *",
            digits=2,
            better=1,
            explanation="the same factor from the latent action alone, linearly",
            order=410,
            most=2,
        ),
        Column(
            "r2_linear_drawn/*",
            "R² of z, drawn *",
            digits=2,
            better=1,
            explanation="the same of latents as they pass the channel",
            order=412,
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
        self.state_names: set[str] = set()

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        clip, states, output = observation.clip, observation.states, observation.bottleneck_output
        labels = clip.labels(model.encoder.frames_per_state)
        if not labels:
            return
        self.state_names |= set(recorded_state(clip, self.domains))
        values = {
            "state": state_pictures(states, model.encoder),
            "z": output.z.float().flatten(2),
            "z_drawn": observation.z_drawn.float().flatten(2),
            "source": source_ids(clip.source),
        }
        if output.codes is not None:
            values["codes"] = output.codes
        self.sample.add(clip.position, values | {LABEL + name: value for name, value in labels.items()})

    @override
    def compute(self, model: WorldModel) -> Results:
        self.state_names = set().union(*gather_objects(sorted(self.state_names)))
        positions, values = self.sample.gather()
        if not len(positions):
            return Results(skipped="needs recorded actions or factors, the shards have none")
        labels = {name.removeprefix(LABEL): value for name, value in values.items() if name.startswith(LABEL)}
        fit = fit_half(values["source"])
        scores = self._scores(positions, values, labels, fit, ~fit)
        if scores is None:
            too_few = too_few_to_fit(values["source"], Split(positions, fit, ~fit, values["z"].shape[1]))
            return Results(skipped=too_few or "needs actions or factors that vary, those of the shards do not")
        for budget in scores.fits.budgets:
            scores.score_z(budget)
        scores.score_drawn()
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
        self,
        positions: Tensor,
        values: dict[str, Tensor],
        labels: dict[str, Tensor],
        fit: Tensor,
        test: Tensor,
        transferred: bool = False,
    ) -> ProbeScores | None:
        """Fit probes on some clips, (n,) bool, to be scored on others, (n,) bool; None where there are too few.

        Those of transferred scores have all labels and no controls.
        """
        split = Split(positions, fit, test, values["z"].shape[1])
        if split.num_clips < HOLD_BACK or not len(split.test):
            return None
        of_transitions = {name: value.flatten(0, 1) for name, value in labels.items()}
        factors = ground_truth_factors(of_transitions, split.order, split.test)
        if not factors:
            return None
        ground_truth = {name: of_transitions[name] for name in self.state_names}
        data = ProbeData(values["state"], values["z"], values["z_drawn"], ground_truth, self.components)
        fewer = [] if transferred else [budget for budget in self.budgets if 2 * budget <= len(split.order)]
        fits = ProbeFits(data, split, factors, [*fewer, None], controls=not transferred)
        return ProbeScores(fits, positions[split.test_clips], frozenset(self.state_names))

    def _transferred(self, positions: Tensor, values: dict[str, Tensor], labels: dict[str, Tensor], name: str) -> Results:
        """Compute linear scores and gains on bodies, cameras or scenes that were not fitted on."""
        domain = labels[name][:, 0]
        if (labels[name] != domain[:, None]).any():
            raise ValueError(
                f"The factor {name!r} changes within clips, so it is no domain. Leave it out of the probe's domains."
            )
        known, half = fit_values(domain), fit_half(values["source"])
        values = values | {"z_drawn": values["z"]}  # which are not scored here
        used = known == half
        values, labels = ({key: value[used] for key, value in each.items()} for each in (values, labels))
        fit = known[used]
        scores = self._scores(positions[used], values, labels, fit, ~fit, transferred=True)
        if scores is None:
            return Results()
        scores.score_z(None)
        found = scores.results
        return Results(metrics=_renamed(found.metrics), clips=_renamed(found.clips))


def _renamed(found: dict[str, T]) -> dict[str, T]:
    """Rename linear scores and gains from ``<kind>...`` to ``<kind>_transferred...``."""
    return {
        key.replace(kind, f"{kind}_transferred", 1): value
        for key, value in found.items()
        for kind in ("r2_linear", "accuracy_linear", "gain", "gain_oracle")
        if key.split("/")[0].split("@")[0] == kind
    }
