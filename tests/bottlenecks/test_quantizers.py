"""Quantizers by brute force, and against vector-quantize-pytorch."""

import math

import pytest
import torch
from torch.optim import Adam

from lam.bottlenecks import FSQ, NSVQ, RVQ, VQ
from lam.bottlenecks.codebook import CODEBOOK_LR_SCALE, CodeUsage, kmeans_plus_plus, nearest, reset_dead_codes
from lam.bottlenecks.nsvq import substitute_noise


def test_nearest_by_brute_force():
    rows, codebook = torch.randn(3, 4, 5), torch.randn(7, 5)
    codes = nearest(rows, codebook)
    for i in range(3):
        for j in range(4):
            distances = [((rows[i, j] - code) ** 2).sum().item() for code in codebook]
            assert codes[i, j] == distances.index(min(distances))


def test_vq_by_hand():
    bottleneck = VQ(2, 1, num_codes=3, commitment=0.25)
    with torch.no_grad():
        bottleneck.codebook.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [4.0, 0.0]]) / CODEBOOK_LR_SCALE)
    z = torch.tensor([[[[0.9, 0.8]]], [[[3.0, 0.5]]]], requires_grad=True)
    out = bottleneck(z)
    assert out.codes.flatten().tolist() == [1, 2]
    assert torch.equal(out.z.detach().view(2, 2), torch.tensor([[1.0, 1.0], [4.0, 0.0]]))
    assert out.loss.item() == pytest.approx(1.25 * (0.01 + 0.04 + 1.0 + 0.25) / 4)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(2, 1, 1, 2)
    (gradient,) = torch.autograd.grad((out.z * weight).sum(), z, retain_graph=True)
    assert torch.equal(gradient, weight)  # straight through
    gradients = torch.autograd.grad(out.loss, [z, bottleneck.codebook])
    torch.testing.assert_close(gradients[0].view(2, 2), 0.25 * 2 / 4 * torch.tensor([[-0.1, -0.2], [-1.0, 0.5]]))
    expected = 2 / 4 * CODEBOOK_LR_SCALE * torch.tensor([[0.0, 0.0], [0.1, 0.2], [1.0, -0.5]])
    torch.testing.assert_close(gradients[1], expected)


@pytest.mark.parametrize(
    ("bottleneck", "codes", "bits"),
    [
        (VQ(4, 3, num_codes=8), 3, 9.0),
        (NSVQ(4, 2, num_codes=16), 2, 8.0),
        (RVQ(4, 2, num_quantizers=3, num_codes=4), 6, 12.0),
        (FSQ(4, 2, num_levels=5, num_channels=3), 2, 6 * math.log2(5)),
        (FSQ(4, 1, num_levels=2, num_channels=3), 1, 3.0),
    ],
    ids=["VQ", "NSVQ", "RVQ", "FSQ", "FSQ2"],
)
def test_codes_and_bits(bottleneck, codes, bits):
    out = bottleneck.eval()(torch.randn(200, 2, bottleneck.num_latents, 4))
    assert out.codes.shape == (200, 2, codes)
    torch.testing.assert_close(out.rate_bits, torch.full((200, 2), bits))
    assert out.codes.min() >= 0
    assert out.codes.max() < bottleneck.num_codes
    # the number of different outputs of a token is at most what its bits allow
    token = out.z[:, :, 0].detach().flatten(0, 1)
    assert len(torch.unique((token * 1e4).round(), dim=0)) <= round(2 ** (bits / bottleneck.num_latents))


def test_fsq_code_names_the_output():
    bottleneck = FSQ(6, 1, num_levels=3, num_channels=2).eval()
    out = bottleneck(torch.randn(50, 1, 1, 6))
    again = bottleneck.quantizer.indices_to_codes(out.codes[:, 0])
    torch.testing.assert_close(again, out.z[:, 0])


