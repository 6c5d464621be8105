"""Noise keyed by sample: right distribution, and a function of the key alone."""

import torch
from scipy import stats

from lam.noise import keyed_normal, keyed_uniform, normal_like, splitmix64


def test_it_is_splitmix64s_finalizer():
    """Against the published function, in Python integers of any size."""

    def reference(x: int) -> int:
        mask = (1 << 64) - 1
        x &= mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    values = [0, 1, -1, 2**62, -(2**63), 123456789]
    expected = [reference(v) for v in values]
    got = [v % 2**64 for v in splitmix64(torch.tensor(values)).tolist()]
    assert got == expected


def test_uniform_and_normal_pass_a_kolmogorov_smirnov_test():
    keys = torch.arange(500)
    assert stats.kstest(keyed_uniform(keys, (40,)).flatten().numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(keyed_normal(keys, (40,)).flatten().numpy(), "norm").pvalue > 0.01


def test_rows_depend_on_their_key_alone():
    keys = torch.tensor([5, -7, 11])
    whole = keyed_normal(keys, (4, 3))
    assert torch.equal(whole[[2, 0]], keyed_normal(keys[[2, 0]], (4, 3)))
    assert not torch.equal(whole[0], whole[1])


def test_neighboring_keys_and_places_are_uncorrelated():
    noise = keyed_normal(torch.arange(4000), (6,))
    neighbors = torch.cat([noise[1:], noise[:-1]], dim=1)  # this key's six numbers and the previous key's
    off_diagonal = torch.corrcoef(neighbors.T) - torch.eye(12)
    assert off_diagonal.abs().max() < 0.07  # 4.4 standard errors of 66 correlations


def test_normal_like_takes_keys_or_the_global_state():
    x = torch.zeros(3, 2, 4, dtype=torch.bfloat16)
    keys = torch.arange(3)
    assert torch.equal(normal_like(x, keys), keyed_normal(keys, (2, 4)).bfloat16())
    torch.manual_seed(0)
    drawn = normal_like(x)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.randn_like(x))
