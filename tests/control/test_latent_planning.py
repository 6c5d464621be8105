"""Planning in latent space, in a world that adds each latent to every token, so that the best plan is known."""

import itertools

import pytest
import torch

from lam.control import latent_planning
from lam.control.base import ActionConditionedModel
from lam.control.latent_planning import POOL, CategoricalCEM, LatentProblem, LatentSearch, draw_categorical, mutate
from lam.control.policies import Search, initial_actions, policies
from lam.data.schema import ActionStatistics
from tests.evals.toy import ToyBottleneck, ToyModel

CODES = torch.tensor([[-0.2, 0.1], [0.1, 0.3], [0.2, -0.1], [0.0, 0.0]])
STEPS = 3


class Normal(ToyBottleneck):
    """A prior like that of Gaussian latents."""

    def __init__(self):
        super().__init__(2, 1)

    def sample_prior(self, n, generator=None):
        return 0.3 * torch.randn(n, 1, 2, generator=generator)


class Codes(ToyBottleneck):
    """A prior over some of the codes."""

    def __init__(self, codes=CODES):
        super().__init__(2, 1)
        self.codes = codes

    def sample_prior(self, n, generator=None):
        return self.codes[torch.randint(len(self.codes), (n,), generator=generator)][:, None]

    def used_codes(self):
        return [torch.arange(len(self.codes))]

    def decode_codes(self, codes):
        return self.codes[codes]


class Sums(Codes):
    """A latent is the sum of two codes, of which one codebook has lost the second."""

    SECOND = torch.tensor([[0.05, 0.02], [9.0, 9.0], [-0.07, 0.04]])

    def used_codes(self):
        return [torch.arange(len(self.codes)), torch.tensor([0, 2])]

    def decode_codes(self, codes):
        return (self.codes[codes[:, 0]] + self.SECOND[codes[:, 1]])[:, None]


class World(ToyModel, ActionConditionedModel):
    """States add up latents; the action decoder turns one around where the state before it is negative, so order matters."""

    controllers = ()

    def __init__(self, prior, bound=9.0):
        super().__init__()
        self.bottleneck = prior
        self.action_statistics = ActionStatistics([0.0] * 2, [1.0] * 2, [-bound] * 2, [bound] * 2, [0.0] * 2, [0.0] * 2)

    def decode_actions(self, name, z, states):
        return 10 * z[:, 0] * torch.where(states.mean(dim=1) < 0, -1.0, 1.0)

    def run_controller(self, name, actions, states):
        raise AssertionError("no controller takes part")

    def clone_actions(self, states, goals):
        raise AssertionError("no cloning takes part")


def problem(prior, goal, bound=9.0, keys=None, first=None):
    """Where the latents are to add up to a goal (E, 2), from zero."""
    first = torch.zeros(len(goal), 2) if first is None else first
    states = torch.stack([first, first + goal], dim=1)[:, :, None].expand(-1, -1, 4, -1)
    keys = torch.arange(len(goal)) if keys is None else keys
    return LatentProblem(World(prior, bound), states[:, :1], states[:, 1], keys, STEPS, window=2, chunk_size=64)


def goals(count, seed=0):
    picked = torch.randint(len(CODES), (count, STEPS), generator=torch.Generator().manual_seed(seed))
    return CODES[picked].sum(dim=1)


def test_among_codes_the_best_of_all_sequences_is_found():
    wanted = torch.cat([goals(4), torch.tensor([[0.33, 0.21], [-0.5, 1.0]])])
    plan = LatentSearch(num_samples=60, num_elites=6, num_iterations=8).plan(problem(Codes(), wanted))
    for number, goal in enumerate(wanted):
        sums = torch.stack([torch.stack(sequence).sum(dim=0) for sequence in itertools.product(CODES, repeat=STEPS)])
        least = (sums - goal).square().mean(dim=1).min().item()
        assert plan.cost[number].item() == pytest.approx(least, abs=1e-7)