def test_rvq_codes_what_is_left_over_by_brute_force():
    bottleneck = RVQ(3, 2, num_quantizers=3, num_codes=4)
    z = torch.randn(5, 1, 2, 3)
    out = bottleneck(z)
    left, loss, expected = z.clone(), 0.0, torch.zeros_like(z)
    codes = out.codes.view(5, 1, 2, 3)
    for level, codebook in enumerate(bottleneck.quantizer.parameters()):
        vectors = CODEBOOK_LR_SCALE * codebook.detach()[0]
        best = (left[..., None, :] - vectors).square().sum(-1).argmin(-1)
        assert torch.equal(codes[..., level], best)
        loss += 1.25 * (left - vectors[best]).square().mean()
        expected += vectors[best]
        left = left - vectors[best]
    torch.testing.assert_close(out.z, expected)
    torch.testing.assert_close(out.loss, loss)


def test_noise_substitution_by_brute_force():
    latent, code, noise = torch.randn(3, 5, 4).unbind()
    latent.requires_grad_()
    out = substitute_noise(latent, code, noise)
    for i in range(5):
        length = math.dist(latent[i].tolist(), code[i].tolist())
        expected = latent[i] + length * noise[i] / noise[i].norm()
        torch.testing.assert_close(out[i], expected)


def test_noise_substitution_agrees_with_the_library():
    """vector-quantize-pytorch's directional reparameterization is NSVQ when its variance is huge."""
    from vector_quantize_pytorch.vector_quantize_pytorch import directional_reparam

    torch.manual_seed(0)
    latent, code = torch.randn(20000, 8), torch.randn(20000, 8)
    error = code - latent
    for limited in (substitute_noise(latent, code, torch.randn_like(latent)), directional_reparam(latent, code, 1e8)):
        noise = limited - latent
        torch.testing.assert_close(noise.norm(dim=1), error.norm(dim=1), rtol=1e-4, atol=1e-5)
        cosine = torch.cosine_similarity(noise, error)
        assert abs(cosine.mean()) < 5 / math.sqrt(8 * 20000)  # uniform directions: mean 0, variance 1 / dim
        assert cosine.square().mean().item() == pytest.approx(1 / 8, rel=0.05)


def test_nsvq_survives_an_exact_hit():
    bottleneck = NSVQ(4, 1, num_codes=2)
    z = (CODEBOOK_LR_SCALE * bottleneck.codebook.detach()[:1]).view(1, 1, 1, 4).clone().requires_grad_()
    bottleneck(z).z.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))
    assert torch.equal(bottleneck.codebook.grad, torch.zeros_like(bottleneck.codebook))


def test_eval_uses_the_code_itself():
    for bottleneck in (VQ(4, 2), NSVQ(4, 2)):
        out = bottleneck.eval()(torch.randn(3, 1, 2, 4))
        assert torch.equal(out.z, CODEBOOK_LR_SCALE * bottleneck.codebook[out.codes])


def test_every_assignment_counts():
    usage = CodeUsage(3, max_period=100, num_codebooks=2)
    codes = torch.tensor([[0, 2], [0, 2], [1, 2]])
    ended = [step for step in range(1, 1001) if usage.count(codes)]
    assert ended == [*range(1, 10), *range(10, 100, 10), *range(100, 1001, 100)]
    assert usage.finished.tolist() == [[200, 100, 0], [0, 0, 300]]
    assert usage.dead.tolist() == [[False, False, True], [True, True, False]]
    assert usage.used(1).tolist() == [2]


def test_reset_moves_dead_codes_onto_latents_and_clears_their_moments():
    torch.manual_seed(0)
    codebook = torch.nn.Parameter(torch.randn(4, 3))
    optimizer = Adam([codebook])
    codebook.square().sum().backward()
    optimizer.step()
    before = codebook.detach().clone()
    rows = 10 + torch.randn(20, 3)
    dead = torch.tensor([False, True, False, True])
    reset_dead_codes(codebook, dead, rows, 7, optimizer)
    moved = CODEBOOK_LR_SCALE * codebook.detach()[dead]
    distance = torch.cdist(moved, rows).amin(dim=1)
    assert (distance > 0).all()  # with jitter, so that no latent hits a code exactly
    assert (distance < 0.1).all()
    assert not torch.equal(moved[0], moved[1])
    assert torch.equal(codebook[~dead], before[~dead])
    for moment in (optimizer.state[codebook]["exp_avg"], optimizer.state[codebook]["exp_avg_sq"]):
        assert (moment[dead] == 0).all()
        assert (moment[~dead] != 0).all()


