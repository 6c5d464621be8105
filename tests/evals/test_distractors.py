"""The linear model on worlds whose answer is known: what distractors take from the action, and what correlation gives back."""

import pytest
import torch

from lam.evals import Distractors
from lam.models.clip_buffer import source_ids
from tests.evals.toy import clips, evaluate, observed

CLIPS, STEPS, STATE = 400, 2, 12


def world(strength, correlation=0.0, noise=0.1, seed=0):
    """States whose change is B a + strength C d + noise, with corr(a, d) as asked for, B and C orthonormal, and its factors."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(STATE, 2, generator=generator))[0]
    action, own = (torch.randn(CLIPS, STEPS, generator=generator) for _ in range(2))
    distractor = correlation * action + (1 - correlation**2) ** 0.5 * own
    change = torch.stack([action, strength * distractor], dim=2) @ directions.T
    change = change + noise * torch.randn(CLIPS, STEPS, STATE, generator=generator)
    first = torch.randn(CLIPS, 1, STATE, generator=generator)
    states = torch.cat([first, first + change.cumsum(dim=1)], dim=1).unflatten(2, (3, 4))
    return states, {"agent_dx": action, "distractor_dx": distractor, "never": torch.zeros(CLIPS, STEPS)}


def metrics(strength, correlation=0.0, noise=0.1, **keywords):
    states, factors = world(strength, correlation, noise)
    found = evaluate(Distractors(sizes=(1, 2, 4), **keywords), observed(torch.zeros(CLIPS, STEPS, 1), states, factors))
    assert set(found.metrics) == {f"linear_r2@{k}/{name}" for k in (1, 2, 4) for name in ("agent_dx", "distractor_dx")}
    return found.metrics


def expected(strength, correlation, noise, k):
    """Population R^2 of the action and the distractor from the k largest directions, in the plane of B and C."""
    factors = torch.tensor([[1.0, correlation], [correlation, 1.0]]).double()
    mix = torch.diag(torch.tensor([1.0, strength])).double()
    covariance = mix @ factors @ mix + noise**2 * torch.eye(2)
    leading = torch.linalg.eigh(covariance)[1].flip(1)[:, :k]
    shared = factors @ mix @ leading  # covariance of factors and latents
    return (shared @ torch.linalg.inv(leading.T @ covariance @ leading) @ shared.T).diagonal().tolist()


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("strength", [0.3, 2.0])
def test_what_latents_carry_is_the_closed_form(strength, correlation):
    found = metrics(strength, correlation)
    for k in (1, 2):
        for name, r2 in zip(("agent_dx", "distractor_dx"), expected(strength, correlation, 0.1, k), strict=True):
            assert found[f"linear_r2@{k}/{name}"] == pytest.approx(r2, abs=0.04), (k, name)


def test_without_distractors_one_number_is_the_action():
    found = metrics(0.0)
    assert found["linear_r2@1/agent_dx"] > 0.98 and abs(found["linear_r2@4/distractor_dx"]) < 0.03


def test_larger_distractors_take_the_place_of_the_action_and_correlation_gives_it_back():
    assert abs(metrics(2.0)["linear_r2@1/agent_dx"]) < 0.05
    assert metrics(2.0)["linear_r2@2/agent_dx"] > 0.95  # a second number has room for it
    assert metrics(0.5)["linear_r2@1/agent_dx"] > 0.95  # smaller ones do not
    assert metrics(2.0, correlation=0.9)["linear_r2@1/agent_dx"] > 0.8


def test_clips_average_to_the_keys_come_in_order_and_are_those_for_testing():
    states, factors = world(0.5)
    found = evaluate(Distractors(sizes=(2,)), observed(torch.zeros(CLIPS, STEPS, 1), states, factors))
    positions, values = found.clips["linear_r2@2/agent_dx"]
    assert values.mean().item() == pytest.approx(found.metrics["linear_r2@2/agent_dx"])
    sources = source_ids([f"source{i}" for i in range(CLIPS)])
    assert positions.tolist() == sorted(sources.argsort()[1::2].tolist())
    assert found.curves["variances"][0] == pytest.approx(1 / (1 + 0.25 + 0.01 * STATE), abs=0.05)


def test_no_label_no_key():
    states, _ = world(0.5)
    assert evaluate(Distractors(), observed(torch.zeros(CLIPS, STEPS, 1), states)).metrics == {}
    assert evaluate(Distractors()).metrics == {}
    one_source = observed(torch.zeros(3, STEPS, 1), states[:3], {"agent_dx": torch.randn(3, STEPS)})
    one_source.clip.source = clips(1).source * 3
    assert evaluate(Distractors(), one_source).metrics == {}