def test_continuous_latents_reach_the_goal_and_turns_refine_them():
    wanted = 0.4 * torch.randn(8, 2, generator=torch.Generator().manual_seed(1))
    shooting, refined = (
        LatentSearch(num_samples=64, num_elites=8, num_iterations=turns).plan(problem(Normal(), wanted)) for turns in (1, 10)
    )
    assert refined.cost.mean() < 0.1 * shooting.cost.mean()
    assert refined.cost.max() < 2e-3
    assert (refined.trace.diff(dim=0) <= 0).all()
    assert refined.trace.shape == (10, 8)
    torch.testing.assert_close(refined.trace[-1], refined.cost)
    torch.testing.assert_close(refined.trace[0], shooting.cost)


def test_actions_are_decoded_in_the_state_before_each_and_kept_within_bounds():
    # from -0.15, one code of 0.1 or 0.2 at a time: the sign of the state changes on the way
    first, steps = torch.tensor([[-0.15, -0.15]]), torch.tensor([[0.1, 0.3], [0.2, -0.1], [0.1, 0.3]])
    latents = steps[None, :, None]
    found = problem(Codes(), steps.sum(dim=0)[None], first=first).decode_actions(latents)
    state, expected = first[0], []
    for step in steps:
        expected.append(10 * step * torch.where(state < 0, -1.0, 1.0))
        state = state + step
    torch.testing.assert_close(found, torch.stack(expected)[None])
    assert (found[0, 0] < 0).all() and (found[0, 2] > 0).all()
    bounded = problem(Codes(), steps.sum(dim=0)[None], bound=1.5, first=first).decode_actions(latents)
    torch.testing.assert_close(bounded, found.clamp(-1.5, 1.5))


def test_the_plan_is_decoded_from_the_latents_that_were_cheapest():
    wanted = goals(5)
    plan = LatentSearch(num_samples=60, num_elites=6, num_iterations=8).plan(problem(Codes(), wanted, first=torch.ones(5, 2)))
    torch.testing.assert_close(plan.actions.sum(dim=1) / 10, wanted, atol=1e-5, rtol=0)  # states stay positive
    assert plan.cost.max() < 1e-8


@pytest.mark.parametrize("prior", [Normal(), Codes()], ids=["continuous", "codes"])
def test_an_episode_is_planned_alike_in_any_company(prior):
    wanted, keys = goals(4), torch.tensor([7, 1, 9, 4])
    search = LatentSearch(num_samples=20, num_elites=4, num_iterations=4)
    together = search.plan(problem(prior, wanted, keys=keys))
    alone = search.plan(problem(prior, wanted[2:3], keys=keys[2:3]))
    assert torch.equal(together.actions[2:3], alone.actions)
    other = problem(prior, wanted, keys=keys + 100)
    same = problem(prior, wanted, keys=keys)
    assert not torch.equal(other.draw(other.uniform(0, (20, STEPS))), same.draw(same.uniform(0, (20, STEPS))))


def test_a_prior_that_misses_the_latents_that_are_needed_plans_worse():
    wanted = goals(12)
    search = LatentSearch(num_samples=60, num_elites=6, num_iterations=6)
    whole, half = (search.plan(problem(Codes(codes), wanted)) for codes in (CODES, CODES[1:3]))
    assert whole.cost.max() < 1e-8
    assert half.cost.mean() > 0.01
    truth = wanted * 10
    first = torch.ones(12, 2)
    errors = [
        (search.plan(problem(Codes(codes), wanted, first=first)).actions.sum(dim=1) - truth).abs().sum(dim=1).mean()
        for codes in (CODES, CODES[1:3])
    ]
    assert errors[0] < 1e-4 < 1 < errors[1]


def test_draws_are_those_of_the_prior():
    asked = problem(Codes(CODES[:2]), goals(2))
    drawn = asked.draw(asked.uniform(0, (5000, STEPS)))
    assert drawn.shape == (2, 5000, STEPS, 1, 2)
    shares = (drawn[..., 0, :] == CODES[0]).all(dim=-1).float().mean(dim=1)
    torch.testing.assert_close(shares, torch.full_like(shares, 0.5), atol=0.03, rtol=0)
    assert asked.prior.shape == (POOL, 1, 2)