def test_kmeans_plus_plus_finds_every_cluster():
    centers = 100 * torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    rows = centers.repeat(10, 1) + 0.1 * torch.randn(120, 4)
    live = centers[:3]
    new = kmeans_plus_plus(rows, live, 9, torch.Generator().manual_seed(1))
    owner = torch.cdist(new, centers).argmin(dim=1)
    assert sorted(owner.tolist()) == list(range(3, 12))
    assert kmeans_plus_plus(rows[:5], live[:0], 200, torch.Generator()).shape == (200, 4)  # more codes than rows


@pytest.mark.parametrize("cls", [VQ, NSVQ, RVQ])
def test_codes_follow_the_data_at_any_scale(cls):
    """Latents far from 0, hardly varying, in 8 clusters: after one step every code serves."""
    torch.manual_seed(0)
    centers = 5 + 0.05 * torch.randn(8, 6)
    bottleneck = cls(6, 1, num_codes=8) if cls is not RVQ else RVQ(6, 1, num_quantizers=1, num_codes=8)
    optimizer = Adam(bottleneck.parameters(), lr=0.0)
    z = (centers.repeat(16, 1) + 1e-4 * torch.randn(128, 6)).view(64, 2, 1, 6)
    out = bottleneck(z)
    (out.z.sum() + out.loss).backward()
    optimizer.step()
    bottleneck.on_optimizer_step(optimizer)
    out = bottleneck.eval()(z)
    assert len(out.codes.unique()) == 8
    assert out.stats["distance"] < 0.01
    assert len(bottleneck.sample_prior(200, torch.Generator().manual_seed(0)).flatten(1).unique(dim=0)) == 8


def test_fsq_follows_latents_that_drift_together():
    """The grid stands still, so the latents are brought back to it; shifts and scales are those of an average by hand."""
    torch.manual_seed(0)
    bottleneck = FSQ(6, 1, num_levels=3, num_channels=2)
    optimizer = Adam(bottleneck.parameters(), lr=0.0)
    noise, shift, scale = 0.2 * torch.randn(256, 2, 1, 6), torch.zeros(6), torch.zeros(())
    for step in range(120):
        z = noise + min(step, 10) * torch.tensor([0.5, -0.5, 0.5, 0.5, -0.5, 0.5])
        bottleneck(z)
        bottleneck.on_optimizer_step(optimizer)
        rate, mean = (1.0 if step == 0 else 0.1), z.mean(dim=(0, 1, 2))
        shift = (1 - rate) * shift + rate * mean
        scale = (1 - rate) * scale + rate / (z - mean).square().mean().sqrt()
    torch.testing.assert_close(bottleneck.standardize.shift[0], shift)
    torch.testing.assert_close(bottleneck.standardize.scale, scale)
    centered = (noise - noise.mean(dim=(0, 1, 2))) / noise.std()
    codes = bottleneck.eval()(z).codes.flatten()
    assert len(codes.unique()) > 4
    assert (codes == bottleneck.quantizer(centered.flatten(0, 1))[1].flatten()).float().mean() > 0.97


def test_nsvq_stops_moving_codes():
    bottleneck = NSVQ(4, 1, num_codes=4, reset_until=15)
    optimizer = Adam(bottleneck.parameters(), lr=0.0)
    history = []
    for _ in range(30):
        bottleneck(0.01 * torch.randn(8, 1, 1, 4) + (torch.rand(8, 1, 1, 1) > 0.5))
        bottleneck.on_optimizer_step(optimizer)
        history.append(bottleneck.codebook.detach().clone())
        bottleneck.usage.current.zero_()  # so that every code looks dead at the end of a period
        bottleneck.usage.current[0, 0] = 1000
    changed = [step + 1 for step in range(1, 30) if not torch.equal(history[step], history[step - 1])]
    assert changed == [*range(2, 11)]  # ends of periods up to step 15
