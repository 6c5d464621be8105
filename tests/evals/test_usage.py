import math

import pytest
import torch

from lam.bottlenecks.base import BottleneckOutput
from lam.evals import Usage
from tests.evals.toy import ToyBottleneck, ToyModel, evaluate, observed


def usage(z, **keywords):
    return evaluate(Usage(), observed(z, **keywords))


def test_a_collapsed_latent_is_flagged():
    metrics = usage(0.7 + 1e-3 * torch.randn(50, 2, 8)).metrics
    assert metrics["collapsed"] == 1
    assert metrics["active_dimensions"] == 0
    exactly = usage(torch.zeros(50, 2, 8)).metrics
    assert exactly["collapsed"] == 1
    assert exactly["effective_rank"] == exactly["participation_ratio"] == exactly["norm"] == 0


def test_a_latent_that_is_alive_is_not():
    z = torch.zeros(4000, 2, 8)
    z[..., :3] = torch.randn(4000, 2, 3, generator=torch.Generator().manual_seed(0))
    results = usage(z)
    assert results.metrics["collapsed"] == 0
    assert results.metrics["active_dimensions"] == 3
    assert results.metrics["effective_rank"] == pytest.approx(3, abs=0.01)
    assert results.metrics["participation_ratio"] == pytest.approx(3, abs=0.02)
    assert results.metrics["std"] == pytest.approx(3 / 8, abs=0.01)
    assert results.metrics["norm"] == pytest.approx(math.sqrt(8 / math.pi), abs=0.02)  # mean of a chi with 3 degrees
    assert results.curves["std"] == sorted(results.curves["std"], reverse=True)


def test_the_scale_of_a_latent_does_not_matter():
    class Plain(ToyBottleneck):
        def forward(self, z, sample=False, noise_keys=None):
            return BottleneckOutput(z, z.new_zeros(()))

    model, z = ToyModel(), torch.randn(200, 2, 4)
    model.bottleneck = Plain(4, 1)
    small, large = (evaluate(Usage(), observed(scale * z), model=model).metrics for scale in (1e-3, 1e3))
    assert small["active_dimensions"] == large["active_dimensions"] == 4
    assert small["collapsed"] == large["collapsed"] == 0


def test_a_large_constant_part_does_not_hide_what_varies():
    class Plain(ToyBottleneck):
        def forward(self, z, sample=False, noise_keys=None):
            return BottleneckOutput(z, z.new_zeros(()))

    model, z = ToyModel(), 0.03 * torch.randn(200, 2, 4, generator=torch.Generator().manual_seed(0))
    model.bottleneck = Plain(4, 1)
    metrics = evaluate(Usage(), observed(z + 1.0), model=model).metrics
    assert metrics["active_dimensions"] == 4
    assert metrics["collapsed"] == 0
    assert evaluate(Usage(), observed(0.1 * z + 1.0), model=model).metrics["collapsed"] == 1


def test_a_posterior_that_is_all_noise_has_collapsed():
    """Means of size 0.001 under noise of 0.5: the drawn z says nothing."""
    assert usage(1e-3 * torch.randn(200, 2, 4)).metrics["collapsed"] == 1


def test_codes_of_equal_frequency():
    first, second = torch.arange(4).repeat(12), torch.arange(6).repeat_interleave(8)
    codes = torch.stack([first, second], dim=1).view(24, 2, 2)
    metrics = usage(codes.float(), codes=codes, bits=2 * math.log2(8)).metrics
    assert metrics["perplexity"] == pytest.approx(24)
    assert metrics["perplexity_code"] == pytest.approx((4 + 6) / 2)
    assert metrics["codes_used"] == pytest.approx(24 / 48)  # 64 tuples there are, 48 transitions
    assert metrics["codebook_used"] == pytest.approx((4 / 8 + 6 / 8) / 2)
    assert metrics["collapsed"] == 0


def test_codes_used_counts_tuples():
    """Two codes that always agree use 8 of 64 tuples, although each uses its whole codebook."""
    same = torch.arange(8).repeat(40).view(160, 2, 1).expand(160, 2, 2)
    agree = usage(same.float(), codes=same, bits=6).metrics
    assert (agree["codes_used"], agree["codebook_used"]) == (pytest.approx(8 / 64), 1)
    every = torch.cartesian_prod(torch.arange(8), torch.arange(8)).view(32, 2, 2)
    assert usage(every.float(), codes=every, bits=6).metrics["codes_used"] == 1
    # 20 transitions, all different: no more could occur of the 16^16 tuples
    different = torch.zeros(20, 16, dtype=torch.int64)
    different[:, 0], different[:, 1] = torch.arange(20) % 16, torch.arange(20) // 16
    different = different.view(10, 2, 16)
    assert usage(different.float(), codes=different, bits=64).metrics["codes_used"] == 1


def test_a_single_code_is_a_collapse_even_where_z_is_large():
    codes = torch.zeros(100, 2, 1, dtype=torch.int64)
    codes[0, 0] = 3
    assert usage(5 * codes.float(), codes=codes, bits=4).metrics["collapsed"] == 1


def test_distinct_codes_close_together_are_no_collapse():
    codes = torch.randint(0, 8, (100, 2, 1))
    assert usage(1e-3 * codes.float(), codes=codes, bits=3).metrics["collapsed"] == 0


def test_divergence_of_each_dimension():
    from lam.bottlenecks import Noisy
    from lam.models.base import Observation
    from tests.evals.toy import clips

    bottleneck = Noisy(3, 2).eval()
    latent = torch.randn(20, 2, 2, 3)
    limited = bottleneck(latent)
    states, error = torch.zeros(20, 3, 1, 1), torch.ones(20, 2)
    drawn = bottleneck(latent, sample=True, noise_keys=torch.arange(20)).z
    seen = Observation(clips(20, 3, size=4), states, latent, limited, states[:, 1:], error, error, drawn)
    curve = evaluate(Usage(), seen).curves["kl_per_dimension"]
    assert curve == sorted(curve, reverse=True)
    assert sum(curve) == pytest.approx(limited.rate_bits.mean().item())
