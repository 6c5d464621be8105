"""Planners against problems whose answer is known."""

import math

import pytest
import torch

from lam.control.planners import CEM, ICEM, MPPI, GradientDescent, MeanAction, Problem, RandomPlan, StraightLines
from lam.control.planners.icem import color_matrix
from lam.control.policies import Search, initial_actions, make_problem
from lam.data.schema import ActionStatistics
from lam.encoders.base import StateShape
from lam.models.residual_mlp import ResidualMLP
from tests.evals.toy import ToyBottleneck, ToyModel

SEARCHES = [CEM(), ICEM(), MPPI(num_iterations=30), GradientDescent(num_iterations=100)]


def quadratic(goals: torch.Tensor, low: float = -1.0, high: float = 1.0, keys: torch.Tensor | None = None) -> Problem:
    """Where the sum of the steps is to reach a goal (E, U), with a little effort for uniqueness."""

    def cost(actions: torch.Tensor) -> torch.Tensor:
        return (actions.sum(dim=2) - goals[:, None]).square().sum(dim=-1) + 1e-3 * actions.square().sum(dim=(-1, -2))

    width = goals.shape[1]
    keys = torch.arange(len(goals)) if keys is None else keys
    return Problem(cost, keys, 3, torch.full((width,), low), torch.full((width,), high), torch.zeros(width), torch.ones(width))


@pytest.mark.parametrize("planner", SEARCHES, ids=lambda planner: type(planner).__name__)
def test_the_optimum_of_a_quadratic_is_found(planner):
    goals = torch.tensor([[1.5, -0.6], [0.0, 2.1], [-2.4, 0.3]])
    plan = planner.plan(quadratic(goals))
    assert plan.actions.shape == (3, 3, 2)
    torch.testing.assert_close(plan.actions.sum(dim=1), goals, atol=0.03, rtol=0)
    assert plan.cost.max() < 0.01


@pytest.mark.parametrize("planner", SEARCHES, ids=lambda planner: type(planner).__name__)
def test_bounds_hold_and_are_reached(planner):
    plan = planner.plan(quadratic(torch.tensor([[9.0, -9.0]]), low=-0.5, high=0.25))
    assert plan.actions.min() >= -0.5
    assert plan.actions.max() <= 0.25
    torch.testing.assert_close(plan.actions.mean(dim=1), torch.tensor([[0.25, -0.5]]), atol=0.03, rtol=0)


@pytest.mark.parametrize("planner", [*SEARCHES, RandomPlan(), StraightLines()], ids=lambda planner: type(planner).__name__)
def test_an_episode_is_planned_alike_in_any_company(planner):
    goals, keys = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([7, 1, 9, 4])
    together = planner.plan(quadratic(goals, keys=keys))
    alone = planner.plan(quadratic(goals[2:3], keys=keys[2:3]))
    torch.testing.assert_close(together.actions[2:3], alone.actions)


def test_a_warm_start_needs_fewer_iterations():
    goals = torch.tensor([[1.5, -1.2]])
    cold = quadratic(goals)
    warm = quadratic(goals)
    warm.mean = goals[:, None] / 3
    warm.std = 0.1 * warm.std
    short = CEM(num_samples=30, num_elites=5, num_iterations=2)
    assert short.plan(warm).cost < 0.2 * short.plan(cold).cost


def test_cost_never_rises_along_the_trace_and_counts_what_was_asked():
    asked = []
    problem = quadratic(torch.tensor([[1.0, 1.0]]))
    inner = problem.cost

    def counted(actions):
        asked.append(actions.shape[1])
        return inner(actions)

    problem.cost = counted
    for planner in SEARCHES:
        asked.clear()
        trace = planner.plan(problem).trace
        assert (trace.diff(dim=0) <= 0).all()
        assert sum(asked) == planner.evaluations


def test_bounds_of_a_table_do_not_look_at_the_goal():
    for planner in (MeanAction(), RandomPlan()):
        one, other = (planner.plan(quadratic(torch.tensor([[goal, goal]]))) for goal in (1.0, -1.0))
        assert torch.equal(one.actions, other.actions)
    spread = RandomPlan().plan(quadratic(torch.zeros(4000, 1), low=-9, high=9)).actions
    assert spread.std().item() == pytest.approx(1.0, abs=0.03)
    assert not MeanAction().plan(quadratic(torch.ones(1, 2))).actions.any()


