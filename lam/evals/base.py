"""Evaluations: callbacks that observe a validation pass and measure what z carries, how much, and of what kind."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from torch import Tensor
from typing_extensions import override

from lam.data.clip import Clip
from lam.models.base import Observation, WorldModel
from lam.runs.columns import Column, Flag


@dataclass
class Results:
    """Numbers that an evaluation computed.

    Attributes:
        metrics: Scalars by key; logged as ``eval/<name>/<key>`` and written to metrics.json.
        clips: Values of single clips by key: (positions (n,) int64, values (n,)); written to clips.parquet and used for
            intervals and paired tests.
        curves: Lists of numbers by name, written to curves.json; ``seconds``, the time that the evaluation itself took on this
            process, is added to them.
        skipped: Why numbers are missing, in words: what they need, and what there is. Empty where nothing is.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    clips: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""


class Evaluation(pl.Callback, ABC):
    """Callback that observes a validation pass and computes numbers at its end; one subclass a file.

    Every rank observes its share; ``compute`` gathers what it needs (``lam.distributed.gather``) and must return the same
    on all ranks. What a subclass runs of the model in ``compute`` it runs within ``self.autocast()``.
    """

    name: ClassVar[str]
    """Keys start with ``eval/<name>/``; unique among the evaluations of a run."""

    columns: ClassVar[tuple[Column, ...]] = ()
    """Columns of the report's tables; ``table.csv`` has every number without a declaration."""

    flags: ClassVar[tuple[Flag, ...]] = ()
    """Warnings that the report names beside a row."""

    def __init__(self) -> None:
        self.results = Results()
        self.autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
        self._seconds = 0.0

    def prepare(self, model: WorldModel) -> None:
        """Prepare for the first pass; an evaluation that uses the clip buffer asks for room in ``model.clip_buffer`` here."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what was observed; called when a validation pass starts."""

    @abstractmethod
    def observe(self, observation: Observation, model: WorldModel) -> None:
        """Take in one validation batch. Keep small CPU tensors, not states. Autocast is on where the run uses it."""

    @abstractmethod
    def compute(self, model: WorldModel) -> Results:
        """Compute the numbers of the whole pass, the same on every rank."""

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # of two evaluations with one name Lightning would log the mean, without a warning
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it in a connector
        names = [callback.name for callback in callbacks if isinstance(callback, Evaluation)]
        if names.count(self.name) > 1:
            raise ValueError(f"Two evaluations are called {self.name!r}. Remove one of them from trainer.callbacks.")
        self.autocast = trainer.precision_plugin.forward_context
        self.prepare(as_world_model(pl_module))

    @override
    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seconds = 0.0
        self.reset()

    @override
    def on_validation_batch_end(  # type: ignore[override]  # narrower than Lightning's
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Observation,
        batch: Clip,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        start = time.perf_counter()
        with self.autocast():
            self.observe(outputs, as_world_model(pl_module))
        self._seconds += time.perf_counter() - start

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:  # too short to compute anything from
            return
        start = time.perf_counter()
        self.results = self.compute(as_world_model(pl_module))
        self.results.curves["seconds"] = self._seconds + time.perf_counter() - start
        for key, value in self.results.metrics.items():
            # equal on all ranks, so their mean changes nothing; without it Lightning warns
            pl_module.log(f"eval/{self.name}/{key}", value, sync_dist=True)

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end  # type: ignore[assignment]  # narrower than Lightning's
    on_test_epoch_end = on_validation_epoch_end


def as_world_model(module: pl.LightningModule) -> WorldModel:
    """Check that the module of a trainer is what evaluations require, and return it.

    Raises:
        TypeError: It is not a ``WorldModel``.
    """
    if not isinstance(module, WorldModel):
        raise TypeError(
            f"Evaluations require a lam.models.base.WorldModel, got {type(module).__name__}. Derive it from WorldModel."
        )
    return module


def cached_rollout(model: WorldModel, observation: Observation) -> Tensor:
    """Roll a batch out with its own latents, (B, T-1, N, D), for the first evaluation that asks; the others get the same."""
    if observation.unrolled is None:
        observation.unrolled = model.rollout(observation.states[:, :1], observation.bottleneck_output.z)
    return observation.unrolled


def cached_rollout_drawn(model: WorldModel, observation: Observation) -> Tensor:
    """Do the same with the latents that pass the channel, ``Observation.z_drawn``; where these are z nothing is run again."""
    if observation.unrolled_drawn is None:
        if torch.equal(observation.z_drawn, observation.bottleneck_output.z):
            observation.unrolled_drawn = cached_rollout(model, observation)
        else:
            observation.unrolled_drawn = model.rollout(observation.states[:, :1], observation.z_drawn)
    return observation.unrolled_drawn


def cached_error_drawn(model: WorldModel, observation: Observation) -> Tensor:
    """Compute the error of each transition, (B, T-1), with the latents that pass the channel, ``Observation.z_drawn``.

    Once a batch, and not at all where they are equal to z: then it is ``Observation.error``.
    """
    if observation.error_drawn is None:
        if torch.equal(observation.z_drawn, observation.bottleneck_output.z):
            observation.error_drawn = observation.error
        else:
            states = observation.states
            observation.error_drawn = model.error(model.predict(states[:, :-1], observation.z_drawn), states[:, 1:])
    return observation.error_drawn
