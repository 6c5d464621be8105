"""Quantizers by brute force, and against vector-quantize-pytorch."""

import math

import pytest
import torch
from torch.optim import Adam

from lam.bottlenecks import FSQ, NSVQ, RVQ, VQ, DiVeQ
from lam.bottlenecks.codebook import (
    CODEBOOK_LR_SCALE,
    nearest,
)
from lam.bottlenecks.diveq import add_directed_error
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
        (DiVeQ(4, 2, num_codes=16), 2, 8.0),
        (RVQ(4, 2, num_quantizers=3, num_codes=4), 6, 12.0),
        (FSQ(4, 2, num_levels=5, num_channels=3), 2, 6 * math.log2(5)),
        (FSQ(4, 1, num_levels=2, num_channels=3), 1, 3.0),
    ],
    ids=["VQ", "NSVQ", "DiVeQ", "RVQ", "FSQ", "FSQ2"],
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
    again = bottleneck.from_channels(bottleneck.quantizer.indices_to_codes(out.codes[:, 0]))
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


def test_directed_error_by_brute_force():
    """DiVeQ's z + |c - z| sg(v / |v|), v = noise + c - z, and its gradients by hand: I - u e^T to z, u e^T to c."""
    latent, code = torch.randn(2, 5, 4).unbind()
    noise = 0.1 * torch.randn(5, 4)
    for i in range(5):
        length = math.dist(latent[i].tolist(), code[i].tolist())
        v = [noise[i, k].item() + code[i, k].item() - latent[i, k].item() for k in range(4)]
        direction = torch.tensor(v) / math.sqrt(sum(x * x for x in v))
        torch.testing.assert_close(add_directed_error(latent, code, noise)[i], latent[i] + length * direction)
        outer = torch.outer(direction, (code[i] - latent[i]) / length)
        to_latent, to_code = torch.autograd.functional.jacobian(
            lambda z, c, noise=noise[i]: add_directed_error(z, c, noise), (latent[i], code[i])
        )
        torch.testing.assert_close(to_latent, torch.eye(4) - outer)
        torch.testing.assert_close(to_code, outer)


def test_directed_error_agrees_with_the_library():
    from vector_quantize_pytorch.vector_quantize_pytorch import directional_reparam

    latent, code = torch.randn(2, 50, 8).unbind()
    torch.manual_seed(1)
    expected = directional_reparam(latent, code, 1e-3)
    torch.manual_seed(1)
    torch.testing.assert_close(add_directed_error(latent, code, math.sqrt(1e-3) * torch.randn_like(latent)), expected)


def test_diveq_trains_close_to_the_code():
    """The noise moves the output off the code by its part across the error: (A - 1) sigma^2."""
    torch.manual_seed(0)
    bottleneck = DiVeQ(16, 1, num_codes=4, noise_variance=1e-3)
    z = 3 * torch.randn(2000, 1, 1, 16)
    trained, code = bottleneck.train()(z, noise_keys=torch.arange(2000)), bottleneck.eval()(z)
    assert torch.equal(trained.codes, code.codes)
    assert (trained.z - code.z).square().sum(dim=-1).mean().item() == pytest.approx(15e-3, rel=0.05)


@pytest.mark.parametrize("cls", [NSVQ, DiVeQ])
def test_an_exact_hit_has_a_gradient(cls):
    bottleneck = cls(4, 1, num_codes=2)
    z = (CODEBOOK_LR_SCALE * bottleneck.codebook.detach()[:1]).view(1, 1, 1, 4).clone().requires_grad_()
    bottleneck(z).z.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))
    assert torch.equal(bottleneck.codebook.grad, torch.zeros_like(bottleneck.codebook))


def test_eval_uses_the_code_itself():
    for bottleneck in (VQ(4, 2), NSVQ(4, 2), DiVeQ(4, 2)):
        out = bottleneck.eval()(torch.randn(3, 1, 2, 4))
        assert torch.equal(out.z, CODEBOOK_LR_SCALE * bottleneck.codebook[out.codes])


def test_fsq_follows_channels_that_drift_together():
    """The grid stands still, so channels are brought back to it, each at its own scale, by averages as written out here."""
    torch.manual_seed(0)
    bottleneck = FSQ(6, 1, num_levels=3, num_channels=2)
    optimizer = Adam(bottleneck.parameters(), lr=0.0)
    noise, shift, scale = 0.2 * torch.randn(256, 2, 1, 6), torch.zeros(2), torch.zeros(2)
    for step in range(120):
        z = (1 + min(step, 10)) * noise + min(step, 10) * torch.tensor([0.5, -0.5, 0.5, 0.5, -0.5, 0.5])
        bottleneck(z)
        bottleneck.on_optimizer_step(optimizer)
        channels = bottleneck.to_channels(bottleneck.standardize(z)).flatten(0, 2).detach()
        rate, mean = (1.0 if step == 0 else 0.1), channels.mean(dim=0)
        shift = (1 - rate) * shift + rate * mean
        scale = (1 - rate) * scale + rate / channels.std(dim=0, correction=0)
    torch.testing.assert_close(bottleneck.standardize_channels.shift[0], shift)
    torch.testing.assert_close(bottleneck.standardize_channels.scale[0], scale)
    codes = bottleneck.eval()(z).codes.flatten()
    assert (torch.bincount(codes, minlength=9) > 512 / 9 / 2).all()  # every combination of levels has its share


def test_fsq_codes_stay_in_use_when_all_latents_move_at_once():
    """Thirty standard deviations from one step to the next, as on the world arm; a running average would be ten steps late."""
    torch.manual_seed(0)
    bottleneck = FSQ(6, 1, num_levels=5, num_channels=2)
    optimizer = Adam(bottleneck.parameters(), lr=0.0)
    noise = torch.randn(256, 2, 1, 6)
    for step in range(3):
        z = (noise + 30 * step).requires_grad_()
        out = bottleneck(z)
        assert len(out.codes.unique()) > 20
        (out.z * torch.randn_like(z)).sum().backward()
        assert z.grad.abs().mean() > 0.01  # not saturated
        bottleneck.on_optimizer_step(optimizer)


def test_fsq_starts_on_the_principal_directions_of_the_data():
    """Latents of two large directions among six: after the first step the levels tell both, and z is in their plane."""
    torch.manual_seed(0)
    bottleneck = FSQ(6, 2, num_levels=5, num_channels=2)
    optimizer = Adam(bottleneck.parameters(), lr=1e-3)
    plane = torch.linalg.qr(torch.randn(6, 2))[0]
    z = 7 + (3 * torch.randn(300, 1, 2, 2) * torch.tensor([1.0, 0.3])) @ plane.T + 0.01 * torch.randn(300, 1, 2, 6)
    out = bottleneck(z)
    out.z.square().sum().backward()
    optimizer.step()
    bottleneck.on_optimizer_step(optimizer)
    latent = bottleneck.standardize(z)
    out = bottleneck.eval()(z).z
    torch.testing.assert_close(out @ plane @ plane.T, out, rtol=0, atol=0.05)
    for direction in plane.T:  # each told about as well as 5 levels can tell a Gaussian: correlation 0.96
        told = torch.corrcoef(torch.stack([(out @ direction).flatten(), (latent @ direction).flatten()]))[0, 1]
        assert told > 0.9
    for layer in (bottleneck.to_channels, bottleneck.from_channels):
        assert all((optimizer.state[parameter]["exp_avg"] == 0).all() for parameter in layer.parameters())