def test_straight_lines_repeat_one_action():
    plan = StraightLines(num_samples=4000, num_elites=5).plan(quadratic(torch.tensor([[1.5, -0.6]])))
    assert torch.equal(plan.actions[:, 0], plan.actions[:, 2])
    torch.testing.assert_close(plan.actions.sum(dim=1), torch.tensor([[1.5, -0.6]]), atol=0.1, rtol=0)


def test_gradients_are_taken_where_lightning_validates():
    with torch.inference_mode():
        plan = GradientDescent(num_iterations=60).plan(quadratic(torch.tensor([[1.0, -1.0]])))
    assert plan.cost < 0.01


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: CEM(num_samples=5, num_elites=6), "num_elites <= num_samples"),
        (lambda: CEM(num_iterations=0), "1 iteration"),
        (lambda: MPPI(temperature=0), "temperature"),
        (lambda: GradientDescent(num_starts=0), "1 start"),
        (lambda: ICEM(num_elites=1), "2 <= num_elites"),
        (lambda: ICEM(decay=0.5), "decay 0.5"),
        (lambda: ICEM(kept=0), "kept 0"),
        (lambda: StraightLines(num_elites=0), "1 <= num_elites"),
    ],
)
def test_settings_that_cannot_work_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_mppi_weighs_as_written():
    costs = torch.tensor([[0.0, 1.0, 4.0]])
    actions = torch.tensor([0.0, 1.0, 2.0]).reshape(1, 3, 1, 1)
    problem = Problem(
        lambda candidates: costs if candidates.shape[1] == 3 else torch.zeros(1, 1),
        torch.tensor([3]),
        1,
        torch.tensor([-9.0]),
        torch.tensor([9.0]),
        torch.zeros(1),
        torch.ones(1),
    )
    problem.noise = lambda iteration, num: actions[:, 1:]
    weights = [math.exp(-c / (0.5 * costs.std().item())) for c in (0.0, 1.0, 4.0)]
    expected = (weights[1] + 2 * weights[2]) / sum(weights)
    found = MPPI(num_samples=3, num_iterations=1, temperature=0.5).plan(problem).actions.item()
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("horizon", [1, 5, 8])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 3.0])
def test_colored_noise_has_the_spectrum_of_its_color(horizon, exponent):
    matrix = color_matrix(horizon, exponent)
    covariance = matrix @ matrix.T
    torch.testing.assert_close(covariance.diagonal(), torch.ones(horizon, dtype=torch.float64))  # of every step
    torch.testing.assert_close(covariance.roll((1, 1), (0, 1)), covariance)  # stationary: it depends on the distance alone
    power = torch.fft.fft(covariance[0]).real  # the spectrum is the transform of the autocovariance (Wiener and Khinchin)
    frequency = torch.fft.fftfreq(horizon, dtype=torch.float64).abs().clamp_min(1 / horizon)
    torch.testing.assert_close(power / power[0], (frequency / frequency[0]) ** -exponent)
    if exponent == 0:
        torch.testing.assert_close(covariance, torch.eye(horizon, dtype=torch.float64))


def test_colored_noise_is_that_of_the_samples_of_the_search():
    drawn = []
    problem = quadratic(torch.zeros(1, 2), low=-99, high=99)
    inner = problem.cost
    problem.cost = lambda actions: drawn.append(actions) or inner(actions)
    ICEM(num_samples=20_000, num_elites=2, num_iterations=2, color=2.0).plan(problem)
    expected = color_matrix(3, 2.0).float()
    first = drawn[0][0]  # (K, H, U)
    torch.testing.assert_close(torch.cov(first[..., 0].T), expected @ expected.T, atol=0.03, rtol=0)
    assert torch.corrcoef(torch.stack([first[:, 0, 0], first[:, 0, 1]]))[0, 1].abs() < 0.03  # numbers of an action are not tied


