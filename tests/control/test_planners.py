"""Planners against problems whose answer is known."""

import math

import pytest
import torch

from lam.control.planners import CEM, MPPI, GradientDescent, MeanAction, Problem, RandomPlan, StraightLines

SEARCHES = [CEM(), MPPI(num_iterations=30), GradientDescent(num_iterations=100)]


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
