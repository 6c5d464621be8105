"""Several processes through Lightning: the loss of one, equal codebooks, each validation clip once; and a killed process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.processes import run_processes
from tests.tiny import arguments, make_world

STEPS = 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return make_world(tmp_path_factory.mktemp("data") / "world")


def fit_and_validate(shards: Path, runs: Path, families: list[str], extra: tuple[str, ...] = ()) -> dict:
    """Losses of each step, final weights and validation results of tiny runs."""
    import lightning.pytorch as pl

    from lam.runs.cli import run

    class Losses(pl.Callback):
        def __init__(self) -> None:
            self.values: list[float] = []

        def on_train_batch_end(self, trainer, module, outputs, *_) -> None:
            loss = outputs["loss"].detach().clone()
            self.values.append(trainer.strategy.reduce(loss, reduce_op="mean").item())

    sys.argv = sys.argv[:1]
    found = {}
    for family in families:
        losses = Losses()
        settings = [*arguments(shards, runs, family, f"tiny/{family}", STEPS), *extra]
        cli = run(["fit", *settings], callbacks=[losses])
        cli.evaluate()
        found[family] = {
            "losses": losses.values,
            "weights": {name: value.clone() for name, value in cli.model.state_dict().items() if torch.is_tensor(value)},
            "metrics": {name: value.item() for name, value in cli.trainer.callback_metrics.items()},
            "val_clip_sources": cli.model.val_clip_sources,
        }
    return found


def in_a_group(shards: Path, runs: Path, families: list[str]) -> dict:
    """The same in one of two processes that were started beforehand, as torchrun would."""
    os.environ.update(TORCHELASTIC_RUN_ID="test", LOCAL_RANK=os.environ["RANK"], LOCAL_WORLD_SIZE="2", GROUP_RANK="0")
    extra = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu")
    return fit_and_validate(shards, runs, families, extra)


@pytest.mark.parametrize(
    "families",
    [
        # noise keyed by clip, statistics over the whole batch, a codebook with resets
        ["noisy", "sparse", "vq"],
        pytest.param(["none", "identity", "nsvq", "diveq", "fsq", "rvq"], marks=pytest.mark.slow),
        pytest.param(["residual", "nested", "nested_rvq"], marks=pytest.mark.slow),
    ],
    ids=["three", "others", "lengths"],
)
def test_two_processes_learn_and_validate_like_one(families, shards, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    one = fit_and_validate(shards, tmp_path / "one", families)
    first, second = run_processes(in_a_group, shards, tmp_path / "two", families, folder=tmp_path, timeout=150)
    for family in families:
        alone, left, right = one[family], first[family], second[family]
        # rounding decides which of two codes at about the same distance is taken, and those of the last level of rvq begin at
        # about zero: one that is taken otherwise moves the loss by 4e-4, and Adam moves each of its numbers by a few 1e-3
        coded = any("codebook" in name or "quantizer" in name for name in alone["weights"])
        assert alone["losses"] == pytest.approx(left["losses"], rel=1e-3 if coded else 2e-4), family
        for name, weight in left["weights"].items():
            assert torch.equal(weight, right["weights"][name]), f"{family}: {name} differs between processes"
            if not weight.is_floating_point():
                continue  # counts: rounding decides which of two codes at the same distance is taken
            # as a whole: Adam's first steps are signs, which rounding may turn where a gradient is next to nothing
            expected = alone["weights"][name].double()
            step = 2e-3 if coded else 1e-3
            assert (weight.double() - expected).norm() <= 1e-2 * expected.norm() + step * expected.numel() ** 0.5, (
                f"{family}: {name}"
            )
        assert left["val_clip_sources"] == alone["val_clip_sources"]
        assert len(alone["val_clip_sources"]) == 12
        assert left["metrics"]["val/prediction"] == pytest.approx(alone["metrics"]["val/prediction"], rel=1e-3)
        assert left["metrics"] == right["metrics"]


def test_killed_in_mid_run_and_resumed_it_reaches_the_same_weights(shards, tmp_path):
    """A real process, a real SIGKILL, as soon as a checkpoint lies on the disk."""
    steps = 400
    settings = [
        *arguments(shards, tmp_path, "vq", "tiny/killed", steps),
        *("--trainer.val_check_interval=100000", "--trainer.callbacks=[]", "--checkpoint.every_n_train_steps=5"),
    ]
    command = [sys.executable, "-m", "lam", "fit", *settings]
    last = tmp_path / "tiny" / "killed" / "seed0" / "checkpoints" / "last.ckpt"
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        deadline = time.monotonic() + 120
        while not last.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
    assert last.exists(), errors.decode()[-2000:]
    done = torch.load(last, weights_only=True)["global_step"]
    assert 0 < done < steps
    short = done + 5

    from lam.runs.cli import run

    sys.argv = sys.argv[:1]
    checkpoints = []
    for name, extra in (("killed", [f"--ckpt_path={last}"]), ("straight", [])):
        other = [a for a in settings if not a.startswith(("--name", "--trainer.max_steps"))]
        # the schedule is that of the killed run; only the end comes sooner
        cli = run(["fit", *other, f"--trainer.max_steps={steps}", f"--name=tiny/{name}", *extra], stop_after(short))
        checkpoints.append(torch.load(cli.run_directory / "checkpoints" / "last.ckpt", weights_only=True))
    assert [c["global_step"] for c in checkpoints] == [short, short]
    for name, value in checkpoints[0]["state_dict"].items():
        assert torch.equal(value, checkpoints[1]["state_dict"][name]), name


def stop_after(step: int):
    """A fit that ends after a step without knowing so beforehand."""
    import lightning.pytorch as pl

    from lam.runs.cli import LamCLI

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, *_) -> None:
            trainer.should_stop = trainer.global_step >= step

    class Stopped(LamCLI):
        def before_fit(self) -> None:
            super().before_fit()
            self.trainer.callbacks.append(Stop())
            self.trainer.fit_loop.min_epochs = 0

    return Stopped
