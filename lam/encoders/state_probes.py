"""Probes of states: how well ground-truth factors of the state before a step can be read from a trained encoder's states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lam.data.clip import Clip
from lam.data.schema import FactorInfo
from lam.metrics.mlp import LabelSplit
from lam.metrics.probes import ProbeInputs, fit_probes, standardize
from lam.metrics.scores import HOLD_BACK, r2_contributions

POOR = 0.8
"""R² below which a state lacks a factor, for a warning; positions of what moves are read with 0.9 and more where plans work."""


class LabeledStates(NamedTuple):
    """States of frames, and what was recorded of them.

    Attributes:
        states: States, (n, S).
        factors: Ground-truth factors by name, (n, q) each.
        clip: Number of the clip that each is of, (n,).
    """

    states: Tensor
    factors: dict[str, Tensor]
    clip: Tensor


def recorded_factors(factors: Mapping[str, FactorInfo]) -> list[str]:
    """List the continuous factors of a set that describe the state before a step, by their aggregation ``first``."""
    return sorted(name for name, info in factors.items() if info.aggregation == "first" and info.kind == "continuous")


@torch.no_grad()
def label_states(clips: Iterable[Clip], encode: Callable[[Tensor], Tensor], names: Sequence[str]) -> LabeledStates:
    """Encode the frames of clips that a step follows, as factor i of a clip is of its frame i.

    Args:
        clips: Batches of clips with their factors.
        encode: Encodes images (n, 3, H, W) as states (n, ...).
        names: The factors wanted.
    """
    states: list[Tensor] = []
    numbers: list[Tensor] = []
    factors: dict[str, list[Tensor]] = {name: [] for name in names}
    for clip in clips:
        before = clip.frames[:, :-1]
        states.append(encode(before.flatten(0, 1)).flatten(1).float().cpu())
        numbers.append(sum(map(len, numbers)) // before.shape[1] + torch.arange(len(clip)).repeat_interleave(before.shape[1]))
        for name in names:
            factors[name].append(clip.factors[name].reshape(before.shape[0] * before.shape[1], -1))
    joined = {name: torch.cat(values).float().cpu() for name, values in factors.items()}
    return LabeledStates(torch.cat(states), joined, torch.cat(numbers))


def probe_states(fit: LabeledStates, test: LabeledStates) -> dict[str, float]:
    """Read each factor from standardized states by ridge regression and a small network on its residuals.

    Args:
        fit: States to fit on, of training clips; a quarter of the clips is held back to stop the network early.
        test: States to score on, of validation clips.

    Returns:
        R² on the states to score on by factor, of several numbers their mean R²; factors that do not vary are left out.
    """
    owner = [name for name, values in fit.factors.items() for _ in range(values.shape[1])]
    known, scored = (torch.cat(list(each.factors.values()), dim=1) for each in (fit, test))
    varies = ((known != known[0]).any(dim=0) & (scored != scored[0]).any(dim=0)).nonzero()[:, 0]
    if not len(varies):
        return {}
    names = list(dict.fromkeys(owner[column] for column in varies))
    factor = torch.tensor([names.index(owner[column]) for column in varies])
    held_back, rows = fit.clip % HOLD_BACK == 0, torch.arange(len(fit.states))
    targets = standardize(torch.cat([known, scored])[:, varies], rows)
    labels = LabelSplit(rows[~held_back], rows[held_back])
    inputs = ProbeInputs(standardize(torch.cat([fit.states, test.states]), rows), labels)
    predicted = fit_probes([inputs], targets, factor, torch.arange(len(known), len(targets))).predicted[0]
    return {
        name: r2_contributions(predicted[:, factor == number], targets[len(known) :, factor == number]).sum().item()
        for number, name in enumerate(names)
    }


def describe_probes(scores: Mapping[str, float]) -> list[str]:
    """Say in a line what states hold, and in another what they lack."""
    if not scores:
        return ["no state probes: the set records no factors of the state before a step that vary, such as positions."]
    lines = ["state probes (R² on validation clips): " + ", ".join(f"{name} {score:.2f}" for name, score in scores.items())]
    if poor := [f"{name} (R² {score:.2f})" for name, score in scores.items() if score < POOR]:
        lines.append(f"warning: states hold little of {', '.join(poor)}; what a state lacks cannot be planned with.")
    return lines
