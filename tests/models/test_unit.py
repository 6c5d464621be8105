"""Errors of held-out clips are in units of what changes in these very clips, however much training clips move."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from lam.data.clip import Clip
from lam.evals import Capacity
from lam.models.base import WorldModel
from lam.models.unit import mean_changes
from tests.evals.toy import ToyModel, clips, part
from tests.processes import run_processes

SLOW = torch.tensor([1.0, 2, 5, 8, 3])  # gray levels a frame


class Copies(ToyModel):
    """Predicts that nothing changes; its unit in training is that of slow clips."""

    error = WorldModel.error

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.encoded = 0
        self.seen: list[tuple[bool, float]] = []
        self.copy_error.copy_(mean_changes([moving(SLOW)], self.encode, self.distance)[1].mean())

    def encode(self, clip: Clip) -> Tensor:
        self.encoded += len(clip.position)
        return super().encode(clip)

    def predict(self, states: Tensor, z: Tensor) -> Tensor:
        return self.gain * states

    def training_step(self, clip: Clip, batch_idx: int) -> Tensor:
        states = self.encode(clip)
        error = self.error(self.predict(states[:, :-1], states), states[:, 1:]).mean()
        self.seen.append((True, error.item()))
        return 0 * error

    def validation_step(self, clip: Clip, batch_idx: int = 0):
        observation = super().validation_step(clip)  # by the encoder itself, not counted
        self.seen.append((False, observation.error.mean().item()))
        return observation

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def moving(speed: Tensor) -> Clip:
    """Clips of three gray frames, each brighter than the one before by so many levels."""
    levels = 100 + speed[:, None] * torch.arange(3)
    frames = levels[:, :, None, None, None].expand(-1, -1, 3, 8, 8).to(torch.uint8)
    return replace(clips(len(speed)), frames=frames)


class Batches:
    """Batches that Lightning iterates over as they are."""

    def __init__(self, *batches: Clip) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.batches)


def trainer(*callbacks: pl.Callback, **settings) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return pl.Trainer(accelerator="cpu", barebones=False, callbacks=list(callbacks), **quiet, **settings)


def halves(speed: Tensor) -> Batches:
    clip = moving(speed)
    return Batches(part(clip, 0, 3), part(clip, 3, 5))


def test_copying_has_error_1_on_clips_that_move_twice_as_much_as_those_of_training():
    capacity, model = Capacity(), Copies()
    found = trainer(capacity).validate(model, halves(2 * SLOW), verbose=False)[0]
    for key in ("val/prediction", "eval/capacity/error", "eval/capacity/error_drawn", "eval/capacity/copy_error"):
        assert found[key] == pytest.approx(1, rel=1e-6), key
    assert found["eval/capacity/copy_error_ratio"] == pytest.approx(2, rel=1e-6)
    assert found["eval/capacity/unrolled@2"] == pytest.approx(2, rel=1e-6)  # frames brighten evenly
    expected = (SLOW / SLOW.mean()).double()
    torch.testing.assert_close(capacity.results.clips["copy_error"][1], expected, rtol=1e-5, atol=0)


def test_the_unit_is_that_of_the_clips_of_the_pass():
    for settings, seen in (({}, SLOW), ({"limit_val_batches": 1}, SLOW[:3]), ({"limit_test_batches": 1}, SLOW[:3])):
        model, run = Copies(), trainer(Capacity(), **settings)
        what = run.test if "limit_test_batches" in settings else run.validate
        found = what(model, halves(SLOW), verbose=False)[0]
        assert found["eval/capacity/copy_error"] == pytest.approx(1, rel=1e-6)
        assert found["eval/capacity/copy_error_ratio"] == pytest.approx((seen.mean() / SLOW.mean()).item(), rel=1e-6)


def test_training_keeps_its_constant_and_the_unit_is_measured_once():
    model = Copies()
    run = trainer(Capacity(), max_steps=3, val_check_interval=1, num_sanity_val_steps=1, limit_train_batches=1)
    before = model.encoded
    run.fit(model, Batches(moving(SLOW)), halves(2 * SLOW))
    sanity, *rest = model.seen
    assert sanity == (False, pytest.approx(2 * SLOW[:3].mean() / SLOW.mean()))  # nothing measured yet, nor kept
    assert [error for training, error in rest if training] == pytest.approx([1, 1, 1])
    validations = [error for training, error in rest if not training]
    assert validations == pytest.approx(3 * [8 / 3 / 3.8, 5.5 / 3.8])
    assert model.encoded - before == 3 * 5 + 5  # in training steps, and once for the unit


def test_validation_after_training_measures_the_clips_that_it_is_given():
    model = Copies()
    run = trainer(Capacity(), max_steps=1, num_sanity_val_steps=0, limit_train_batches=1)
    run.fit(model, Batches(moving(SLOW)), halves(SLOW))
    found = run.validate(model, halves(4 * SLOW), verbose=False)[0]
    assert found["eval/capacity/copy_error_ratio"] == pytest.approx(4, rel=1e-6)
    assert found["eval/capacity/error"] == pytest.approx(1, rel=1e-6)


def test_clips_in_which_nothing_moves_have_no_unit():
    with pytest.raises(ValueError, match=r"5 held-out clips differ by 0\.0 on average"):
        trainer().validate(Copies(), halves(0 * SLOW), verbose=False)


def in_a_group() -> tuple[dict[str, float], float]:
    """One of two processes, of which both hold the last clip."""
    os.environ.update(TORCHELASTIC_RUN_ID="test", LOCAL_RANK=os.environ["RANK"], LOCAL_WORLD_SIZE="2", GROUP_RANK="0")
    clip = moving(2 * SLOW)
    first = os.environ["RANK"] == "0"
    own = Batches(part(clip, 0, 2), part(clip, 4, 5)) if first else Batches(part(clip, 2, 4), part(clip, 4, 5))
    model = Copies()
    run = trainer(Capacity(), devices=2, strategy="ddp")
    found = run.validate(model, own, verbose=False)[0]
    assert model.held_out_copy_error is not None
    return dict(found), model.held_out_copy_error


def test_two_processes_have_one_unit_that_counts_each_clip_once(tmp_path):
    (left, unit), (right, other) = run_processes(in_a_group, folder=tmp_path)
    assert unit == other
    assert left == right
    assert left["eval/capacity/copy_error"] == pytest.approx(1, rel=1e-6)
    assert left["eval/capacity/copy_error_ratio"] == pytest.approx(2, rel=1e-6)
