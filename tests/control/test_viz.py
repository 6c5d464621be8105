"""The visualization of plans: the plan is the evaluation's own, and captions are true."""

import io

import pytest
import torch
from PIL import Image

import lam.control.viz
from lam.control.base import ActionConditionedModel
from lam.control.planners import CEM
from lam.control.planning import Planning
from lam.control.policies import Search
from lam.control.viz import PlanVisualization
from lam.data.schema import ActionField, ActionStatistics
from tests.evals.toy import clips
from tests.viz.toy import Model, images, read_captions, validate

STEPS = 3


class Acting(Model, ActionConditionedModel):
    """Every token moves by z, and z is the action; the third number of an action never varied."""

    action_fields = [ActionField("rgb", 3, "sum")]  # noqa: RUF012
    action_statistics = ActionStatistics([0.0] * 3, [0.12, 0.12, 0.0], [-0.2] * 3, [0.2] * 3, [0.0] * 3, [0.0] * 3)
    controllers = ("controller", "blind")
    labeled_clips = 5

    def run_controller(self, name, actions, states):
        return actions[:, None].float()

    def decode_actions(self, name, z, states):
        return z[:, 0]

    def clone_actions(self, states, goals):
        return torch.zeros(len(states), STEPS, 3)


def moving(count=8, width=(0.2, 0.2, 0.0)):
    """Clips that move as their actions say."""
    generator = torch.Generator().manual_seed(3)
    actions = (2 * torch.rand(count, STEPS, 3, generator=generator) - 1) * torch.tensor(width)
    clip = clips(count, frames=STEPS + 1, factors={"action": actions})
    base = 0.2 * torch.rand(count, 1, 3, 8, 8, generator=generator)
    path = torch.cat([torch.zeros(count, 1, 3), actions.cumsum(dim=1)], dim=1)
    clip.frames = (127.5 * (1 + base + path[..., None, None])).round().to(torch.uint8)
    return torch.utils.data.DataLoader([clip], batch_size=None)


def planning():
    return Planning(Search(CEM(num_samples=60, num_elites=8, num_iterations=12)), max_clips=8)


@pytest.fixture
def said(monkeypatch):
    return read_captions(monkeypatch, lam.control.viz)


def numbers(said, unit):
    return [float(text.replace(unit, "")) for text in said if unit in text]


def test_a_picture_a_state_and_no_numbers(tmp_path, said):
    board = PlanVisualization(num_episodes=3)
    shown = images(validate(tmp_path, planning(), board, model=Acting(), data=moving()))
    file = (tmp_path / "boards" / "plan.gif").read_bytes()
    card = Image.open(io.BytesIO(shown["visual/plan"][0].encoded_image_string))
    picture = Image.open(io.BytesIO(file))
    assert (card.n_frames, card.height) == (picture.n_frames, picture.height)
    assert card.width < picture.width and card.width < 512  # the names of rows and two episodes
    assert (picture.format, picture.n_frames) == ("GIF", STEPS + 1)
    assert board.results.metrics == {} and board.results.curves["seconds"] > 0
    for text in ("goal", "recorded", "imagined: planned actions", "imagined: recorded actions", "state 4 of 4"):
        assert text in said
    assert said.count("start") == 3


def test_distances_to_the_goal_are_those_of_a_world_that_is_known(tmp_path, said):
    data, count = moving(), 4
    validate(tmp_path, planning(), PlanVisualization(count), model=Acting(), data=data)
    distances = torch.tensor(numbers(said, "to go ")).unflatten(0, (STEPS + 1, 3, count))  # state, row, episode
    recorded, planned, told = distances.unbind(dim=1)
    assert recorded[0].min() > 0.2  # there is a way to go
    assert not recorded[-1].any()
    assert planned[-1].max() <= 0.05  # in a world where everything can be reached
    torch.testing.assert_close(told, recorded, atol=0.06, rtol=0)  # the exact controller; what is left is rounding of pixels
    torch.testing.assert_close(planned[0], recorded[0])


class Deaf(Acting):
    """A world in which actions do nothing."""

    def run_controller(self, name, actions, states):
        return 0 * super().run_controller(name, actions, states)


def test_a_controller_that_moves_nothing_is_seen_to_go_nowhere(tmp_path, said):
    validate(tmp_path, planning(), PlanVisualization(4), model=Deaf(), data=moving())
    recorded, planned, told = torch.tensor(numbers(said, "to go ")).unflatten(0, (STEPS + 1, 3, 4)).unbind(dim=1)
    for imagined in (planned, told):
        torch.testing.assert_close(imagined, recorded[:1].expand_as(imagined))


class Asked(PlanVisualization):
    """Keeps what is imagined."""

    def imagine(self, model, episodes):
        self.states, self.apart = super().imagine(model, episodes)
        self.recorded = episodes.labels["action"]
        self.positions = episodes.position
        return self.states, self.apart


def test_the_plan_is_the_one_that_the_evaluation_judges(tmp_path, said):
    evaluation, board = planning(), Asked(num_episodes=4)
    validate(tmp_path, evaluation, board, model=Acting(), data=moving())
    positions, errors = evaluation.results.clips["error@5"]
    plan = board.states["imagined: planned actions"].diff(dim=1).mean(dim=2)  # what moved is what was done
    for place, position in enumerate(board.positions):
        off = (plan[place] - board.recorded[place]).sum(dim=0).abs().sum()
        torch.testing.assert_close(off.double(), errors[positions == position][0], atol=1e-4, rtol=0)
    expected = ((plan - board.recorded)[..., :2] / 0.12).square().mean(dim=-1).sqrt()  # the third number never varied
    torch.testing.assert_close(board.apart, expected, atol=1e-4, rtol=0)
    shown = torch.tensor([float(text[:-3]) for text in said if text.endswith(" sd")]).unflatten(0, (STEPS, 4))
    torch.testing.assert_close(shown.T, expected, atol=0.006, rtol=0)


def test_nothing_is_drawn_where_nothing_is_planned(tmp_path):
    assert images(validate(tmp_path, PlanVisualization(), model=Acting(), data=moving())) == {}
    assert not (tmp_path / "boards").exists()


def test_two_passes_draw_the_same_also_in_mixed_precision(tmp_path):
    for name in ("one", "other"):
        validate(tmp_path / name, planning(), PlanVisualization(2), model=Acting(), data=moving(), precision="bf16-mixed")
    files = [(tmp_path / name / "boards" / "plan.gif").read_bytes() for name in ("one", "other")]
    assert files[0] == files[1]
