"""The probe against worlds whose answers are known: what z holds, what the state gives away, and cheats."""

import dataclasses

import numpy as np
import pytest
import torch

from data_prep.worlds.clip import make_clip
from data_prep.worlds.settings import WorldSettings
from lam.encoders import Patches
from lam.evals import Probe
from lam.evals.common.factors import ContinuousFactor, DiscreteFactor, ground_truth_factors
from lam.evals.common.probe_fits import CONTROLS
from tests.evals.toy import ToyModel, clips, evaluate, observed, part

COUNT, STEPS = 400, 2
GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def world(entropy):
    """States (n, T, 4, 6) that show a place linearly, and actions: random with entropy 1, a function of the place with 0."""
    places, actions = [normal(COUNT, 2)], []
    for _ in range(STEPS):
        actions.append(entropy * normal(COUNT, 2) - (1 - entropy) * torch.tanh(places[-1]))
        places.append(places[-1] + actions[-1])
    shown = torch.stack(places, dim=1) @ normal(2, 24) + 0.3 * normal(COUNT, 1, 24)
    return shown.unflatten(2, (4, 6)), torch.stack(actions, dim=1), torch.stack(places[:-1], dim=1)


def probe(z, states, factors, budgets=(), **keywords):
    return evaluate(Probe(components=8, budgets=budgets), observed(z, states, factors, **keywords))


@pytest.fixture(scope="module")
def free():
    """z is the executed action, turned, beside noise; the action is random given the state."""
    states, actions, _ = world(entropy=1.0)
    z = torch.cat([actions, normal(COUNT, STEPS, 4)], dim=2) @ normal(6, 6)
    hit = (actions[..., 0] > 0.5).long()
    factors = {
        "dx": actions[..., 0],
        "dy": actions[..., 1],
        "hit": hit,
        "never": torch.zeros_like(hit),
        "other": normal(COUNT, STEPS),
    }
    return probe(z, states, factors, budgets=(16, 64, 10_000))


def test_a_latent_that_is_the_action_has_it_all(free):
    metrics = free.metrics
    for key in ("r2_linear/dx", "r2_mlp/dx", "gain/dx", "gain/dy", "r2_linear@64/dx"):
        assert metrics[key] > 0.9, key
    assert metrics["accuracy_mlp/hit"] > 0.8
    assert metrics["gain/hit"] > 0.3


def test_what_a_latent_does_not_hold_scores_about_zero(free):
    for key in ("r2_linear/other", "r2_mlp/other", "gain/other"):
        assert free.metrics[key] == pytest.approx(0, abs=0.1), key


def test_controls_say_what_they_must(free):
    assert free.metrics["state/dx"] == pytest.approx(0, abs=0.05)
    assert free.metrics["shuffled/dx"] == pytest.approx(0, abs=0.05)
    assert free.metrics["shuffled/hit"] == pytest.approx(0.5, abs=0.1)
    assert free.metrics["pair/dx"] > 0.9
    assert 0.2 < free.metrics["next_state/dx"] < 0.9  # it says half: the place is what was plus the action


def test_keys_are_those_of_the_table(free):
    of_dx = {key.removesuffix("/dx") for key in free.metrics if key.endswith("/dx")}
    probes = {f"{key}{at}" for key in ("r2_linear", "r2_mlp", "gain") for at in ("", "@16", "@64", "_drawn")}
    # no codes, no nmi; no recorded state, no gain given it; no budget above the number of labels
    assert of_dx == probes | {"state", *CONTROLS, "ceiling_low"}
    assert not any("never" in key for key in free.metrics)
    assert any(key == "accuracy_linear@16/hit" for key in free.metrics)


def test_values_of_test_clips_average_to_the_metric(free):
    kinds = ("r2_linear", "r2_mlp", "accuracy_linear", "accuracy_mlp", "gain")
    assert set(free.clips) == {key for key in free.metrics if key.split("/")[0].removesuffix("_drawn") in kinds}
    for key, (positions, values) in free.clips.items():
        assert len(positions) == COUNT // 2
        assert values.mean().item() == pytest.approx(free.metrics[key]), key


