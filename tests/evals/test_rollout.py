"""Rollouts against skimage's definitions written out, and what encoders without pixels leave out."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from lam.encoders.patches import Patches
from lam.evals import Capacity, Rollout
from lam.metrics.images import PSNR_CEILING, lpips, psnr, ssim
from lam.models.clip_buffer import ClipBuffer
from tests.evals.toy import ToyModel, clips, evaluate, part

CLIPS = clips(5, frames=4, size=16)


class Painter(ToyModel):
    """The toy on patches, whose pictures are pixels; counts how often it predicts."""

    def __init__(self, image_size=16, patch=8):
        super().__init__()
        self.encoder, self.clip_buffer, self.calls = Patches(image_size, patch), ClipBuffer(), 0

    def predict(self, states, z):
        self.calls += 1
        return super().predict(states, z)


def observations(model, clip=CLIPS):
    return [model.validation_step(part(clip, i, i + 2)) for i in range(0, len(clip), 2)]


def test_state_errors_are_those_of_capacity():
    model = Painter()
    seen = observations(model)
    rollout, capacity = evaluate(Rollout(), *seen, model=model), evaluate(Capacity(), *seen, model=model)
    for h in (1, 2, 3):
        torch.testing.assert_close(rollout.clips[f"error@{h}"], capacity.clips[f"unrolled@{h}"])
        torch.testing.assert_close(rollout.clips[f"error_drawn@{h}"], capacity.clips[f"unrolled_drawn@{h}"])
        assert rollout.metrics[f"error_drawn@{h}"] > rollout.metrics[f"error@{h}"] + 1  # noise of 0.5, a unit of 0.1
        assert rollout.metrics[f"copy@{h}"] == pytest.approx(capacity.curves["unrolled_copy"][h - 1])
        assert rollout.curves["error"][h - 1] == pytest.approx(rollout.metrics[f"error@{h}"])


def test_a_batch_is_unrolled_once_for_all_evaluations():
    model = Painter()
    seen = observations(model)
    before = model.calls
    evaluate(Capacity(), *seen, model=model)
    once = before + 3 * (3 + 3 + 1)  # batches x (horizons, the same of drawn latents, one step of these)
    assert model.calls == once
    evaluate(Rollout(), *seen, model=model)
    assert model.calls == once


def test_pictures_are_compared_with_those_of_true_states():
    model = Painter()
    results = evaluate(Rollout(), *observations(model), model=model)
    states = model.encoder(CLIPS.frames)
    z = 0.5 * (states[:, 1:] - states[:, :-1]).mean(dim=2, keepdim=True)
    pictures = model.encoder.to_image(states[:, :1] + z.cumsum(dim=1))
    true = CLIPS.frames[:, 1:] / 255  # patches lose nothing
    for name, shown in (("psnr", pictures), ("psnr_copy", CLIPS.frames[:, :1] / 255)):
        expected = -10 * (shown - true).square().mean(dim=(2, 3, 4)).log10()
        torch.testing.assert_close(results.clips[name][1], expected.mean(dim=1).double(), atol=1e-2, rtol=0)
        assert results.metrics[name] == pytest.approx(expected.mean().item(), abs=1e-2)
    for name in ("psnr", "ssim", "ssim_copy"):
        assert len(results.curves[name]) == 3
        assert results.metrics[name] == pytest.approx(sum(results.curves[name]) / 3)


def test_pictures_of_the_same_few_clips_are_compared_in_any_order():
    model, order = Painter(), [4, 0, 3, 1, 2]
    all_clips = evaluate(Rollout(), *observations(model), model=model)
    single = [model.validation_step(part(CLIPS, i, i + 1)) for i in order]
    few = evaluate(Rollout(num_clips=2), *single, model=model)
    positions, values = few.clips["psnr"]
    assert len(positions) == 2 and len(few.clips["error@1"][0]) == 5
    torch.testing.assert_close(values, all_clips.clips["psnr"][1][positions])


def test_psnr_of_equal_pictures_is_that_of_rounding():
    picture = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert psnr(picture, picture).tolist() == pytest.approx([PSNR_CEILING] * 2)
    assert pytest.approx(10 * math.log10(12 * 255**2), abs=0.01) == PSNR_CEILING
    assert psnr(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.1)).item() == pytest.approx(20, abs=1e-3)


def test_ssim_is_the_formula_of_its_paper():
    """Means and variances under an 11 x 11 Gaussian window of sigma 1.5, the border reflected."""
    a = torch.rand(1, 3, 13, 15, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = (a + 0.3 * torch.rand(1, 3, 13, 15, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).clamp(0, 1)
    axis = torch.exp(-0.5 * ((torch.arange(11, dtype=torch.float64) - 5) / 1.5) ** 2)
    window = torch.outer(axis, axis) / axis.sum() ** 2

    def mean(x):
        x = torch.nn.functional.pad(x, (5, 5, 5, 5), mode="reflect")
        return (x.unfold(2, 11, 1).unfold(3, 11, 1) * window).sum(dim=(-2, -1))

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    expected = ((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean()
    assert ssim(b, a).item() == pytest.approx(expected.item(), rel=1e-4)
    assert ssim(a, a).item() == pytest.approx(1)


def test_feature_directions_are_no_pixels():
    model = Painter()
    model.encoder.shows_pixels = False
    keys = set(evaluate(Rollout(), *observations(model), model=model).metrics)
    assert keys == {f"{name}@{h}" for name in ("error", "error_drawn", "copy") for h in (1, 2, 3)} | {"seconds"}


def test_pictures_smaller_than_the_window_have_no_ssim():
    metrics = evaluate(Rollout(), *observations(Painter(8, 4), clips(4, frames=3, size=8)), model=Painter(8, 4)).metrics
    assert "psnr" in metrics and "ssim" not in metrics


def test_the_horizon_is_in_seconds_between_last_frames_of_states():
    model, clip = ToyModel(frames_per_state=2), clips(4, frames=6)
    model.encoder.shows_pixels = False
    clip.times = 10 + 0.25 * clip.times
    results = evaluate(Rollout(), model.validation_step(clip), model=model)
    assert results.curves["horizon"] == [0.5, 1.0]
    assert results.metrics["seconds"] == 1.0


def test_nothing_seen_gives_nothing():
    assert evaluate(Rollout(), model=Painter()).metrics == {}


def test_lpips_says_what_is_missing(monkeypatch):
    """torchvision is not among the dependencies, so this machine has none, or its find is hidden."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"LPIPS needs torchvision.*lpips: false"):
        evaluate(Rollout(lpips=True), model=Painter())


def test_lpips_without_weights_says_so(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr("torchmetrics.functional.image.lpips.learned_perceptual_image_patch_similarity", unreachable)
    with pytest.raises(ValueError, match=r"AlexNet's weights.*no network"):
        lpips(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))


def test_lpips_is_measured_where_asked(monkeypatch):
    """With a stand-in for the network; the plumbing is what is tested."""
    monkeypatch.setattr("lam.evals.rollout.lpips", lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)))
    model = Painter()
    results = evaluate(Rollout(lpips=True), *observations(model), model=model)
    expected = (CLIPS.frames[:, :1] / 255 - CLIPS.frames[:, 1:] / 255).abs().mean()
    assert results.metrics["lpips_copy"] == pytest.approx(expected.item(), rel=1e-4)
    assert len(results.clips["lpips"][0]) == 5


def test_pictures_are_compared_without_torchvision():
    picture = torch.rand(1, 3, 16, 16)
    psnr(picture, picture), ssim(picture, picture)
    assert not {"torchvision", "torchaudio"} & set(sys.modules)