def test_a_child_is_its_parent_but_for_one_step_from_the_prior():
    asked = problem(Normal(), goals(2))
    parents = torch.arange(2 * 4 * STEPS * 2.0).reshape(2, 4, STEPS, 1, 2)
    children = mutate(asked, parents, asked.uniform(1, (3, 200)))
    changed = (children[:, :, None] != parents[:, None]).any(dim=-1)[..., 0].sum(dim=-1)  # (E, children, parents)
    assert (changed.amin(dim=-1) == 1).all()
    assert set(changed.argmin(dim=-1).flatten().tolist()) == {0, 1, 2, 3}
    parent = parents.gather(1, changed.argmin(dim=-1)[..., None, None, None].expand(-1, -1, STEPS, 1, 2))
    places = (children != parent).any(dim=-1)[..., 0]
    counts = places.sum(dim=1)
    assert (counts > 40).all()  # every step is redrawn, a third of the times each
    assert (children[places][:, 0, None] == asked.prior[None, :, 0]).all(dim=-1).any(dim=1).all()


def test_the_number_of_evaluations_is_that_of_calls():
    asked = problem(Codes(), goals(3))
    counted, inner = [], asked.cost
    asked.cost = lambda latents: counted.append(latents.shape[1]) or inner(latents)
    search = LatentSearch(num_samples=20, num_elites=5, num_iterations=4)
    search.plan(asked)
    assert sum(counted) == search.evaluations == 20 + 3 * 15


def test_tokens_that_do_not_count_do_not_cost():
    asked = problem(Codes(), goals(2))
    asked.goal = asked.goal.clone()
    asked.goal[:, 1] += 9  # out of reach
    asked.mask = torch.tensor([1.0, 0, 1, 1])
    assert LatentSearch(num_samples=60, num_elites=6, num_iterations=8).plan(asked).cost.max() < 1e-8


@pytest.mark.parametrize("settings", [{"num_elites": 0}, {"num_elites": 300}, {"num_iterations": 0}])
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ValueError, match="1 <= num_elites < num_samples"):
        LatentSearch(**settings)


def least_cost(vectors, goal):
    """The best of all sequences, by brute force."""
    sums = torch.stack([torch.stack(sequence).sum(dim=0) for sequence in itertools.product(vectors, repeat=STEPS)])
    return (sums - goal).square().mean(dim=1).min().item()


@pytest.mark.parametrize("prior", [Codes(), Sums()], ids=["one", "two"])
def test_categorical_cem_finds_the_best_of_all_sequences_of_codes(prior):
    wanted = torch.cat([goals(4), torch.tensor([[0.33, 0.21], [-0.5, 1.0]])])
    kept = Sums.SECOND[[0, 2]]
    vectors = [*CODES] if type(prior) is Codes else [code + other for code in CODES for other in kept]
    plan = CategoricalCEM(num_samples=60, num_elites=10, num_iterations=8).plan(problem(prior, wanted))
    for number, goal in enumerate(wanted):
        assert plan.cost[number].item() == pytest.approx(least_cost(vectors, goal), abs=1e-6)
    assert (plan.trace.diff(dim=0) <= 0).all()
    torch.testing.assert_close(plan.trace[-1], plan.cost)


def test_categorical_cem_decodes_the_codes_that_were_cheapest():
    wanted = goals(5)
    plan = CategoricalCEM(num_samples=60, num_elites=6, num_iterations=8).plan(problem(Codes(), wanted, first=torch.ones(5, 2)))
    torch.testing.assert_close(plan.actions.sum(dim=1) / 10, wanted, atol=1e-5, rtol=0)


def test_categorical_cem_plans_an_episode_alike_in_any_company():
    wanted, keys = goals(4), torch.tensor([7, 1, 9, 4])
    search = CategoricalCEM(num_samples=20, num_elites=4, num_iterations=3)
    together = search.plan(problem(Sums(), wanted, keys=keys))
    alone = search.plan(problem(Sums(), wanted[2:3], keys=keys[2:3]))
    assert torch.equal(together.actions[2:3], alone.actions)


