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
from lam.evals.common.scenes import candidate_scenes
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


class Still(ToyModel):
    """Nothing changes, whatever latents say."""

    def predict(self, states, z):
        return states


class SmallCopying(Copying):
    """The whole next state, where it differs little from the present one; else nothing changes."""

    def predict(self, states, z):
        near = (z - states).square().mean(dim=(2, 3), keepdim=True).sqrt() < 0.1
        return torch.where(near, z, states)


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
            if name.startswith("identified") or name.endswith("_drawn"):
                continue
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
    clip = clips(32, frames=4)
    honest, copying = (measured(model, clip).metrics for model in (Still(), Copying()))
    assert honest["copies"] == 0 and honest["share"] < 0.3
    assert copying["copies"] == 1 and copying["share"] > 0.95
    assert copying["identified"] == copying["identified_faint"] == copying["identified_imposed"] == 1
    assert copying["candidates"] == 31
    assert copying["ratio"] == pytest.approx(1, abs=0.3)


def quiet(count, frames=4):
    """Clips of which each has a texture of its own and changes a little all over."""
    generator = torch.Generator().manual_seed(3)
    clip = clips(count, frames=frames, seed=4)
    texture = torch.randint(40, 216, (count, 1, 3, 8, 8), generator=generator)
    clip.frames = (texture + torch.randint(-20, 21, (count, frames, 3, 8, 8), generator=generator)).to(torch.uint8)
    return clip


def test_a_copy_of_small_differences_alone_is_flagged():
    """Its share at a cut is 0, so it passed for honest."""
    metrics = measured(SmallCopying(), quiet(32)).metrics
    assert abs(metrics["share"]) < 0.05 and metrics["identified"] < 0.2
    assert metrics["identified_faint"] > 0.95 and metrics["identified_imposed"] > 0.95
    assert metrics["copies"] == 1


def test_a_picture_that_knows_nothing_is_at_chance_and_has_a_share():
    """A flat picture predicts part of every scene: the share says that it copies half of it."""

    class Flat(ToyModel):
        def predict(self, states, z):
            return torch.zeros_like(states)

    metrics = measured(Flat(), clips(64, frames=4)).metrics
    assert metrics["share"] > 0.2
    for name in ("identified", "identified_faint", "identified_imposed"):
        assert metrics[name] < 0.08 and metrics[f"{name}_bits"] < 0.2, name
    assert metrics["copies"] == 0


def test_the_spliced_source_is_as_likely_as_any_other_however_many_clips_each_has():
    clip = clips(60, frames=4)
    clip.source = [f"source{min(i % 20, 5)}" for i in range(60)]  # one source has three quarters of the clips
    model = ToyModel()
    measured(model, clip)
    buffered = model.clip_buffer.clips(60)
    chosen = candidate_scenes(buffered)
    assert chosen.shape == (60, 5)
    of_source = buffered.source[chosen]
    assert (of_source != buffered.source[:, None]).all()
    assert all(len(set(row)) == 5 for row in of_source.tolist())
    large = buffered.source.mode().values
    spliced = of_source[buffered.source != large][:, 0]
    assert (spliced == large).double().mean() < 0.5  # of the clips it has 0.75


def test_clips_of_two_sources_leave_nothing_to_choose():
    clip = clips(8, frames=4)
    clip.source = ["one", "two"] * 4
    metrics = measured(ToyModel(), clip).metrics
    assert "cut" in metrics and "identified" not in metrics and "copies" not in metrics


def test_what_passed_the_channel_is_measured_beside_the_mean():
    clip = clips(16, frames=4)
    noisy, clean = measured(ToyModel(), clip).metrics, measured(Still(), clip).metrics
    assert noisy["cut_drawn"] > noisy["cut"] and noisy["uncut_drawn"] > noisy["uncut"]
    assert {name for name in noisy if name.endswith("_drawn")} == {name for name in clean if name.endswith("_drawn")}
    assert noisy["ratio_drawn"] == pytest.approx(noisy["cut_drawn"] / noisy["uncut_drawn"])


def test_an_error_near_nothing_is_no_denominator():
    class Nearly(Copying):
        def predict(self, states, z):
            return z + 1e-6

        def infer(self, states):
            return states[:, 1:]

    assert "ratio" not in measured(Nearly(), clips(8, frames=4)).metrics


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