def test_a_latent_that_copies_the_state_gains_nothing():
    states, actions, places = world(entropy=0.0)
    metrics = probe(places @ normal(2, 6), states, {"dx": actions[..., 0]}).metrics
    assert metrics["r2_mlp/dx"] > 0.85  # alone it looks like an action code
    assert metrics["state/dx"] > 0.85
    assert metrics["gain/dx"] == pytest.approx(0, abs=0.06)


def test_a_latent_that_means_the_action_only_with_the_state():
    states, actions, places = world(entropy=1.0)
    metrics = probe(actions + places, states, {"dx": actions[..., 0]}).metrics
    assert metrics["r2_linear/dx"] < 0.6
    assert metrics["gain/dx"] > 0.85


def test_mutual_information_of_codes():
    states, actions, _ = world(entropy=1.0)
    side = (actions[..., 0] > 0).long()
    unrelated = torch.randint(0, 2, (COUNT, STEPS), generator=GENERATOR)
    codes = torch.stack([side, torch.zeros_like(side)], dim=2)
    metrics = probe(
        codes.float(), states, {"side": side, "unrelated": unrelated, "dx": actions[..., 0]}, codes=codes, bits=2
    ).metrics
    assert metrics["nmi/side"] == pytest.approx(1)
    assert metrics["nmi/unrelated"] < 0.02
    assert metrics["nmi/dx"] == pytest.approx(2 / (1 + 3), abs=0.02)  # 1 bit of 1 and of 3 bits, over their mean


def test_without_labels_there_are_no_keys():
    assert evaluate(Probe(), observed(normal(20, 2, 3))).metrics == {}


def test_one_source_or_few_clips_give_no_keys():
    factors = {"dx": normal(20, 2)}
    observation = observed(normal(20, 2, 3), normal(20, 3, 4, 2), factors)
    observation.clip.source = ["the same"] * 20
    assert evaluate(Probe(), observation).metrics == {}
    assert evaluate(Probe(), observed(normal(4, 2, 3), normal(4, 3, 4, 2), {"dx": normal(4, 2)})).metrics == {}


def test_labels_follow_frames_per_state_and_actions_are_causes():
    clip = clips(40, frames=6, factors={"dx": normal(40, 5)})
    clip = dataclasses.replace(clip, actions=normal(40, 5, 2), aggregations={"dx": "sum", "action": ["sum", "last"]})
    model = ToyModel(frames_per_state=2)
    evaluation = Probe(budgets=())
    found = evaluate(evaluation, model.validation_step(clip), model=model).metrics
    assert {"gain/dx", "gain/action_0", "gain/action_1"} <= set(found)
    kept = evaluation.sample.gather()[1]["label/dx"]
    torch.testing.assert_close(kept, torch.stack([clip.factors["dx"][:, 1:3].sum(1), clip.factors["dx"][:, 3:5].sum(1)], dim=1))
    kept = evaluation.sample.gather()[1]["label/action"][..., 1]
    torch.testing.assert_close(kept, clip.actions[:, [2, 4], 1])


def test_batches_do_not_matter_and_the_global_generator_is_left_alone():
    clip, model = clips(40, factors={"dx": normal(40, 2)}), ToyModel()
    before = torch.get_rng_state()
    whole, halves = (
        evaluate(Probe(budgets=()), *(model.validation_step(part(clip, *ends)) for ends in shares))
        for shares in ([(0, 40)], [(25, 40), (0, 25)])
    )
    assert whole.metrics == halves.metrics
    assert torch.equal(torch.get_rng_state(), before)