def test_icem_samples_less_each_time_and_keeps_the_best():
    asked = []
    problem = quadratic(torch.tensor([[1.0, 1.0]]))
    inner = problem.cost

    def counted(actions):
        asked.append(inner(actions))
        return asked[-1]

    problem.cost = counted
    planner = ICEM(num_samples=100, num_elites=10, num_iterations=9, decay=1.25)
    plan = planner.plan(problem)
    assert [len(costs[0]) for costs in asked] == [100, 80, 64, 51, 40, 32, 26, 20, 20 + 1]
    assert plan.cost.item() == min(costs.min().item() for costs in asked)
    assert plan.cost.item() == pytest.approx(inner(plan.actions[:, None]).item())
    torch.testing.assert_close(inner(plan.elites).sort(dim=1).values, inner(plan.elites))
    torch.testing.assert_close(plan.elites[:, 0], plan.actions)


def test_icem_refits_to_the_elites_with_momentum():
    # one number, one step: candidates are given and the elites are 1 and 2, so mean 1.5 and standard deviation 0.5
    problem = quadratic(torch.tensor([[1.5]]), low=-9, high=9)
    problem.horizon, seen = 1, []
    inner = problem.cost
    problem.noise = lambda iteration, num: torch.tensor([1.0, 2.0, -3.0, 9.0]).reshape(1, 4, 1, 1)
    problem.cost = lambda actions: seen.append(actions.flatten()) or inner(actions)
    ICEM(num_samples=4, num_elites=2, num_iterations=2, decay=1.0, momentum=0.1).plan(problem)
    mean, std = 0.9 * 1.5, 0.9 * 0.5 + 0.1 * 1.0
    torch.testing.assert_close(seen[1], torch.tensor([mean + std, mean + 2 * std, mean - 3 * std, mean + 9 * std, mean]))


def test_elites_go_on_where_the_plan_was_not_used_up():
    goals = torch.tensor([[1.5, -0.6], [0.0, 2.1]])
    plan = ICEM(num_samples=40, num_elites=4, num_iterations=3).plan(quadratic(goals))
    mean = torch.full((2, 1, 3, 2), 0.25)
    start = plan.continuation(2, mean)
    assert start.shape == (2, 1 + 4, 3, 2)
    torch.testing.assert_close(start[:, 0, 0], plan.actions[:, 2])
    torch.testing.assert_close(start[:, 1:, 0], plan.elites[:, :, 2])
    assert (start[:, :, 1:] == 0.25).all()
    assert torch.equal(CEM().plan(quadratic(goals)).continuation(3, mean), mean)  # all used up
    # candidates that were handed on are tried: the search cannot do worse than the best of them
    again = quadratic(goals)
    again.elites = plan.elites
    short = ICEM(num_samples=2, num_elites=2, num_iterations=1)
    assert (short.plan(again).cost <= plan.cost).all()
    assert (short.plan(quadratic(goals)).cost > plan.cost).all()


class OneToken(ToyModel):
    """States of one token through a residual MLP that is not at its start, where nothing happens."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.bottleneck = ToyBottleneck(2, 1)
        self.forward_model = ResidualMLP(StateShape(1, 1, 6), 1, 2, width=16, depth=1)
        torch.nn.init.normal_(self.forward_model.to_change.weight, std=0.5)

    @property
    def states_seen(self):
        return 1

    def predict(self, states, z):
        return self.forward_model(states, z)


@pytest.mark.parametrize("planner", SEARCHES, ids=lambda planner: type(planner).__name__)
def test_a_goal_that_states_of_one_token_can_reach_is_reached(planner):
    model = OneToken().eval()
    statistics = ActionStatistics([0.0] * 2, [1.0] * 2, [-2.0] * 2, [2.0] * 2, [0.0] * 2, [0.0] * 2)
    first, actions = torch.randn(2, 1, 6), torch.tensor([[[1.0, -1.5], [0.5, 0.7]], [[-1.2, 0.3], [-0.4, -1.6]]])
    with torch.inference_mode():
        goal = first
        for step in range(2):
            goal = model.predict(goal[:, None], actions[:, step, None, None])[:, 0]
        initial, keys = initial_actions(statistics, 2, 2), torch.tensor([3, 4])
        problem = make_problem(model, statistics, lambda known, states: known[:, None], Search(), first, goal, keys, initial)
        plan = planner.plan(problem)
        stay = MeanAction().plan(problem)
    assert (plan.cost < 0.02 * stay.cost).all()
