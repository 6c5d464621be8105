"""Runs that are asked to end: what they leave, what they say, their exit status, and how they go on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from lam.runs.cli import run
from lam.runs.errors import leave
from lam.runs.recovery.checkpoints import read_tensors
from tests.processes import run_processes
from tests.tiny import arguments


@pytest.fixture(autouse=True)
def _no_arguments_of_its_own(monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)


class SignalAtStep(pl.Callback):
    """Sends this process a signal at the end of a step, as late as validation may begin, or in it."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGTERM, hook: str = "on_train_batch_start") -> None:
        self.step, self.number = step, number
        setattr(self, hook, self.send)

    def send(self, trainer, *_) -> None:
        if trainer.global_step == self.step and not trainer.sanity_checking:
            os.kill(os.getpid(), self.number)


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = read_tensors(one), read_tensors(other)
    assert ours["global_step"] == theirs["global_step"]
    return all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        folder = tmp_path_factory.mktemp("straight")
        return (
            run(["fit", *arguments(shards, folder, steps=6), "--trainer.callbacks=[]"]).run_directory
            / "checkpoints"
            / "last.ckpt"
        )


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_validation_batch_start", "on_validation_epoch_end"])
def test_sigterm_saves_and_exits_143_and_the_run_goes_on_bit_for_bit(hook, shards, straight, tmp_path, capsys):
    settings = [*arguments(shards, tmp_path, steps=6), "--trainer.val_check_interval=3", "--trainer.callbacks=[]"]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        run(["fit", *settings], callbacks=[SignalAtStep(3, hook=hook)])
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lam:")]
    assert len(said) == 1 and said[0].startswith("lam: stopped by SIGTERM")
    last = tmp_path / "tiny" / "row" / "seed0" / "checkpoints" / "last.ckpt"
    assert read_tensors(last)["global_step"] == (4 if hook == "on_train_batch_start" else 3)
    assert not (last.parents[1] / "trained.json").exists()
    torch.manual_seed(99)  # nothing may depend on the state of the process
    run(["fit", *settings, f"--ckpt_path={last}"])
    assert same_weights(last, straight)


def test_gradients_that_are_being_accumulated_are_not_lost(shards, tmp_path):
    settings = [*arguments(shards, tmp_path, steps=3), "--trainer.accumulate_grad_batches=2", "--trainer.callbacks=[]"]
    with pytest.raises(SystemExit):
        run(["fit", *settings, "--name=tiny/half"], callbacks=[SignalAtStep(1)])
    last = tmp_path / "tiny" / "half" / "seed0" / "checkpoints" / "last.ckpt"
    assert read_tensors(last)["global_step"] == 2
    run(["fit", *settings, "--name=tiny/half", f"--ckpt_path={last}"])
    whole = run(["fit", *settings, "--name=tiny/whole"]).run_directory
    assert same_weights(last, whole / "checkpoints" / "last.ckpt")


def test_other_commands_end_at_once_with_143(shards, straight, tmp_path, capsys):
    folder = straight.parents[1]
    settings = [f"--config={folder / 'config.yaml'}", f"--ckpt_path={straight}", "--trainer.enable_progress_bar=false"]
    settings.append("--trainer.callbacks=[]")
    (folder / "latents.parquet").write_text("of an earlier pass")
    for command, hook in (("validate", "on_validation_batch_start"), ("predict", "on_predict_batch_start")):
        with pytest.raises(SystemExit) as caught:
            run([command, *settings], callbacks=[SignalAtStep(0, hook=hook)])
        assert caught.value.code == 143
        assert "lam: stopped by SIGTERM." in capsys.readouterr().err
    assert (folder / "latents.parquet").read_text() == "of an earlier pass"
    assert not list(folder.glob(".*"))


def test_what_lightning_raises_before_a_training_has_begun_is_143_too():
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    assert leave(SIGTERMException()) == 143


# ---------------------------------------------------------------------- SLURM


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """The environment of a job of one task, and an scontrol that notes what it is asked."""
    note, folder = tmp_path / "asked.txt", tmp_path / "bin"
    folder.mkdir()
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {note}\n')
    (folder / "scontrol").chmod(0o755)
    for name, value in {
        **{"SLURM_JOB_ID": "71", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        **{"SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "localhost"},
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
    }.items():
        monkeypatch.setenv(name, value)
    return note


def test_a_job_that_slurm_ends_is_queued_again_and_goes_on(slurm, shards, straight, tmp_path, monkeypatch):
    settings = [*arguments(shards, tmp_path / "runs", steps=6), "--trainer.callbacks=[]"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(["fit", *settings], callbacks=[SignalAtStep(2, signal.SIGUSR1)])
    assert caught.value.code == 143
    assert slurm.read_text() == "requeue 71\n"
    assert not list(tmp_path.glob("*.ckpt"))
    with pytest.raises(FileExistsError):  # typed again by a person it is refused, as ever
        run(["fit", *settings])
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    cli = run(["fit", *settings])
    assert same_weights(cli.run_directory / "checkpoints" / "last.ckpt", straight)
    with pytest.raises(FileExistsError):  # another run in this place is left alone
        run(["fit", *settings, "--model.bottleneck.beta=0.5"])


# ---------------------------------------------------------------------- real processes


def start(settings: list[str], log: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as errors:
        command = [sys.executable, "-m", "lam", *settings]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment, start_new_session=True)


def until(found, process: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not found() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    assert found(), log.read_text()[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_a_process_that_is_stopped_says_so_in_one_line(number, status, shards, tmp_path):
    settings = [*arguments(shards, tmp_path, steps=100_000), "--trainer.callbacks=[]", "--checkpoint.every_n_train_steps=5"]
    settings += ["--data.num_workers=2", "--trainer.val_check_interval=1000000"]
    log, last = tmp_path / "log.txt", tmp_path / "tiny" / "row" / "seed0" / "checkpoints" / "last.ckpt"
    process = start(["fit", *settings], log)
    try:
        until(last.exists, process, log)
        before = log.read_text()
        os.killpg(process.pid, number)  # as a terminal does
        assert process.wait(60) == status
    finally:
        process.kill()
    said = [line for line in log.read_text()[len(before) :].splitlines() if line.strip()]
    assert len(said) == 1 and said[0].startswith("lam: stopped by "), said
    assert read_tensors(last)["global_step"] > 0


def fit_in_a_group(shards: Path, runs: Path) -> tuple[object, int]:
    """A training of two processes, of which only the second is asked to end."""
    os.environ.update(TORCHELASTIC_RUN_ID="test", LOCAL_RANK=os.environ["RANK"], LOCAL_WORLD_SIZE="2", GROUP_RANK="0")
    sys.argv = sys.argv[:1]
    settings = [*arguments(shards, runs, steps=50), "--trainer.callbacks=[]"]
    settings += ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    asked = [SignalAtStep(3)] if os.environ["RANK"] == "1" else []
    try:
        run(["fit", *settings], callbacks=asked)
    except SystemExit as error:
        last = runs / "tiny" / "row" / "seed0" / "checkpoints" / "last.ckpt"
        return error.code, read_tensors(last)["global_step"]
    return None, 50


@pytest.mark.slow
def test_where_one_process_is_asked_all_end_at_the_same_step(shards, tmp_path):
    found = run_processes(fit_in_a_group, shards, tmp_path / "runs", folder=tmp_path, timeout=150)
    assert found == [(143, 5), (143, 5)]  # asked in step 4, exchanged after it, known after step 5
