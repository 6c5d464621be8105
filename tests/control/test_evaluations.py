"""Controller error and planning where the truth is known: each action moves every token, and the exact controller says so."""

import pytest
import torch

from lam.control.base import ActionConditionedModel
from lam.control.controller_error import ControllerError
from lam.control.planners import CEM
from lam.control.planning import Planning
from lam.control.policies import Search
from lam.data.schema import ActionField, ActionStatistics
from lam.distributed import rank, world_size
from tests.evals.toy import ToyBottleneck, ToyModel, clips, evaluate, part
from tests.processes import run_processes

COUNT, STEPS = 9, 3


class UniformPrior(ToyBottleneck):
    def sample_prior(self, n, generator=None):
        return 0.4 * torch.rand(n, 1, 3, generator=generator) - 0.2


class Acting(ToyModel, ActionConditionedModel):
    """z is the movement; the controller knows it from the action, the blind one thinks that nothing ever moves."""

    action_fields = [ActionField("rgb", 3, "sum")]  # noqa: RUF012
    action_statistics = ActionStatistics([0.0] * 3, [0.12] * 3, [-0.2] * 3, [0.2] * 3, [0.0] * 3, [0.0] * 3)
    controllers = ("controller", "blind")
    horizon, labeled_clips = STEPS, 5

    def __init__(self):
        super().__init__()
        self.bottleneck = UniformPrior(3, 1)

    def infer(self, states):
        return 2 * super().infer(states)

    def run_controller(self, name, actions, states):
        return actions[:, None] * (name == "controller")

    def decode_actions(self, name, z, states):
        return z[:, 0] * (name == "action_decoder")

    def clone_actions(self, states, goals):
        return (goals - states).mean(dim=1)[:, None].expand(-1, STEPS, -1) / STEPS


def moving():
    clip = clips(COUNT, frames=STEPS + 1)
    generator = torch.Generator().manual_seed(3)
    actions = 0.4 * torch.rand(COUNT, STEPS, 3, generator=generator) - 0.2
    clip.factors = {"action": actions}
    base = 0.2 * torch.rand(COUNT, 1, 3, 8, 8, generator=generator)
    path = torch.cat([torch.zeros(COUNT, 1, 3), actions.cumsum(dim=1)], dim=1)
    clip.frames = (127.5 * (1 + base + path[..., None, None])).round().to(torch.uint8)
    return clip


def find_all():
    clip, model = moving(), Acting()
    seen = [model.validation_step(part(clip, i, i + 3)) for i in range(3 * rank(), COUNT, 3 * world_size())]
    planning = Planning(Search(CEM(num_samples=60, num_elites=8, num_iterations=12)), max_clips=7, ablation_clips=7)
    return {evaluation.name: evaluate(evaluation, *seen, model=model) for evaluation in (ControllerError(), planning)}


def test_the_exact_controller_loses_nothing_and_its_plans_are_the_truth():
    found = find_all()
    controller, planning = found["controller"].metrics, found["planning"].metrics
    assert controller["error@5"] < 0.05 * controller["blind@5"]  # what is left is the rounding of pixels
    assert controller["movement@5"] == pytest.approx(1, abs=0.02)
    assert controller["read@5/0"] > 0.99
    assert planning["error@5"] < 0.05
    assert planning["normalized@5"] < 0.1


def test_latents_that_pass_the_channel_noisily_are_worse_than_the_controller():
    metrics = find_all()["controller"].metrics
    assert metrics["inferred_drawn@5"] > metrics["inferred@5"] + 1  # noise of 0.5, a unit of 0.1
    assert metrics["ratio_drawn@5"] == pytest.approx(metrics["error@5"] / metrics["inferred_drawn@5"])
    assert metrics["ratio_drawn@5"] < 0.1


def test_a_controller_that_moves_nothing_plans_no_better_than_chance():
    found = find_all()
    controller, planning = found["controller"].metrics, found["planning"].metrics
    assert controller["movement_blind@5"] == 0
    assert controller["ratio_blind@5"] > 5
    assert controller["read_blind@5/0"] < 0.01
    assert planning["error_blind@5"] > 0.8 * planning["error_stay@5"]
    assert planning["error_chance@5"] > planning["error_stay@5"] > 0.3


def test_cloning_that_is_right_and_search_in_latent_space_find_the_way():
    planning = find_all()["planning"].metrics
    assert planning["error_clone@5"] < 0.02  # what is left is the rounding of pixels
    assert planning["error_latent@5"] < 0.3 * planning["error_stay@5"]


def test_costs_of_other_candidates_are_no_help():
    planning = find_all()["planning"].metrics
    assert planning["error_shuffled@5"] > 0.8 * planning["error_stay@5"]


def test_two_processes_find_what_one_finds(tmp_path):
    one, (left, right) = find_all(), run_processes(find_all, folder=tmp_path, timeout=150)
    for name, results in one.items():
        for found in (left[name], right[name]):
            assert found.metrics == pytest.approx(results.metrics, rel=1e-5, abs=1e-6), name
            assert found.clips.keys() == results.clips.keys()
            for key, pair in results.clips.items():
                torch.testing.assert_close(found.clips[key], pair)
