"""Helpers for several processes; with one process each is the identity."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_objects(value: Any) -> list[Any]:
    """What every process holds, in rank order; small Python objects and CPU tensors."""
    shares: list[Any] = [value]
    if world_size() > 1:
        shares = [None] * world_size()
        dist.all_gather_object(shares, value)
    return shares


def gather(positions: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Joins per-clip values of all processes, ordered by position, each position once.

    Shares may differ in length, and a position may occur twice where a sampler padded the last batch; the result is the same
    on every process and does not depend on their number. A process without clips may leave the values out.

    Args:
        positions: Which clip each row belongs to, (n,) int64.
        values: Tensors (n, ...) on any device.

    Returns:
        Positions and values on the CPU, sorted by position.
    """
    rows = [positions.cpu(), *(value.detach().cpu() for value in values)]
    shares = gather_objects(rows)
    rows = [torch.cat(column) for column in zip(*([s for s in shares if len(s[0])] or shares[:1]), strict=True)]
    unique, inverse = torch.unique(rows[0], return_inverse=True)
    first = torch.full((len(unique),), len(inverse)).scatter_reduce(0, inverse, torch.arange(len(inverse)), "amin")
    return unique, *(value[first] for value in rows[1:])


def gather_mapping(mapping: dict[int, Any]) -> dict[int, Any]:
    """The mappings of all processes in one, in order of their keys."""
    return dict(sorted(item for share in gather_objects(mapping) for item in share.items()))


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:  # type: ignore[override]  # as torch documents it
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


def gather_rows(rows: Tensor) -> Tensor:
    """Rows (n, ...) of all processes, joined in rank order, with gradients; every process must hold the same n.

    A loss that every process computes from the result and DistributedDataParallel averages has the gradient of one process
    that holds all rows.
    """
    return rows if world_size() == 1 else _GatherRows.apply(rows)


def sum_over_processes(value: Tensor) -> Tensor:
    """Sum of a tensor over all processes, without gradient."""
    if world_size() > 1:
        value = value.detach().clone()
        dist.all_reduce(value)
    return value
