"""Controller error: how well known actions take the place of inferred latents, after arXiv 2601.05230, table S1."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from sklearn.metrics import r2_score
from torch import Tensor
from typing_extensions import override

from lam.control.base import as_action_conditioned
from lam.control.imagination import Imagination
from lam.evals.base import Evaluation, Results, cached_rollout, cached_rollout_drawn
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import ClipSample
from lam.runs.columns import Column

UNROLLED = ("error", "inferred", "inferred_drawn", "blind")
"""Keys of the kinds of latents that every row is unrolled with."""


class ControllerError(Evaluation):
    """Unroll held-out clips with the latents that controllers make of their recorded actions.

    From the first state alone, each action is turned into a latent in the state that was imagined last. Keys, all ``@`` the
    label budget in clips: ``error`` with the controller, ``inferred`` with the latents of the inverse model, which has seen
    the answer, ``ratio`` of both, ``inferred_drawn`` and ``ratio_drawn`` with what passed the channel in their place, latents
    drawn from the posterior (equal where nothing is drawn; the controller's own have no noise), ``error_codes`` where latents
    are codes, with the controller that chooses one, ``blind`` and ``ratio_blind`` with the controller that does not see the
    state, all of states averaged over the clip in units of the copy-last-state error; ``movement`` and ``movement_blind``, how
    far the last imagined state is from the first as a share of how far inferred latents take it; 0 where a controller's
    latents leave all in place.
    ``read/<number>`` and ``read_blind/<number>``: R2 of each number of the action from z, with and without the state.
    """

    name: ClassVar[str] = "controller"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "error@{labels}",
            "controller error",
            better=-1,
            explanation="held-out clips unrolled with latents that a controller makes of known actions, after training on "
            "{labels} labeled clips",
            order=700,
        ),
        Column(
            "ratio@{labels}",
            "controller ratio",
            digits=2,
            better=-1,
            explanation="controller error over the error with inferred latents",
            order=710,
        ),
        Column(
            "ratio_drawn@{labels}",
            "controller ratio drawn",
            digits=2,
            better=-1,
            explanation="controller error over the error with latents drawn from the posterior, as they pass the channel; "
            "below 1 where a controller is better than a noisy channel",
            order=711,
            matched="only",
        ),
        Column(
            "error@{labels}",
            "controller error",
            better=-1,
            explanation="with the latents that the controller makes of the recorded actions (1 = the last state repeated)",
            order=100,
            table="control",
            brief=True,
        ),
        Column(
            "error_codes@{labels}",
            "with codes classified",
            better=-1,
            explanation="the controller picks codes instead of regressing latents",
            order=110,
            table="control",
        ),
        Column(
            "inferred@{labels}",
            "inferred",
            explanation="with the latents of the inverse model, which has seen the answer",
            order=120,
            table="control",
        ),
        Column(
            "inferred_drawn@{labels}",
            "inferred, drawn",
            explanation="the same with latents drawn from the posterior, as they pass the channel",
            order=121,
            table="control",
        ),
        Column(
            "ratio@{labels}",
            "ratio",
            digits=2,
            explanation="controller error over the error with inferred latents",
            order=130,
            table="control",
            brief=True,
        ),
        Column(
            "ratio_blind@{labels}",
            "ratio, blind",
            digits=2,
            explanation="with a controller that does not see the state: where poses and cameras vary the same action is "
            "another latent each time, so it should fail",
            order=140,
            table="control",
        ),
        Column(
            "movement_blind@{labels}",
            "movement, blind",
            digits=2,
            explanation="how far the last state of a blind controller is from the first, as a share of how far inferred "
            "latents take it. A latent that is ignored has ratio and movement 1 and helps nobody",
            order=150,
            table="control",
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
        model = as_action_conditioned(model)
        states, z = observation.states, observation.bottleneck_output.z
        actions = observation.clip.labels(model.encoder.frames_per_state)["action"].to(states.device)
        first = states[:, :1]
        unrolled_with = {
            "inferred": cached_rollout(model, observation),
            "inferred_drawn": cached_rollout_drawn(model, observation),
        }
        controllers = {"error": "controller", "blind": "blind"}
        if "classifier" in model.controllers:
            controllers["error_codes"] = "classifier"
        for key, name in controllers.items():
            imagination = Imagination(model, partial(model.run_controller, name), states.shape[1] - 1)
            unrolled_with[key] = imagination(first, z[:, :0], actions[:, None])[:, 0]
        values = {key: model.error(imagined, states[:, 1:]).mean(dim=1) for key, imagined in unrolled_with.items()}
        for key, imagined in unrolled_with.items():
            values[f"moved_{key}"] = model.error(imagined[:, -1:], first)[:, 0]
        for name in ("action_decoder", "blind_action_decoder"):
            decoded = model.decode_actions(name, z.flatten(0, 1), states[:, :-1].flatten(0, 1))
            values[name] = decoded.unflatten(0, z.shape[:2])
        values["action"] = actions
        self.sample.add(observation.clip.position, {key: value.double() for key, value in values.items()})

    @override
    def compute(self, model: WorldModel) -> Results:
        model = as_action_conditioned(model)
        positions, values = self.sample.gather()
        if not len(positions):
            return Results()
        budget = f"@{model.labeled_clips}"
        clips: dict[str, Tensor] = {key: values[key] for key in (*UNROLLED, "error_codes") if key in values}
        results = Results(clips={key + budget: (positions, value) for key, value in clips.items()})
        means = {key: value.mean().item() for key, value in values.items() if value.ndim == 1}
        found: dict[str, float] = {key: means[key] for key in clips}
        found["ratio"] = means["error"] / means["inferred"]
        found["ratio_drawn"] = means["error"] / means["inferred_drawn"]
        found["ratio_blind"] = means["blind"] / means["inferred"]
        if means["moved_inferred"]:  # latents that are ignored move nothing, so there is nothing to compare with
            found["movement"] = means["moved_error"] / means["moved_inferred"]
            found["movement_blind"] = means["moved_blind"] / means["moved_inferred"]
        results.metrics = {key + budget: value for key, value in found.items()}
        recorded = values["action"].flatten(0, 1)
        for key, name in (("read", "action_decoder"), ("read_blind", "blind_action_decoder")):
            for number, column in enumerate(values[name].flatten(0, 1).unbind(dim=1)):
                if recorded[:, number].std():
                    results.metrics[f"{key}{budget}/{number}"] = float(r2_score(recorded[:, number], column))
        return results
