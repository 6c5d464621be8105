import math

import pytest
import torch

from lam.metrics.entropy import code_lengths, discrete_laplace_lengths, perplexity, plugin_entropy, symbols


def test_symbols_tell_tuples_apart():
    codes = torch.tensor([[0, 1], [1, 0], [0, 1], [1, 1]])
    found = symbols(codes)
    assert found[0] == found[2]
    assert len(found.unique()) == 3


def test_entropy_of_known_frequencies():
    drawn = torch.tensor([0] * 4 + [1] * 2 + [7] * 1 + [9] * 1)
    assert plugin_entropy(drawn) == pytest.approx(0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3)
    assert perplexity(drawn) == pytest.approx(2**1.75)


def test_perplexity_of_equal_frequencies_is_their_number():
    assert perplexity(torch.arange(12).repeat(5)) == pytest.approx(12)
    assert perplexity(torch.zeros(9, dtype=torch.int64)) == pytest.approx(1)


def test_entropy_estimate_within_five_percent_and_never_above_its_limit():
    p = torch.tensor([0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    drawn = torch.multinomial(p, 4000, replacement=True, generator=torch.Generator().manual_seed(0))
    true = -(p * p.log2()).sum().item()
    assert plugin_entropy(drawn) == pytest.approx(true, rel=0.05)
    assert plugin_entropy(torch.arange(100)) == pytest.approx(math.log2(100))


def test_code_lengths_by_hand():
    lengths = code_lengths(torch.tensor([3, 3, 3, 5]), torch.tensor([3, 5, 8]), alphabet_bits=4)
    # four seen, two distinct: 3/6, 1/6, and 2/6 over 16 symbols
    escape = 2 / 6 / 16
    assert torch.allclose(lengths, -torch.tensor([3 / 6 + escape, 1 / 6 + escape, escape], dtype=torch.float64).log2())


def test_code_lengths_are_a_proper_code():
    lengths = code_lengths(torch.tensor([0, 0, 2, 9]), torch.arange(16), alphabet_bits=4)
    assert (2.0**-lengths).sum().item() == pytest.approx(1)


def test_code_of_all_integers_is_proper_and_has_the_mean_magnitude():
    fit = torch.tensor([0, 0, 1, -3, 2, 0, -1])
    p = 2.0 ** -discrete_laplace_lengths(fit, torch.arange(-400, 401))
    assert p.sum().item() == pytest.approx(1)
    assert (p * torch.arange(-400, 401).abs()).sum().item() == pytest.approx((7 + 1) / (7 + 1))
    both = code_lengths(fit, torch.arange(-400, 401), discrete_laplace_lengths(fit, torch.arange(-400, 401)))
    assert (2.0**-both).sum().item() == pytest.approx(1)
    assert torch.isfinite(discrete_laplace_lengths(torch.zeros(5, dtype=torch.int64), torch.tensor([1000]))).all()


def test_held_out_length_is_above_the_entropy_where_the_plug_in_is_below():
    drawn = torch.randint(0, 256, (400,), generator=torch.Generator().manual_seed(0))
    assert plugin_entropy(drawn) < 8 - 0.2
    assert code_lengths(drawn[:200], drawn[200:], alphabet_bits=8).mean() > 8
