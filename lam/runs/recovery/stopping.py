"""Runs that are asked to end, by SIGTERM or by SLURM before its time is up: they save, say so in a line and exit with 143."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from lam.distributed import world_size

TERMINATED = 128 + signal.SIGTERM
"""Exit status of a process that was asked to end, as shells know it."""


class Stopping(pl.Callback):
    """Ends a training at the end of a step once any of its processes was asked to; all of them end at the same step.

    Lightning's own handlers end with 0, broadcast within a signal handler, and save for SLURM into the working directory;
    they are replaced when training begins. A checkpoint is saved before each validation too, so that nothing is lost where
    that is asked to end: it is left at once. A process that another one has started to share its work with, as sweeps do,
    says nothing and puts no job into the queue: that is for the other to do.

    Args:
        checkpoint: File to save to.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._asked: signal.Signals | None = None
        self._step = 0
        self._group: Any = None  # a gloo group, as a flag on a GPU would make every step wait for the one before
        self._agreement: tuple[dist.Work, torch.Tensor] | None = None

    # ------------------------------------------------------------------ signals

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._step = trainer.global_step
        self._group = dist.new_group(backend="gloo") if world_size() > 1 else None
        self._listen(trainer)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn is not TrainerFn.FITTING:
            self._listen(trainer)
        elif not trainer.sanity_checking and _saved_step(trainer) != trainer.global_step:
            trainer.save_checkpoint(self.checkpoint, weights_only=False)

    @override
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen(trainer)

    @override
    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen(trainer)

    def _listen(self, trainer: pl.Trainer) -> None:
        """Take the place of Lightning's handlers; the trainer's end puts back those that were there before both."""
        if threading.current_thread() is not threading.main_thread():
            return

        def ask(number: int, frame: FrameType | None) -> None:
            first, self._asked = self._asked is None, signal.Signals(number)
            if first and not trainer.training:
                if multiprocessing.parent_process() is None:
                    print(f"\nlam: stopped by {self._asked.name}.", file=sys.stderr)
                raise SystemExit(TERMINATED)

        signal.signal(signal.SIGTERM, ask)
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment):
            environment.auto_requeue = False
            signal.signal(environment.requeue_signal or signal.SIGUSR1, ask)

    # ------------------------------------------------------------------ ending

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self._step:
            return  # gradients that are still being accumulated would be lost
        self._step = trainer.global_step
        if not self._all_know(trainer):
            return
        asked = self._asked or signal.SIGTERM
        trainer.save_checkpoint(self.checkpoint, weights_only=False)
        if trainer.is_global_zero and multiprocessing.parent_process() is None:
            print(
                f"\nlam: stopped by {asked.name} after step {trainer.global_step}, which is saved. Go on with the same command "
                f"and --ckpt_path {self.checkpoint}.",
                file=sys.stderr,
            )
            if asked is not signal.SIGTERM:
                requeue()
        raise SystemExit(TERMINATED)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._agreement is not None:
            self._agreement[0].wait()
            self._agreement = None

    def _all_know(self, trainer: pl.Trainer) -> bool:
        """Return whether any process was asked to end before the last step, the same on all of them.

        What was asked is exchanged while the next step runs, and waited for at its end, so that no step waits.
        """
        if self._group is None:
            return self._asked is not None or trainer.received_sigterm
        known = False
        if self._agreement is not None:
            work, highest = self._agreement
            work.wait()
            known = bool(highest.item())
            if known and self._asked is None:
                self._asked = signal.Signals(int(highest.item()))
        if not known:
            flag = torch.tensor([int(self._asked or (signal.SIGTERM if trainer.received_sigterm else 0))])
            self._agreement = dist.all_reduce(flag, dist.ReduceOp.MAX, self._group, async_op=True), flag
        return known


def is_requeued() -> bool:
    """Whether SLURM has begun this job again."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def requeue() -> None:
    """Put this SLURM job into the queue again; the same command then goes on from the checkpoint."""
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID", "")
    name = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}" if array else job
    if not re.fullmatch(r"\d+(_\d+)?", name):
        print(f"lam: warning: SLURM names no job ({name!r}), so it is not put into the queue again.", file=sys.stderr)
        return
    try:
        result = subprocess.run(["scontrol", "requeue", name], capture_output=True, text=True, check=False)
    except OSError as error:
        print(f"lam: warning: scontrol requeue {name} failed ({error}).", file=sys.stderr)
        return
    if result.returncode:
        print(f"lam: warning: scontrol requeue {name} failed ({' '.join(result.stderr.split())}).", file=sys.stderr)


def _saved_step(trainer: pl.Trainer) -> int:
    """Return the last step that a checkpoint callback has saved."""
    return max((getattr(one, "_last_global_step_saved", -1) for one in trainer.checkpoint_callbacks), default=-1)
