"""Progress of a run in one line: steps, loss and time left."""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar, Timer
from torch import Tensor
from tqdm import tqdm
from typing_extensions import override

EACH = 0.5
"""Seconds between two looks at the loss, which a GPU has to be waited for."""
EACH_LINE = 30.0
"""Seconds between two lines where the output is a file."""


class Progress(ProgressBar):
    """Shows how far a run is: a bar in a terminal, where the output is a file a line twice a minute.

    Shards are read over and over, so that steps are counted and not epochs. The loss is that of the last batch of the first
    process. Passes over validation clips have a bar of their own, which goes away.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shown = True
        self._training: Any = None
        self._passing: Any = None
        self._looked = 0.0

    @override
    def disable(self) -> None:
        self._shown = False

    @override
    def enable(self) -> None:
        self._shown = True

    @override
    def print(self, *args: Any, **kwargs: Any) -> None:
        tqdm.write(" ".join(map(str, args)), file=sys.stderr)

    # ------------------------------------------------------------------ training

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = trainer.estimated_stepping_batches
        total = None if math.isinf(steps) else int(steps)
        self._training = make_bar("training", total, " steps", trainer.global_step) if self._shown else None
        self._looked = 0.0

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._training is None:
            return
        now, is_last = time.monotonic(), trainer.global_step == self._training.total
        if now - self._looked >= EACH or is_last:
            self._looked = now
            self._training.set_postfix_str(", ".join(self._told(trainer, outputs)), refresh=False)
        self._training.update(trainer.global_step - self._training.n)

    def _told(self, trainer: pl.Trainer, outputs: Mapping[str, Tensor] | None) -> list[str]:
        """Return what is told beside the steps: the loss, and what is left of a budget of time."""
        told = []
        if isinstance(outputs, Mapping) and "loss" in outputs:
            told.append(f"loss {outputs['loss'].item() * trainer.accumulate_grad_batches:.4g}")
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it in a connector
        left = [callback.time_remaining() for callback in callbacks if isinstance(callback, Timer)]
        told += [f"{tqdm.format_interval(seconds)} left at most" for seconds in left if seconds is not None]
        return told

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    # ------------------------------------------------------------------ passes over clips

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin("evaluating", sum(trainer.num_val_batches))

    @override
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin("evaluating", sum(trainer.num_test_batches))

    @override
    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin("labeling", sum(trainer.num_predict_batches))

    def _begin(self, what: str, batches: float) -> None:
        if self._shown:
            self._passing = make_bar(what, None if math.isinf(batches) else int(batches), " batches", leave=False)

    def _count(self) -> None:
        if self._passing is not None:
            self._passing.update()

    def _end(self) -> None:
        if self._passing is not None:
            self._passing.close()
            self._passing = None

    def _close(self) -> None:
        self._end()
        if self._training is not None:
            self._training.close()
            self._training = None

    @override
    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._count()

    @override
    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._count()

    @override
    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._count()

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()
        if self._training is not None:
            self._training.last_print_t = time.time()  # the steps that are left do not take as long as a pass

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()

    @override
    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._end()


def make_bar(what: str, total: int | None, unit: str, initial: int = 0, leave: bool = True) -> Any:
    """Make a bar on stderr, or lines where that is no terminal.

    Args:
        what: What is done.
        total: Steps in all, where that is known.
        unit: Name of a step.
        initial: Steps that were done before.
        leave: Whether it stays when it is done.
    """
    bounds = {"desc": what, "total": total, "unit": unit, "initial": initial, "smoothing": 0.1}
    if sys.stderr.isatty():
        return tqdm(**bounds, leave=leave, mininterval=0.2, dynamic_ncols=True, file=sys.stderr)
    often = {"mininterval": EACH_LINE, "maxinterval": 2 * EACH_LINE, "delay": 0 if leave else EACH_LINE}
    return tqdm(**bounds, **often, leave=leave, ncols=0, file=_Lines())


class _Lines(io.TextIOBase):
    """Writes each state of a bar as a line of its own, as a log has no place to go back to."""

    @override
    def write(self, text: str) -> int:
        if text.strip():
            print(text.strip(), file=sys.stderr, flush=True)
        return len(text)
