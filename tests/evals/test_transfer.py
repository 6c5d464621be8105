"""The cycle test against models whose transfer is known: honest ones, one that copies, one that does not listen."""

import pytest
import torch

from lam.bottlenecks.base import BottleneckOutput
from lam.evals import Transfer
from tests.evals.toy import ToyModel, clips, evaluate

CLIPS = clips(6, frames=4)


class Honest(ToyModel):
    """Latents are the mean change of each channel, whole, so a cycle brings them back; the toy's are half of it."""

    def infer(self, states):
        return 2 * super().infer(states)


class Copying(ToyModel):
    """Latents hold the whole next state, and the forward model paints it."""

    def infer(self, states):
        return states[:, 1:]

    def predict(self, states, z):
        return z


class Deaf(ToyModel):
    """Nothing that latents say changes the prediction."""

    def predict(self, states, z):
        return states + 0.01


def measured(model, clip=CLIPS, **arguments):
    return evaluate(Transfer(num_clips=len(clip), **arguments), model.validation_step(clip), model=model)


def test_values_match_the_protocol_written_out():
    """A toy whose latents are halved each time, so original, cycle, floor and random all differ."""
    model = ToyModel()
    results = measured(model)
    states = model.encoder(CLIPS.frames)
    z = 0.5 * (states[:, 1:] - states[:, :-1]).mean(dim=2, keepdim=True)
    place = {position: n for n, position in enumerate(_order(model))}  # where the clip buffer has a clip
    for position in range(6):
        ring = [(place[position] + steps) % 6 for steps in (1, 2)]
        other, third = (next(p for p, n in place.items() if n == m) for m in ring)
        own, b = states[position], states[other]

        def error(latents, own=own):
            return (own[:1] + latents.cumsum(dim=0) - own[1:]).abs().mean().item() / 0.1

        expected = {
            "original": error(z[position]),
            # what B was driven by is inferred at half its size, whatever B is
            "cycle": error(0.5 * z[position]),
            "floor": error(0.5 * z[position]),
            "random": error(z[third]),
        }
        driven = b[:1] + z[position].cumsum(dim=0)
        to_b, to_a = ((driven - states[n][1:]).abs().mean(dim=(1, 2)) for n in (other, position))
        expected["retention"] = (to_b < to_a).double().mean().item()
        for name, value in expected.items():
            positions, values = results.clips[name]
            assert positions[position] == position
            assert values[position].item() == pytest.approx(value, rel=1e-4), name
    for name, (_, values) in results.clips.items():
        assert results.metrics[name] == pytest.approx(values.mean().item())
    assert results.metrics["ratio"] == pytest.approx(results.metrics["cycle"] / results.metrics["original"])


def _order(model):
    return model.clip_buffer.clips(6).position.tolist()


def drifting(count=24):
    """Clips that keep their texture while their colors drift, each its own way: what an honest latent can carry over."""
    generator = torch.Generator().manual_seed(1)
    clip = clips(count, frames=4, seed=2)
    color = torch.randint(-8, 9, (count, 4, 3, 1, 1), generator=generator).cumsum(dim=1)
    texture = torch.randint(40, 216, (count, 1, 3, 2, 2), generator=generator).repeat_interleave(4, 3).repeat_interleave(4, 4)
    clip.frames = (texture + color).to(torch.uint8)
    return clip


def test_honest_latents_pass():
    metrics = measured(Honest(), drifting()).metrics
    assert metrics["cycle"] == pytest.approx(metrics["floor"], abs=1e-5)
    assert metrics["normalized"] == pytest.approx(0, abs=1e-2)
    assert metrics["ignored"] == 0
    assert metrics["retention"] > 0.9


def test_a_copy_is_perfect_in_the_cycle_and_fails_retention():
    metrics = measured(Copying(), drifting()).metrics
    assert metrics["cycle"] == metrics["floor"] == metrics["original"] == 0
    assert metrics["normalized"] == 0
    assert metrics["retention"] == 0
    assert "ratio" not in metrics  # 0 / 0


def test_latents_that_are_ignored_are_flagged_and_not_ranked():
    metrics = measured(Deaf(), drifting()).metrics
    assert metrics["ratio"] == 1  # which looks perfect
    assert metrics["ignored"] == 1
    assert "normalized" not in metrics


def test_latents_that_are_heard_by_chance_only_are_ignored():
    class Hissing(Deaf):
        """A whisper of a hash of z: the prediction depends on it, and is no better for it."""

        def predict(self, states, z):
            return states + 1e-3 * torch.sin(1e4 * z)

    metrics = measured(Hissing(), drifting()).metrics
    assert metrics["random"] != metrics["floor"]
    assert metrics["ignored"] == 1 and "normalized" not in metrics


def test_batches_do_not_matter():
    whole, parts = (measured(Honest(), drifting(), batch=batch) for batch in (32, 5))
    for name, (positions, values) in whole.clips.items():
        torch.testing.assert_close(parts.clips[name], (positions, values))
    assert parts.metrics == pytest.approx(whole.metrics)


def test_clips_of_one_source_have_no_partners():
    clip = clips(4)
    clip.source = ["one"] * 4
    assert measured(ToyModel(), clip).metrics == {}


def test_latents_pass_the_bottleneck_on_their_way():
    class Rounding(Honest):
        """A bottleneck that lets nothing through: all cycles lose what was inferred."""

        def apply_bottleneck(self, latent, sample=False, noise_keys=None):
            return BottleneckOutput(torch.zeros_like(latent), latent.new_zeros(()))

    results = measured(Rounding(), drifting())
    still = results.metrics["original"]
    assert results.metrics["cycle"] == results.metrics["floor"] == results.metrics["random"] == still > 0