def test_categorical_cem_refits_to_the_elites_with_smoothing(monkeypatch):
    seen, draw = [], latent_planning.draw_categorical

    def spied(probabilities, uniform):
        seen.append((probabilities, draw(probabilities, uniform)))
        return seen[-1][1]

    monkeypatch.setattr(latent_planning, "draw_categorical", spied)
    asked = problem(Sums(), goals(2))
    CategoricalCEM(num_samples=30, num_elites=5, num_iterations=2, smoothing=0.4).plan(asked)
    even = torch.tensor([[0.25] * 4, [0.5, 0.5, 0, 0]], dtype=torch.float64)
    assert torch.equal(seen[0][0], even.expand(2, STEPS, -1, -1))
    values = torch.tensor([[0, 1, 2, 3], [0, 2, 0, 0]])
    for episode in range(2):
        drawn = seen[0][1][episode]
        costs = asked.cost(latent_planning.decode_picks(asked, values, seen[0][1]))[episode]
        elites = drawn[costs.argsort()[:5]]
        for step, code, number in itertools.product(range(STEPS), range(2), range(4)):
            share = (elites[:, step, code] == number).double().mean()
            assert seen[1][0][episode, step, code, number] == pytest.approx(0.6 * share + 0.4 * even[code, number])


def test_numbers_are_drawn_as_often_as_they_are_probable():
    probabilities = torch.tensor([[[[0.5, 0.25, 0.0, 0.25], [0.0, 1.0, 0.0, 0.0]]]], dtype=torch.float64)
    uniform = ((torch.arange(1000) + 0.5) / 1000).reshape(1, 1000, 1, 1).expand(-1, -1, -1, 2)
    drawn = draw_categorical(probabilities, uniform)
    assert drawn.shape == (1, 1000, 1, 2)
    assert torch.bincount(drawn[..., 0].flatten(), minlength=4).tolist() == [500, 250, 0, 250]
    assert (drawn[..., 1] == 1).all()


def test_categorical_cem_refuses_latents_that_are_not_codes():
    with pytest.raises(ValueError, match=r"latents of Normal are not codes\. Name LatentSearch"):
        CategoricalCEM().plan(problem(Normal(), goals(1)))


def test_categorical_cem_counts_its_evaluations():
    asked = problem(Codes(), goals(3))
    counted, inner = [], asked.cost
    asked.cost = lambda latents: counted.append(latents.shape[1]) or inner(latents)
    search = CategoricalCEM(num_samples=20, num_elites=5, num_iterations=4)
    search.plan(asked)
    assert sum(counted) == search.evaluations == 80


@pytest.mark.parametrize("settings", [{"num_elites": 0}, {"num_elites": 301}, {"num_iterations": 0}, {"smoothing": 1.0}])
def test_settings_of_categorical_cem_that_cannot_work_are_refused(settings):
    with pytest.raises(ValueError, match="CategoricalCEM needs"):
        CategoricalCEM(**settings)


class Cloned(World):
    """A model that knows which latents lead to a goal: as many equal parts of the way as there are steps."""

    unlabeled_clips = 1

    def clone_latents(self, states, goals):
        return ((goals - states).mean(dim=1) / STEPS)[:, None, None].expand(-1, STEPS, -1, -1)


def test_cloned_latents_are_read_back_as_actions_without_a_search():
    model, first = Cloned(Normal()), torch.tensor([[0.5, 0.5], [-0.9, 0.6]])
    way = torch.tensor([[0.3, -0.3], [0.6, -0.3]])
    states, goals = ((first + step)[:, None].expand(-1, 4, -1) for step in (0 * way, way))
    initial = initial_actions(model.action_statistics, 2, STEPS)
    plan = policies(model, Search())["_latent_clone"](states, goals, torch.arange(2), initial)
    torch.testing.assert_close(plan.cost, torch.zeros(2), atol=1e-10, rtol=0)
    # the decoder turns latents around where the state is negative
    torch.testing.assert_close(
        plan.actions, (10 * way / STEPS * torch.tensor([[1, 1], [-1, 1]]))[:, None].expand(-1, STEPS, -1)
    )
    assert "_latent_clone" not in policies(World(Normal()), Search())
