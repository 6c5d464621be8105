"""Nested dropout against principal components, and truncated latents by brute force."""

import pytest
import torch
from torch import nn
from torch.optim import Adam

from lam.bottlenecks import Nested, NestedRVQ, Sparse
from lam.bottlenecks.codebook import CODEBOOK_LR_SCALE
from lam.bottlenecks.nested import draw_lengths


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_lengths_have_the_stated_distribution_and_belong_to_the_clip():
    keys = torch.arange(20000)
    lengths = draw_lengths(keys, 5, keys)
    expected = 1 / torch.arange(1, 6)
    torch.testing.assert_close(torch.bincount(lengths)[1:] / 20000, expected / expected.sum(), rtol=0, atol=0.012)
    assert torch.equal(draw_lengths(keys, 5, keys.flip(0)), lengths.flip(0))
    assert torch.equal(draw_lengths(keys, 1, None), torch.ones_like(keys))


def test_evaluation_passes_the_first_numbers_and_training_a_prefix_of_them():
    bottleneck, z = Nested(4, 2, num_floats=6), normal(500, 3, 2, 4)
    whole = bottleneck.eval()(z).z.flatten(2)
    assert torch.equal(whole[..., :6], z.flatten(2)[..., :6])
    assert whole[..., 6:].abs().max() == 0
    trained = bottleneck.train()(z).z.flatten(2)
    kept = (trained != 0).sum(dim=-1)
    assert torch.equal(kept, kept[:, :1].expand(-1, 3))  # one length a clip
    assert kept.unique().tolist() == [1, 2, 3, 4, 5, 6]
    assert torch.equal(trained, z.flatten(2) * (torch.arange(8) < kept[..., None]))
    for length, output in bottleneck.eval().truncations(z).items():
        assert torch.equal(output.z.flatten(2), z.flatten(2) * (torch.arange(8) < length))
    assert list(bottleneck.truncations(z)) == [1, 2, 3, 4]
    assert list(Nested(30, 1, num_floats=25).truncations(normal(1, 1, 1, 30))) == [1, 2, 3, 4, 6, 8, 12, 16, 24]


def test_quantizers_cut_by_brute_force():
    torch.manual_seed(0)
    bottleneck, z = NestedRVQ(3, 2, num_quantizers=3, num_codes=4), normal(400, 2, 2, 3)
    books = [CODEBOOK_LR_SCALE * book.detach()[0] for book in bottleneck.quantizer.parameters()]
    whole = bottleneck.eval()(z)
    codes = whole.codes.view(400, 2, 2, 3)
    partial = torch.stack([book[codes[..., q]] for q, book in enumerate(books)]).cumsum(dim=0)  # (3, B, T-1, L, A)
    torch.testing.assert_close(whole.z, partial[2])
    cut = bottleneck.truncations(z)
    assert list(cut) == [1, 2]
    for length, output in cut.items():
        torch.testing.assert_close(output.z, partial[length - 1])
        assert torch.equal(output.codes.view(400, 2, 2, length), codes[..., :length])
        torch.testing.assert_close(output.rate_bits, torch.full((400, 2), 2.0 * 2 * length))
    trained = bottleneck.train()(z)
    kept = (trained.rate_bits / 4).round().long()  # 2 tokens of 2 bits
    assert torch.equal(kept, kept[:, :1].expand(-1, 2))
    assert kept.unique().tolist() == [1, 2, 3]
    torch.testing.assert_close(trained.z, partial[kept[:, 0] - 1, torch.arange(400)])


def test_other_latents_have_one_length():
    assert Sparse(4, 1).truncations(normal(2, 1, 1, 4)) == {}


@pytest.fixture(scope="module")
def linear_toy():
    """A linear autoencoder through nested dropout on data whose components have variances 16, 4, 1, 0.25 and 6 more."""
    torch.manual_seed(0)
    deviations = torch.cat([torch.tensor([4.0, 2.0, 1.0, 0.5]), torch.full((6,), 0.1)])
    axes = torch.linalg.qr(normal(10, 10, seed=1))[0]
    x = normal(4096, 10, seed=2)
    x = torch.linalg.qr(x - x.mean(dim=0))[0] * 4096**0.5 * deviations @ axes.T  # the sample's covariance is exact
    encode, decode, bottleneck = nn.Linear(10, 4, bias=False), nn.Linear(4, 10, bias=False), Nested(4, 1, num_floats=4)
    optimizer = Adam([*encode.parameters(), *decode.parameters()], lr=0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 800)
    generator = torch.Generator().manual_seed(3)
    for _ in range(800):
        rows = x[torch.randint(len(x), (256,), generator=generator)]
        z = encode(rows)[:, None, None]
        loss = (decode(bottleneck(z).z[:, 0, 0]) - rows).square().sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return x, axes, deviations.square(), encode, decode, bottleneck.eval()


@torch.no_grad()
def test_nested_dropout_finds_principal_components_in_order(linear_toy):
    x, axes, variances, encode, decode, bottleneck = linear_toy
    z = encode(x)[:, None, None]
    outputs = [*bottleneck.truncations(z).values(), bottleneck(z)]
    errors = torch.stack([(decode(output.z[:, 0, 0]) - x).square().sum(dim=1).mean() for output in outputs])
    # what a linear code of k numbers leaves over at best is the sum of the variances after the k-th (Eckart and Young)
    best = variances.sum() - variances.cumsum(dim=0)[:4]
    torch.testing.assert_close(errors, best, rtol=0.06, atol=0.01)
    gains = torch.cat([variances.sum()[None], errors]).diff().neg()
    assert (gains.diff() < 0).all()  # each number explains less than the one before
    directions = nn.functional.normalize(decode.weight, dim=0)
    assert ((axes[:, :4] * directions).sum(dim=0).abs() > 0.98).all()
