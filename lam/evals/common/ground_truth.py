"""Ground-truth state as the input of a probe: where things are before a step, and which body or scene it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lam.data.clip import Clip
from lam.metrics.kernels import KernelInputs


def recorded_state(clip: Clip, domains: Sequence[str]) -> list[str]:
    """List the factors of a clip that are state, not action nor what follows from it.

    They are those of which the first of several steps counts, as of positions before a step, and the named bodies, cameras or
    scenes that a clip shows.
    """
    before = {name for name, how in clip.aggregations.items() if how == "first"}
    return sorted(name for name in clip.factors if name in before or name in domains)


def ground_truth_inputs(labels: Mapping[str, Tensor], fit: Tensor) -> KernelInputs | None:
    """Make the inputs of a probe of recorded state: numbers of unit variance, and one class for each combination of classes.

    Args:
        labels: Recorded state by name, (n, ...).
        fit: Indices of the transitions for fitting.

    Returns:
        None where nothing of it varies.
    """
    numbers: list[Tensor] = []
    classes: list[Tensor] = []
    for _, values in sorted(labels.items()):
        flat = values.flatten(1) if values.ndim > 1 else values[:, None]
        flat = flat[:, (flat[fit] != flat[fit[0]]).any(dim=0)]
        (numbers if values.is_floating_point() else classes).append(flat)
    state = torch.cat(numbers, dim=1).float() if numbers else torch.empty(0, 0)
    kinds = torch.cat(classes, dim=1) if classes else torch.empty(0, 0)
    if not state.numel() and not kinds.numel():
        return None
    return KernelInputs(
        (state - state[fit].mean(dim=0)) / state[fit].std(dim=0, correction=0) if state.numel() else None,
        torch.unique(kinds, dim=0, return_inverse=True)[1] if kinds.numel() else None,
    )