def test_discrete_causes_are_answered_by_risen_odds_not_by_the_majority():
    # class 1 has frequency 0.1; where its probability is 0.3 it is the better answer under balanced accuracy
    values = torch.tensor([0] * 90 + [1] * 10)
    everywhere = torch.arange(100)
    factor = DiscreteFactor("flag", values, everywhere)
    hinted = torch.zeros(100, dtype=torch.bool)
    hinted[:21] = hinted[-9:] = True  # 9 of 30 are of class 1
    expected = torch.where(hinted[:, None], factor.targets[hinted].mean(dim=0), factor.targets[~hinted].mean(dim=0))
    score = factor.contributions(expected, everywhere).sum()
    assert score.item() == pytest.approx((69 / 90 + 9 / 10) / 2)
    assert factor.constant_contributions(everywhere).sum().item() == pytest.approx(0.5)


def test_constant_answer_of_a_continuous_cause_has_r2_zero():
    factor = ContinuousFactor("dx", normal(30, 1), torch.arange(20))
    assert factor.constant_contributions(torch.arange(20, 30)).sum().item() == pytest.approx(0, abs=1e-9)


def test_causes_that_do_not_vary_in_fitting_or_testing_are_skipped():
    varies = torch.tensor([0.0, 1.0, 2.0, 3.0])
    labels = {
        "a": varies,
        "b": torch.tensor([5.0, 5.0, 1.0, 2.0]),
        "c": torch.tensor([1, 2, 3, 3]),
        "v": torch.stack([varies, varies], 1),
    }
    found = ground_truth_factors(labels, torch.tensor([0, 1]), torch.tensor([2, 3]))
    assert [factor.name for factor in found] == ["a", "v_0", "v_1"]


def test_a_field_of_numbers_is_one_cause_with_their_mean_score():
    field = normal(12, 20)
    (factor,) = ground_truth_factors({"flicker": field}, torch.arange(6), torch.arange(6, 12))
    predicted = factor.targets[6:] + 0.3
    single = [
        ContinuousFactor("one", field[:, [i]], torch.arange(6)).contributions(predicted[:, [i]], torch.arange(6, 12)).sum()
        for i in range(20)
    ]
    assert factor.name == "flicker"
    assert factor.contributions(predicted, torch.arange(6, 12)).sum().item() == pytest.approx((sum(single) / 20).item())


def bodies(turned: bool):
    """Two bodies; z is the action of both, or turned round for the second."""
    states, actions, _ = world(entropy=1.0)
    body = (torch.arange(COUNT) % 2)[:, None].expand(-1, STEPS)
    z = torch.where((body == 1)[..., None] & turned, -actions, actions)
    factors = {"dx": actions[..., 0], "body": body}
    return evaluate(Probe(components=8, budgets=(64,), domains=["body"]), observed(z, states, factors))


def test_an_action_code_transfers_to_another_body():
    results = bodies(turned=False)
    assert results.metrics["r2_linear_transferred/dx"] > 0.99
    assert results.metrics["gain_transferred/dx"] > 0.9
    assert "r2_linear_transferred@64/dx" not in results.metrics and "r2_linear@64/dx" in results.metrics
    positions, values = results.clips["r2_linear_transferred/dx"]
    assert (positions % 2 == 1).all()  # of the second body only
    assert values.mean().item() == pytest.approx(results.metrics["r2_linear_transferred/dx"])


def test_a_code_that_means_another_thing_on_another_body_does_not():
    metrics = bodies(turned=True).metrics
    assert metrics["r2_linear_transferred/dx"] < -1  # the wrong way round
    assert metrics["r2_linear/dx"] == pytest.approx(0, abs=0.1)  # nor is it one code for both


def test_a_domain_is_constant_and_one_that_is_not_recorded_does_not_matter():
    z, states, actions = normal(40, 2, 3), normal(40, 3, 4, 2), normal(40, 2)
    metrics = evaluate(Probe(components=2, domains=["pose"]), observed(z, states, {"dx": actions})).metrics
    assert not any("transferred" in key for key in metrics)
    with pytest.raises(ValueError, match="changes within clips"):
        changing = torch.arange(80).view(40, 2)
        evaluate(Probe(components=2, domains=["pose"]), observed(z, states, {"dx": actions, "pose": changing}))


