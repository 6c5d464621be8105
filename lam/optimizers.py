"""Optimizers, AdamW alone or with Muon for hidden matrices, and the learning rate over the budget of a training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override

from lam.distributed import world_size


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Split trainable parameters into three groups: hidden matrices, other matrices, and vectors, which are not decayed.

    A hidden matrix is a two-dimensional weight inside a ``blocks`` list: between the input and output maps, the matrices
    that Muon is meant for. Any optimizer may take the groups; only ``MuonAdamW`` reads the entry ``hidden``.
    """
    hidden: list[Tensor] = []
    other: list[Tensor] = []
    vectors: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            matrix = hidden if ".blocks." in name else other
            (matrix if parameter.ndim == 2 else vectors).append(parameter)
    groups = [
        {"params": hidden, "hidden": True},
        {"params": other, "hidden": False},
        {"params": vectors, "hidden": False, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def warmup_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """Make the schedule that multiplies the learning rate: a linear warm-up over a fraction of the steps, then a cosine to 0.

    Args:
        steps: Optimizer steps of the whole training.
        warmup: Fraction of them over which the learning rate rises.

    Returns:
        The factor of each step, for ``LambdaLR``.
    """
    warmup_steps = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))))

    return factor


def scheduled(optimizer: Optimizer, trainer: pl.Trainer, warmup: float) -> OptimizerLRScheduler:
    """Return an optimizer under a linear warm-up and a cosine to zero over the trainer's budget, stepped each batch.

    With ``trainer.max_time`` the learning rate follows the time that has passed in training, validations within it
    included, as the first process's clock says; it is saved with a checkpoint, and a resumed run goes on from it. Where steps
    are given too, what is used up first ends the training, with the learning rate at zero either way.

    Args:
        optimizer: The optimizer.
        trainer: Knows the budget.
        warmup: Fraction of it over which the learning rate rises.
    """
    steps, timer = trainer.estimated_stepping_batches, _timer(trainer)
    factor = warmup_cosine(int(steps), warmup) if timer is None else timed_warmup_cosine(timer, steps, warmup)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}


def timed_warmup_cosine(timer: Timer, steps: float, warmup: float) -> Callable[[int], float]:
    """Make the schedule that multiplies the learning rate, by the share of time or of steps that is used up, the larger one.

    The clock is read once a step, by the first process for all: learning rates must be the same everywhere.

    Args:
        timer: Knows how much time there is and how much has passed.
        steps: Optimizer steps of the whole training; inf where time alone limits it.
        warmup: Share of the budget over which the learning rate rises.

    Returns:
        The factor of each step, for ``LambdaLR``, on all processes together.

    Raises:
        ValueError: There is no time.
    """
    seconds = timer._duration or 0.0  # the difference of two readings would not be exact
    if seconds <= 0:
        raise ValueError("trainer.max_time leaves no time to train. It is written DD:HH:MM:SS; 00:04:00:00 is four hours.")
    group = dist.new_group(backend="gloo") if world_size() > 1 else None  # on a GPU's every step would wait for the one before

    @functools.lru_cache(maxsize=1)  # asked once for each group of parameters
    def at(step: int) -> float:
        elapsed = torch.tensor(timer.time_elapsed(), dtype=torch.float64)
        if group is not None:
            dist.broadcast(elapsed, 0, group)
        return warmup_cosine_at(max(elapsed.item() / seconds, step / steps), warmup)

    return lambda step: at(step)  # a plain function: LambdaLR would save the state of anything else


def warmup_cosine_at(share: float, warmup: float) -> float:
    """Compute the factor of the learning rate when a share of the budget is used up: up to 1 linearly, then a cosine to 0."""
    if share < warmup:
        return share / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (share - warmup) / max(1e-9, 1 - warmup))))


def _timer(trainer: pl.Trainer) -> Timer | None:
    """Return what ends a training when its time is up, where there is one."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it in a connector
    timers = [one for one in callbacks if isinstance(one, Timer) and one.time_remaining() is not None]
    return timers[0] if timers else None


class MuonAdamW(Optimizer):
    """Muon for the matrices inside blocks, AdamW for embeddings, norms, biases, codebooks, input and output maps.

    One optimizer to Lightning, so automatic optimization, clipping and checkpoints work as with any other. Recipe of Garrido
    et al. (arXiv 2601.05230, appendix A): Muon 0.02, AdamW 6.25e-4, weight decay 0.04; the split is the usual one, theirs is
    not stated. Muon is https://kellerjordan.github.io/posts/muon/. torch.optim.Muon computes the same, one matrix at a time
    and always in bfloat16, which took ten times as long on a CPU that has no bfloat16 arithmetic; here matrices of one shape
    go together, in bfloat16 on a GPU only.

    Args:
        params: Parameter groups with a ``hidden`` entry, from ``parameter_groups``.
        lr: Learning rate of Muon.
        adamw_lr: Learning rate of AdamW.
        weight_decay: Decoupled weight decay of both.
        momentum: Momentum of Muon, Nesterov's.
        betas: Decay rates of AdamW's moments.
    """

    def __init__(
        self,
        params: list[dict[str, Any]],
        lr: float = 0.02,
        adamw_lr: float = 6.25e-4,
        weight_decay: float = 0.04,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self.adamw = AdamW(
            [{**g} for g in params if not g["hidden"]], lr=adamw_lr, weight_decay=weight_decay, betas=betas, fused=True
        )
        hidden = [{"lr": lr, "weight_decay": weight_decay, "momentum": momentum, **g} for g in params if g["hidden"]]
        super().__init__([*hidden, *self.adamw.param_groups], {})
        self._tie_adamw()

    def _tie_adamw(self) -> None:
        """Let the AdamW half work on this optimizer's groups and state, so that checkpoints and schedules see one optimizer."""
        self.adamw.param_groups = [group for group in self.param_groups if not group["hidden"]]
        self.adamw.state = self.state

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._tie_adamw()

    @override
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch overloads it
        """Step both halves, after one evaluation of the closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["hidden"]:
                self._step_muon(group)
        self.adamw.step()
        return loss

    @torch.no_grad()
    def _step_muon(self, group: dict[str, Any]) -> None:
        """Move each matrix against its orthogonalized momentum."""
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for matrix in group["params"]:
            if matrix.grad is not None:
                by_shape.setdefault(matrix.shape, []).append(matrix)
        for (rows, columns), matrices in by_shape.items():
            updates = []
            for matrix in matrices:
                assert matrix.grad is not None
                momentum = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 1 - group["momentum"])
                updates.append(matrix.grad.lerp(momentum, group["momentum"]))
            step = group["lr"] * max(1.0, rows / columns) ** 0.5
            for matrix, update in zip(matrices, orthogonalize(torch.stack(updates)), strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-step)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Push the singular values of matrices (n, rows, columns) toward 1 (0.68 to 1.13) by five Newton-Schulz steps.

    Coefficients of https://kellerjordan.github.io/posts/muon/; bfloat16 on GPUs, where it is enough and fast.
    """
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    norm: Tensor = x.norm(dim=(1, 2), keepdim=True)
    x = x / norm.clamp_min(1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)
