"""Scene cuts against models whose leakage is known, and the positive control: train on cuts, and the jump goes away."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from lam.bottlenecks import Identity
from lam.data.clip import Clip
from lam.encoders.patches import Patches
from lam.evals import Leakage
from lam.models.latent_action import LatentActionModel
from tests.evals.toy import ToyModel, clips, evaluate
from tests.models.test_linear_model import LinearForward, LinearInverse

SIZE, DIRECTIONS = 4, 12


class Copying(ToyModel):
    """Latents hold the whole next state, to two digits."""

    def infer(self, states):
        return (50 * states[:, 1:]).round() / 50

    def predict(self, states, z):
        return z


def measured(model, clip, **arguments):
    return evaluate(Leakage(num_clips=len(clip), **arguments), model.validation_step(clip, 0), model=model)


@pytest.mark.parametrize(("frames", "per_state"), [(2, 1), (3, 1), (5, 1), (8, 2)])
def test_values_match_the_protocol_written_out(frames, per_state):
    model, clip = ToyModel(per_state), clips(6, frames=frames)
    results = measured(model, clip, batch=4)
    num_states = frames // per_state
    kept = num_states // 2
    order = model.clip_buffer.clips(6).position.tolist()
    for position in range(6):
        other = order[(order.index(position) + 1) % 6]
        spliced = torch.cat([clip.frames[position, : kept * per_state], clip.frames[other, kept * per_state :]])
        states, own = (model.encoder(frames[None])[0] for frames in (spliced, clip.frames[position]))

        def errors(states):
            change = states[1:] - states[:-1]
            return (change - 0.5 * change.mean(dim=1, keepdim=True)).abs().mean(dim=(1, 2)) / 0.1

        expected = {
            "uncut": errors(own)[kept - 1],
            "cut": errors(states)[kept - 1],
            "copy_cut": (states[kept] - states[kept - 1]).abs().mean() / 0.1,
            "after": errors(states)[kept:].mean(),
        }
        assert ("after" in results.clips) == (num_states > 2)
        for name, (positions, values) in results.clips.items():
            assert positions[position] == position
            assert values[position].item() == pytest.approx(expected[name].item(), rel=1e-4), name
    metrics = results.metrics
    for name, (_, values) in results.clips.items():
        assert metrics[name] == pytest.approx(values.mean().item())
    assert metrics["ratio"] == pytest.approx(metrics["cut"] / metrics["uncut"])
    assert metrics["share"] == pytest.approx(1 - metrics["cut"] / metrics["copy_cut"])


def test_states_of_a_cache_are_cut_as_they_are():
    class Cached(ToyModel):
        def __init__(self):
            super().__init__()
            self.encoder = Stored()

    class Stored(nn.Module):
        frames_per_state = 1

        def forward(self, frames):
            return frames.float()

    clip = clips(4, frames=4)
    clip.frames = torch.randn(4, 4, 2, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    model = Cached()
    results = measured(model, clip)
    order = model.clip_buffer.clips(4).position.tolist()
    other = order[(order.index(0) + 1) % 4]
    jump = (clip.frames[other, 2].float() - clip.frames[0, 1].float()).abs().mean() / 0.1
    assert results.clips["copy_cut"][1][0].item() == pytest.approx(jump.item(), rel=1e-5)


def videos(count):
    """Textures of a few directions, of which two move, under noise that nobody can predict; (count, 2, 3, SIZE, SIZE)."""
    generator = torch.Generator().manual_seed(count)
    directions = torch.linalg.qr(torch.randn(3 * SIZE**2, DIRECTIONS, generator=torch.Generator().manual_seed(0)))[0]
    place = torch.randn(count, 1, DIRECTIONS, generator=generator).repeat(1, 2, 1)
    place[:, 1, :2] += 0.6 * torch.randn(count, 2, generator=generator)
    pictures = 128 + 110 * place @ directions.T + 8 * torch.randn(count, 2, 3 * SIZE**2, generator=generator)
    frames = pictures.round().clamp(0, 255).to(torch.uint8).unflatten(2, (3, SIZE, SIZE))
    names = [f"video{i}" for i in range(count)]
    return Clip(frames, torch.arange(2.0, dtype=torch.float64).expand(count, -1), torch.arange(count), names, names)


def trained(frames, latent_dim):
    """A linear latent action model with an unconstrained latent."""
    torch.manual_seed(0)
    inverse, forward = LinearInverse, LinearForward
    model = LatentActionModel(
        Patches(SIZE, patch=2), inverse, Identity, forward, partial(torch.optim.AdamW), nn.MSELoss(reduction="none"), latent_dim
    )
    states = model.encoder(frames)
    model.copy_error.copy_((states[:, 1:] - states[:, :-1]).square().mean())
    heads = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.LBFGS(heads, max_iter=60, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        error = model.error(model.predict(states[:, :-1], model.apply_bottleneck(model.infer(states)).z), states[:, 1:]).mean()
        error.backward()
        return error

    optimizer.step(loss)
    model.on_validation_epoch_start()
    return model


@pytest.fixture(scope="module")
def test_videos():
    return videos(64)


def with_cuts(frames):
    """Every second clip goes on as another one."""
    return torch.cat([frames, torch.cat([frames[:, :1], frames[:, 1:].roll(1, dims=0)], dim=1)])


def test_positive_control_a_wide_latent_trained_on_cuts_predicts_them(test_videos):
    metrics = measured(trained(with_cuts(videos(300).frames), latent_dim=DIRECTIONS + 4), test_videos).metrics
    assert metrics["ratio"] == pytest.approx(1, abs=0.15)
    assert metrics["copies"] == 1


def test_a_latent_that_never_saw_a_cut_jumps(test_videos):
    metrics = measured(trained(videos(300).frames, latent_dim=2), test_videos).metrics
    assert metrics["ratio"] > 5
    assert metrics["copies"] == 0


def test_a_copy_is_flagged_and_an_honest_latent_of_low_capacity_is_not():
    clip = clips(8, frames=4)
    honest, copying = (measured(model, clip).metrics for model in (ToyModel(), Copying()))
    assert honest["copies"] == 0 and honest["share"] < 0.3
    assert copying["copies"] == 1 and copying["share"] > 0.95
    assert copying["ratio"] == pytest.approx(1, abs=0.3)


def test_an_exact_copy_has_no_ratio():
    class Exact(Copying):
        def infer(self, states):
            return states[:, 1:]

    metrics = measured(Exact(), clips(8)).metrics
    assert metrics["cut"] == metrics["uncut"] == 0 and metrics["share"] == 1
    assert "ratio" not in metrics


def test_clips_of_one_source_cannot_be_cut():
    clip = clips(4)
    clip.source = ["one"] * 4
    assert measured(ToyModel(), clip).metrics == {}
