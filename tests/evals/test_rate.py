import math

import pytest
import torch

from lam.evals import Rate
from tests.evals.toy import ToyModel, clips, evaluate, observed


def discrete(probabilities: list[float], count: int = 2000, codes: int = 1):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(torch.tensor(probabilities), count * 2 * codes, replacement=True, generator=generator)
    return drawn.view(count, 2, codes)


def rate(codes: torch.Tensor, num_codes: int):
    return evaluate(Rate(), observed(torch.zeros(*codes.shape[:2], 1), codes=codes, bits=codes.shape[2] * math.log2(num_codes)))


def test_codes_of_known_entropy_within_five_percent():
    p = [0.5, 0.25, 0.125, 0.125]
    metrics = rate(discrete(p), num_codes=16).metrics
    assert metrics["bits_capacity"] == pytest.approx(4)
    assert metrics["bits_nominal"] == pytest.approx(1.75, rel=0.05)
    assert metrics["bits_coded"] == pytest.approx(1.75, rel=0.05)
    assert metrics["bits_limit"] == pytest.approx(math.log2(4000))


def test_independent_codes_are_coded_one_by_one():
    # 3 codes of 3 bits with 2 bits each of entropy: 64 of 512 tuples; as tuples these few clips would cost more
    metrics = rate(discrete([0.25] * 4, count=60, codes=3), num_codes=8).metrics
    assert metrics["bits_capacity"] == pytest.approx(9)
    assert 6 < metrics["bits_coded"] < 6.7
    assert metrics["bits_nominal"] < 6


def test_codes_that_go_together_are_coded_as_tuples():
    one = discrete([0.25] * 4, codes=1)
    metrics = rate(one.expand(-1, -1, 3), num_codes=4).metrics
    assert metrics["bits_nominal"] == pytest.approx(2, rel=0.01)
    assert metrics["bits_coded"] == pytest.approx(2, rel=0.02)


def test_coded_never_exceeds_capacity_and_one_code_is_free():
    assert rate(discrete([1 / 64] * 64, count=20), num_codes=64).metrics["bits_coded"] <= 6
    constant = rate(discrete([1.0]), num_codes=16).metrics
    assert constant["bits_nominal"] == pytest.approx(0, abs=1e-9)
    assert constant["bits_coded"] < 0.01


def test_values_of_test_clips_average_to_the_metric():
    results = rate(discrete([0.6, 0.4]), num_codes=2)
    positions, values = results.clips["bits_coded"]
    assert len(positions) == 1000
    assert values.mean().item() == pytest.approx(results.metrics["bits_coded"])


def test_one_source_has_no_held_out_half():
    observation = observed(torch.zeros(20, 2, 1), codes=discrete([0.5, 0.5], count=20), bits=1)
    observation.clip.source = ["the same"] * 20
    results = evaluate(Rate(), observation)
    assert results.metrics.keys() == {"bits_capacity", "bits_nominal", "bits_limit"}
    assert not results.curves


def test_gaussian_has_its_divergence():
    model = ToyModel()
    found = evaluate(Rate(), model.validation_step(clips(20)))
    assert found.metrics["bits_nominal"] == 2
    assert "bits_capacity" not in found.metrics


def test_sampling_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    evaluate(Rate(), ToyModel().validation_step(clips(3)))
    assert torch.equal(torch.get_rng_state(), before)


def test_families_without_a_finite_rate_have_no_key_of_their_own():
    assert {key.split("@")[0] for key in evaluate(Rate(), observed(torch.randn(10, 2, 4))).metrics} == {"bits_own"}
