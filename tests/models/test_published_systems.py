"""Published systems as their files say: heads, layout of the latent and bottleneck fit, and have the published rate."""

import math

import pytest
import torch
import yaml

import lam.bottlenecks
import lam.models.forward
import lam.models.inverse
from lam.encoders.base import StateShape
from tests.tiny import EXPERIMENTS

PUBLISHED = {  # tokens, their width, capacity in bits (peers' codebooks; none for continuous latents)
    "lapa": (4, 32, 12),
    "univla": (4, 128, 16),
    "adaworld": (1, 32, None),
    "garrido": (1, 128, None),
    "rla": (32, 64, None),
    "lapo": (8, 16, 48),
    "moto": (8, 32, 56),
}
ANCHORS = ("none", "identity")


def build(settings, module, *positional, **small):
    """Build a part that a file names."""
    return getattr(module, settings["class_path"])(*positional, **settings.get("init_args", {}), **small)


def test_every_system_has_its_published_layout_here():
    assert {path.stem for path in (EXPERIMENTS / "systems").glob("*.yaml")} == set(PUBLISHED)


@pytest.mark.parametrize("bottleneck", ["own", *ANCHORS])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_system_predicts_and_learns_with_its_own_bottleneck_and_with_anchors(name, bottleneck):
    torch.manual_seed(0)
    model = yaml.safe_load((EXPERIMENTS / "systems" / f"{name}.yaml").read_text())["model"]
    if bottleneck in ANCHORS:
        model |= yaml.safe_load((EXPERIMENTS / "bottlenecks" / f"{bottleneck}.yaml").read_text())["model"]
    tokens, width, bits = PUBLISHED[name]
    assert (model["num_latents"], model["latent_dim"]) == (tokens, width)
    shape = StateShape(2, 2, 12)
    small = {"width": 32, "depth": 1}
    inverse = build(model["inverse_model"], lam.models.inverse, shape, tokens, width, **small)
    forward = build(model["forward_model"], lam.models.forward, shape, tokens, width, **small)
    limit = build(model["bottleneck"], lam.bottlenecks, width, tokens)
    states = torch.randn(3, 3, 4, 12)
    latents = inverse(states[:, :-1], states[:, 1:])
    assert latents.shape == (3, 2, tokens, width)
    output = limit(latents)
    predicted = forward(states[:, :-1], output.z)
    assert predicted.shape == states[:, 1:].shape
    ((predicted - states[:, 1:]).square().mean() + output.loss).backward()
    assert all(torch.isfinite(p.grad).all() for p in inverse.parameters() if p.grad is not None)
    if bottleneck == "own" and bits is not None:
        assert output.codes.shape == (3, 2, tokens)
        torch.testing.assert_close(output.rate_bits, torch.full((3, 2), float(bits)))
        assert bits == tokens * math.log2(limit.num_codes)
    assert limit.sample_prior(5).shape == (5, tokens, width)
