"""Communication between processes that train together; with one process every function is the identity."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx
from typing_extensions import override

T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process among them, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def gather_objects(value: T) -> list[T]:
    """Gather one object of every process, in rank order; small Python objects and CPU tensors."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def gather(positions: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Join per-clip values of all processes, ordered by position, each position once.

    Processes may hold different numbers of clips, and a position may occur twice where a sampler padded the last batch; the
    result is the same on every process and does not depend on their number. A process without clips may leave the values out.

    Args:
        positions: Position of the clip that each row belongs to, (n,) int64.
        values: Tensors (n, ...) on any device.

    Returns:
        Positions and values on the CPU, sorted by position.
    """
    rows = [positions.cpu(), *(value.detach().cpu() for value in values)]
    gathered = gather_objects(rows)
    filled = [each for each in gathered if len(each[0])] or gathered[:1]
    rows = [torch.cat(column) for column in zip(*filled, strict=True)]
    unique, inverse = torch.unique(rows[0], return_inverse=True)
    first = torch.full((len(unique),), len(inverse)).scatter_reduce(0, inverse, torch.arange(len(inverse)), "amin")
    return unique, *(value[first] for value in rows[1:])


def gather_mapping(mapping: dict[int, T]) -> dict[int, T]:
    """Merge the mappings of all processes, in order of their keys."""
    merged = {key: value for each in gather_objects(mapping) for key, value in each.items()}
    return dict(sorted(merged.items(), key=lambda item: item[0]))


class _GatherRows(torch.autograd.Function):
    """Gathers rows of all processes; the gradient of a row is the sum over processes."""

    @override
    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @override
    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


def gather_rows(rows: Tensor) -> Tensor:
    """Join rows (n, ...) of all processes in rank order, with gradients; every process must hold the same n.

    A loss that every process computes from the result and DistributedDataParallel averages has the gradient of one process
    that holds all rows.
    """
    if world_size() == 1:
        return rows
    joined: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]  # torch leaves it so
    return joined


def sum_over_processes(value: Tensor) -> Tensor:
    """Sum a tensor over all processes, without gradient."""
    if world_size() > 1:
        value = value.detach().clone()
        dist.all_reduce(value)
    return value
