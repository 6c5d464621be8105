"""Budgets: schedules over steps and time, on one clock, saved and resumed; epochs that end where batches are limited."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Timer

from lam.data.datamodule import batches_done
from lam.distributed import rank
from lam.optimizers import timed_warmup_cosine, warmup_cosine, warmup_cosine_at
from lam.runs.cli import run
from lam.runs.recovery.checkpoints import read_tensors
from tests.processes import run_processes
from tests.tiny import KillAtStep3, KilledError, arguments, make_world


@pytest.fixture(autouse=True)
def _no_arguments_of_its_own(monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return make_world(tmp_path_factory.mktemp("data") / "world")


class Clock(pl.Callback):
    """A clock that only steps move, ten seconds each; notes batches and the learning rate that each step is taken with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.rates: list[float] = []
        self.positions: list[list[int]] = []
        monkeypatch.setattr("lightning.pytorch.callbacks.timer.time", SimpleNamespace(monotonic=lambda: self.now))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.now += 10
        self.positions.append(batch.position.tolist())
        self.rates.append(trainer.optimizers[0].param_groups[-1]["lr"])


def settings(shards: Path, runs: Path, name: str, *more: str) -> list[str]:
    quiet = ["--trainer.callbacks=[]", "--trainer.log_every_n_steps=1", "--model.optimizer.adamw_lr=0.01"]
    return [*arguments(shards, runs, name=name), *quiet, *more]


def same_end(one: Path, other: Path) -> bool:
    ours, theirs = (read_tensors(folder / "checkpoints" / "last.ckpt") for folder in (one, other))
    assert ours["global_step"] == theirs["global_step"]
    return all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())


MINUTE = ["--trainer.max_steps=-1", "--trainer.max_time=00:00:01:00", "--model.warmup=0.25"]