def rendered(count):
    """What the demo's model sees: clips of a generated world as raw patches, with recorded state."""
    settings = WorldSettings(size=24, frames=3, step=0.14, start=0.6, texture_cells=3, texture_contrast=0.3, locations=True)
    made = [make_clip(settings, 0, 0, i) for i in range(count)]
    factors = {name: torch.from_numpy(np.stack([clip.factors[name] for clip in made])) for name in made[0].factors}
    frames = torch.from_numpy(np.stack([clip.frames for clip in made])).permute(0, 1, 4, 2, 3)
    model = ToyModel()
    model.encoder = Patches(24, 8)
    return model, model.encoder(frames), factors


def see(z, z_drawn=None):
    """Evaluate a z made from what is recorded, (n, T-1, d)."""
    model, states, factors = rendered(256)
    made = z(factors)
    observation = observed(made, states, factors)
    how = {name: "first" if name.endswith(("_x", "_y")) else "sum" for name in factors}
    observation.clip = dataclasses.replace(observation.clip, aggregations=how)
    evaluation = Probe(budgets=())
    evaluation.reset()
    observation.z_drawn = (made if z_drawn is None else z_drawn(factors))[:, :, None]
    with torch.inference_mode():
        evaluation.observe(observation, model)
        return evaluation.compute(model).metrics


def displacement(factors):
    return torch.stack([factors["agent_dx"], factors["agent_dy"]], dim=2)


def turned(factors):
    """The displacement turned by an angle that only the place in the scene tells."""
    angle = 2 * torch.pi * factors["agent_x"] / 12
    x, y = displacement(factors).unbind(2)
    return torch.stack([angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y], dim=2)


@pytest.fixture(scope="module")
def encrypted():
    return see(turned)


def test_an_encrypted_action_is_read_by_whoever_knows_the_state(encrypted):
    for name in ("agent_dx", "agent_dy"):
        assert encrypted[f"r2_linear/{name}"] < 0.15
        assert encrypted[f"gain_oracle/{name}"] > 0.9
        assert encrypted[f"oracle/{name}"] < 0.1
        assert encrypted[f"gain/{name}"] > 0.6  # from pictures alone


def test_the_probe_of_a_state_sees_where_a_body_is(encrypted):
    # 32 principal components of a sketch of 256 numbers: 0.6 for places, 0.4 for movements
    for kind, name in (("state", "agent_x"), ("state", "agent_y"), ("pair", "agent_dx"), ("pair", "agent_dy")):
        assert encrypted[f"{kind}/{name}"] > 0.9, (kind, name)
        assert encrypted[f"ceiling_low/{name}"] == 0


def test_recorded_state_has_no_gain_given_itself(encrypted):
    assert not any(key.startswith(("gain_oracle", "oracle")) and key.endswith(("_x", "_y")) for key in encrypted)


def test_an_exact_latent_gains_all_that_the_state_does_not_say_and_a_draw_less():
    noisy = see(
        displacement, lambda factors: (d := displacement(factors)) + d.std() * torch.randn(d.shape, generator=GENERATOR)
    )
    for name in ("agent_dx", "agent_dy"):
        left = 1 - max(noisy[f"oracle/{name}"], 0)
        assert noisy[f"gain_oracle/{name}"] == pytest.approx(left, abs=0.02)
        assert noisy[f"gain/{name}"] == pytest.approx(1 - max(noisy[f"state/{name}"], 0), abs=0.02)
        assert noisy[f"pair/{name}"] > noisy[f"r2_mlp/{name}"] - 0.05
        # as much noise as signal leaves half of the variance
        for key in ("r2_linear", "r2_mlp", "gain", "gain_oracle"):
            assert noisy[f"{key}/{name}"] > 0.95
            assert noisy[f"{key}_drawn/{name}"] == pytest.approx(0.5, abs=0.12), key


def test_a_ceiling_below_a_measurement_is_told():
    # the states show nothing, yet z holds the answer
    factors = {"dx": normal(80, 2)}
    metrics = evaluate(
        Probe(components=2, budgets=()), observed(factors["dx"][..., None], normal(80, 3, 4, 2), factors)
    ).metrics
    assert metrics["ceiling_low/dx"] == 1
