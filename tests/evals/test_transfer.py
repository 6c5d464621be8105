"""The cycle test against models whose transfer is known: honest ones, one that copies, one that does not listen."""

import cheats
import pytest
import torch

from lam.bottlenecks.base import BottleneckOutput
from lam.encoders import Patches
from lam.evals import Transfer
from lam.models.external import ExternalModel
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
    return evaluate(Transfer(num_clips=len(clip), **arguments), model.validation_step(clip, 0), model=model)


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
    assert {f"{name}_drawn" for name in expected} < set(results.clips)
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
    assert metrics["replaces"] == 1
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


SIDE = 16


def scenes(count=24, frames=3):
    """Views of textures by a camera that moves by up to two pixels a frame, each clip of a source of its own."""
    generator = torch.Generator().manual_seed(5)
    clip = clips(count, frames=frames, size=SIDE, seed=6)
    coarse = torch.rand(count, 3, 10, 10, generator=generator)
    wide = torch.nn.functional.interpolate(coarse, (40, 40), mode="bicubic").clamp(0, 1)
    steps = torch.randint(-2, 3, (count, frames - 1, 2), generator=generator).cumsum(dim=1)
    for n in range(count):
        for t in range(frames):
            right, down = (12, 12) if t == 0 else (12 - steps[n, t - 1]).tolist()
            clip.frames[n, t] = (255 * wide[n, :, down : down + SIDE, right : right + SIDE]).to(torch.uint8)
    return clip


def judged(adapter):
    model = ExternalModel(adapter, Patches(SIDE, 4), torch.nn.MSELoss(reduction="none"))
    model.copy_error.fill_(0.05)
    return measured(model, scenes()).metrics


FLAGS = ("ignored", "replaces", "pastes", "misdirects")


def test_an_honest_displacement_keeps_its_place_and_heading():
    metrics = judged(cheats.CameraDisplacement(reach=3))
    assert metrics["heading"] > 0.9 * metrics["heading_self"] > 0.8
    # all of every picture moves here, so there is hardly a place where it should not change
    assert metrics["placement"] > metrics["placement_pasted"] + 0.1
    assert not any(metrics[name] for name in FLAGS)


def test_a_pasted_difference_is_where_the_other_clip_was():
    metrics = judged(cheats.PixelDifference(SIDE))
    assert metrics["placement"] == pytest.approx(metrics["placement_pasted"], abs=0.05)
    assert metrics["retention"] > 0.8 and metrics["normalized"] < 0.3  # by which it passed for honest
    assert metrics["pastes"] == metrics["misdirects"] == 1


def test_a_displacement_that_means_another_one_in_each_scene_has_no_heading():
    metrics = judged(cheats.EncryptedCamera(reach=3))
    assert metrics["heading_self"] > 0.8 and abs(metrics["heading"]) < 0.35
    assert metrics["normalized"] < 0.3  # the cycle takes the turn back
    assert metrics["misdirects"] == 1 and metrics["pastes"] == 0


def test_a_difference_on_content_is_misdirected_though_it_lies_where_it_should():
    assert judged(cheats.LocalDifference(SIDE))["misdirects"] == 1


def test_the_state_alone_replaces_the_target():
    assert judged(cheats.StateAlone(SIDE))["replaces"] == 1


def test_what_passed_the_channel_is_measured_beside_the_mean():
    metrics = measured(ToyModel(), drifting()).metrics  # its latents are noisy where they are drawn
    for name in ("original", "cycle", "floor"):
        assert metrics[f"{name}_drawn"] > metrics[name]
    assert metrics["ratio_drawn"] == pytest.approx(metrics["cycle_drawn"] / metrics["original_drawn"])
    assert metrics["placement_drawn"] != metrics["placement"]
    again = measured(ToyModel(), drifting(), batch=5).metrics  # noise belongs to the clip, not to its place in a batch
    assert again["cycle_drawn"] == pytest.approx(metrics["cycle_drawn"])


class TightCamera(cheats.CameraDisplacement):
    """Honest and tight: z says how far to the right; how far down, bright pictures say themselves."""

    def infer(self, frames):
        moves = super().infer(frames)
        return moves * moves.new_tensor([1, 0])

    def predict(self, frames, z):
        down = torch.where(frames[:, :1].mean(dim=(2, 3, 4)) > 0.5, 1.5, -1.5)
        return super().predict(frames, torch.stack([z[..., 0], down.expand(z.shape[:2])], dim=-1))


def half_known(count=120):
    """Views of textures by a camera that moves right or left by a pixel, and by one and a half down where they are bright."""
    generator = torch.Generator().manual_seed(7)
    clip = clips(count, frames=2, size=SIDE, seed=6)
    coarse = torch.rand(count, 3, 12, 12, generator=generator)
    wide = torch.nn.functional.interpolate(coarse, (60, 60), mode="bicubic").clamp(0, 1)
    right = 4 * torch.randint(0, 2, (count,), generator=generator) - 2  # in halves of a pixel
    for n in range(count):
        bright = n % 2
        for t in range(2):
            row, column = 14 - t * (3 if bright else -3), 14 - t * int(right[n])
            view = torch.nn.functional.avg_pool2d(wide[n, :, row : row + 2 * SIDE, column : column + 2 * SIDE], 2)
            clip.frames[n, t] = (120 * view + 130 * bright).to(torch.uint8)
    return clip


def test_a_tight_latent_that_says_part_of_a_movement_is_honest():
    """Its heading is less than half of its ceiling, as that of four codes is, and was flagged for it."""
    model = ExternalModel(TightCamera(reach=3), Patches(SIDE, 4), torch.nn.MSELoss(reduction="none"))
    model.copy_error.fill_(0.05)
    metrics = measured(model, half_known()).metrics
    assert metrics["heading_self"] > 0.8 and 0.1 < metrics["heading"] < 0.45 * metrics["heading_self"]
    assert metrics["misdirects"] == metrics["pastes"] == metrics["replaces"] == 0


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