def test_a_minute_of_training_ends_with_the_learning_rate_at_zero_and_resumes_bit_for_bit(shards, tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    straight = run(["fit", *settings(shards, tmp_path, "tiny/straight", *MINUTE)], callbacks=[clock])
    assert straight.trainer.global_step == 6
    expected = [0.01 * warmup_cosine_at(10 * step / 60, 0.25) for step in range(6)]
    assert clock.rates == pytest.approx(expected, abs=1e-12)
    assert straight.trainer.optimizers[0].param_groups[-1]["lr"] == pytest.approx(0.0, abs=1e-12)
    half = settings(shards, tmp_path, "tiny/half", *MINUTE)
    with pytest.raises(KilledError):
        run(["fit", *half], callbacks=[clock, KillAtStep3()])
    folder = tmp_path / "tiny" / "half" / "seed0"
    clock.now += 3600  # nothing counts but time in training
    torch.manual_seed(99)
    run(["fit", *half, f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"], callbacks=[clock])
    assert same_end(folder, straight.run_directory)


def test_of_steps_and_time_what_is_used_up_first_ends_the_training(shards, tmp_path, monkeypatch):
    for steps, expected in ((4, 4), (20, 6)):
        clock = Clock(monkeypatch)
        more = [f"--trainer.max_steps={steps}", *MINUTE[1:]]
        made = run(["fit", *settings(shards, tmp_path, f"tiny/both{steps}", *more)], callbacks=[clock])
        assert made.trainer.global_step == expected
        assert made.trainer.optimizers[0].param_groups[-1]["lr"] == pytest.approx(0.0, abs=1e-12)


def test_shares_of_the_budget_give_the_schedule_of_steps():
    exact = warmup_cosine(1000, 0.1)
    for step in range(100, 1001):
        assert warmup_cosine_at(step / 1000, 0.1) == pytest.approx(exact(step), abs=1e-12)
    assert [warmup_cosine_at(share, 0.1) for share in (0.0, 0.05, 0.1)] == pytest.approx([0.0, 0.5, 1.0])
    assert warmup_cosine_at(0.0, 0.0) == 1.0
    assert warmup_cosine_at(7.0, 0.1) == 0.0 == warmup_cosine_at(1.5, 1.0)


class Ahead(Timer):
    """The clock of a process: the second one's is far ahead."""

    readings = 0

    def time_elapsed(self, stage: str = "train") -> float:
        self.readings += 1
        return self.readings + 30.0 * rank()


def factors_in_a_group() -> tuple[list[float], int]:
    timer = Ahead(duration={"seconds": 90})
    factor = timed_warmup_cosine(timer, math.inf, 0.0)
    before = timer.readings
    return [factor(step) for step in (0, 0, 0, 1, 1, 1)], timer.readings - before


def test_the_first_process_s_clock_is_everyone_s(tmp_path):
    (ours, readings), (theirs, _) = run_processes(factors_in_a_group, folder=tmp_path)
    assert ours == theirs
    assert readings == 2  # once a step, however many groups of parameters ask
    assert len(set(ours)) == 2


def test_no_time_is_refused():
    with pytest.raises(ValueError, match="leaves no time to train"):
        timed_warmup_cosine(Timer(duration={"seconds": 0}), math.inf, 0.1)


# ---------------------------------------------------------------------- epochs


def test_batches_of_steps_are_counted_as_they_are_taken():
    for accumulated in (1, 2, 3):
        for epoch in (1, 2, 5, 7):
            batches = steps = 0
            counts, repeated = {0: 0}, {0: 0}
            for _ in range(3):
                for batch in range(1, epoch + 1):
                    batches += 1
                    if batch % accumulated == 0 or batch == epoch:
                        steps += 1
                        counts[steps] = batches
                        repeated[steps] = batch % epoch
            for step, expected in counts.items():
                assert batches_done(step, accumulated, epoch) == expected
                assert batches_done(step, accumulated, epoch, repeated=True) == repeated[step]
    assert batches_done(7, 3) == 21


LIMITED = ["--trainer.limit_train_batches=5", "--trainer.accumulate_grad_batches=2", "--trainer.max_epochs=2"]


def test_epochs_of_limited_batches_with_accumulation_leave_no_clip_out(shards, tmp_path, monkeypatch):
    more = [*LIMITED, "--trainer.max_steps=-1"]
    clock = Clock(monkeypatch)
    straight = run(["fit", *settings(shards, tmp_path, "tiny/straight", *more)], callbacks=[clock])
    assert straight.trainer.global_step == 6  # two epochs of two steps of two batches and one of one
    assert clock.positions == [list(range(4 * batch, 4 * batch + 4)) for batch in range(10)]
    assert straight.trainer.optimizers[0].param_groups[-1]["lr"] == pytest.approx(0.0, abs=1e-12)
    half = settings(shards, tmp_path, "tiny/half", *more)
    clock = Clock(monkeypatch)
    with pytest.raises(KilledError):
        run(["fit", *half], callbacks=[clock, KillAtStep4()])
    folder = tmp_path / "tiny" / "half" / "seed0"
    run(["fit", *half, f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"], callbacks=[clock])
    assert clock.positions == [list(range(4 * batch, 4 * batch + 4)) for batch in range(10)]
    assert same_end(folder, straight.run_directory)


class KillAtStep4(pl.Callback):
    """Saves in the second epoch and ends the run."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 4:
            trainer.save_checkpoint(Path(str(trainer.log_dir), "checkpoints", "last.ckpt"), weights_only=False)
            raise KilledError


def test_overfitting_sees_the_same_batches_in_every_epoch(shards, tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    more = ["--trainer.overfit_batches=2", "--trainer.max_epochs=3", "--trainer.max_steps=-1"]
    made = run(["fit", *settings(shards, tmp_path, "tiny/overfit", *more)], callbacks=[clock])
    assert made.trainer.global_step == 6
    assert clock.positions == [[0, 1, 2, 3], [4, 5, 6, 7]] * 3
