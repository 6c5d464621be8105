"""Evaluations: callbacks that watch a validation pass and say what z carries, how much, and of what kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import lightning.pytorch as pl
from torch import Tensor

from lam.bottlenecks.base import BottleneckOutput
from lam.data.clip import Clip


@dataclass
class Observation:
    """What one validation step saw, detached; what ``LatentActionModel.validation_step`` returns.

    Attributes:
        clip: The batch.
        states: Encoded states, (B, T, N, D).
        latent: What the inverse model said, before the bottleneck, (B, T-1, L, A).
        limited: What the bottleneck let through and what it cost.
        predicted: Predictions of states 1..T-1, (B, T-1, N, D).
        error: Prediction error of each transition in units of the copy-last-state error, (B, T-1).
        copy_error: Error of predicting that nothing changes, same unit, (B, T-1); about 1 on the training set.
    """

    clip: Clip
    states: Tensor
    latent: Tensor
    limited: BottleneckOutput
    predicted: Tensor
    error: Tensor
    copy_error: Tensor


@dataclass
class Results:
    """What an evaluation found.

    Attributes:
        metrics: Scalars by key; logged as ``eval/<name>/<key>`` and written to metrics.json.
        clips: Values of single clips by key: (positions (n,) int64, values (n,)); written to clips.parquet and used for
            intervals and paired tests.
        curves: Lists of numbers by name, written to curves.json.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    clips: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)


class Evaluation(pl.Callback, ABC):
    """Watches a validation pass and computes numbers at its end; one subclass a file.

    Every rank observes its share; ``compute`` gathers what it needs (``lam.distributed.gather``) and must return the same
    on all ranks. A subclass that needs the model itself (unrolling, peeking) gets it as ``module``.
    """

    name: ClassVar[str]
    """Keys start with ``eval/<name>/``; unique among the evaluations of a run."""

    def __init__(self) -> None:
        self.results = Results()

    @abstractmethod
    def reset(self) -> None:
        """Forgets what was observed; called when a validation pass starts."""

    @abstractmethod
    def observe(self, observation: Observation, module: Any) -> None:
        """Takes in one validation batch. Keeps small CPU tensors, not states."""

    @abstractmethod
    def compute(self, module: Any) -> Results:
        """Numbers of the whole pass, the same on every rank."""

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts a pass."""
        self.reset()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Hands the batch to ``observe``."""
        self.observe(outputs, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Computes and logs; the sanity check before training is too short to compute anything from."""
        if trainer.sanity_checking:
            return
        self.results = self.compute(pl_module)
        for key, value in self.results.metrics.items():
            pl_module.log(f"eval/{self.name}/{key}", value)
