"""Delete-one-group jackknife over sources: one way to an interval for every number of a table, however it is computed.

Held-out clips fall into at most 50 groups of whole sources. Every number is computed from all clips and again with each
group left out; what leaving a group out changes is that group's pseudo-value, and pseudo-values crossed with seeds go where
single clips would (``estimates.crossed_mean``). For a mean the pseudo-values are its sources themselves (a cluster-robust
variance); for ratios of means they agree with the delete method's (https://doi.org/10.1023/A:1008800423698, groups of unequal
size).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

FIRST_EPISODE = 1_000_000_000
"""Positions from here on are episodes of a simulator, counted from 0; those below are held-out clips."""

ONE_SOURCE = "one source"
"""Unit of numbers that say nothing of other sources: they have neither interval nor test."""

EPISODES = "episodes"
"""Unit of numbers that are averages over episodes of a simulator alone."""

MAX_GROUPS = 50
"""More would only cost time: a t quantile at 49 degrees of freedom is 2.01."""


class Groups(NamedTuple):
    """Clips that are left out together.

    Attributes:
        member: Group of each position, 0 to G - 1.
        unit: What a group is made of: "clips", "sources" where a source has several clips, or ONE_SOURCE.
        episodes: How many groups, the last ones, are episodes of a simulator.
    """

    member: pd.Series[int]
    unit: str
    episodes: int = 0

    @property
    def num(self) -> int:
        """Number of groups G."""
        return int(self.member.max()) + 1 if len(self.member) else 0

    def unit_of(self, share: Array) -> str:
        """Return what a number is an average of, by the share (G,) that each group has in it."""
        return EPISODES if self.episodes and not share[: -self.episodes].any() else self.unit


class LeaveOneOutMeans(NamedTuple):
    """Means of one run's keys, from all clips and with each group left out.

    Attributes:
        values: (1 + G, keys): from all clips, then with each group left out.
        share: (G, keys): the share of a key's clips that a group has.
    """

    values: pd.DataFrame
    share: pd.DataFrame


def group_sources(sources: pd.Series[str]) -> Groups:
    """Form groups of about equal size, fixed by the sources' names; a single source is a single group.

    Args:
        sources: Source of each position.
    """
    units, several = sources.to_numpy(), sources.nunique() < len(sources)
    if sources.nunique() == 1:  # its parts are no independent draws of what other sources would give
        return Groups(pd.Series(0, sources.index, dtype=int), ONE_SOURCE)
    _, index, counts = np.unique(units, return_inverse=True, return_counts=True)
    if len(counts) > MAX_GROUPS:  # neighbors by name go together: they may be of one day, one body, one scene
        middle = (counts.cumsum() - counts / 2) / counts.sum()
        index = np.unique((middle * MAX_GROUPS).astype(int), return_inverse=True)[1][index]
    return Groups(pd.Series(index, sources.index, dtype=int), "sources" if several else "clips")


def group_positions(sources: pd.Series[str]) -> Groups:
    """Form groups of held-out clips, then of simulator episodes: neither changes how the others fall into theirs.

    Args:
        sources: Source of each position.
    """
    simulated = sources.index.to_numpy() >= FIRST_EPISODE
    if not simulated.any():
        return group_sources(sources)
    clips, episodes = group_sources(sources[~simulated]), group_sources(sources[simulated])
    return Groups(pd.concat([clips.member, episodes.member + clips.num]), clips.unit, episodes.num)


def leave_one_out(clips: pd.DataFrame, groups: Groups) -> LeaveOneOutMeans:
    """Compute the means of every column of ``clips`` (one line a position, NaN where a clip has no value)."""
    member = (groups.member.reindex(clips.index).to_numpy() == np.arange(groups.num)[:, None]).astype(float)  # (G, n)
    present = clips.notna().to_numpy()
    sums, counts = member @ clips.fillna(0.0).to_numpy(), member @ present
    left = np.concatenate([counts.sum(0, keepdims=True), counts.sum(0) - counts])
    with np.errstate(invalid="ignore", divide="ignore"):  # a key of one group alone, or of no clip
        values = np.concatenate([sums.sum(0, keepdims=True), sums.sum(0) - sums]) / left
        share = counts / left[0]
    return LeaveOneOutMeans(pd.DataFrame(values, columns=clips.columns), pd.DataFrame(share, columns=clips.columns))


def pseudo_values(values: Array, share: Array) -> Array:
    """Return each group's contribution to a number, (..., g, S) for the g groups that have clips; their mean is the number.

    A pseudo-value is number + g x (1 - share) x (number - number without the group). Where the number is a mean and a source is
    a group, that is mean + (clips in the source / clips a source) x (source mean - mean), whose spread is what a cluster-robust
    variance is made of. Pseudo-values are centered: the jackknife's own estimate of bias is not used, since it adds noise
    where a number has corners.

    Args:
        values: (..., 1 + G, S), from all clips and with each group left out, for each seed.
        share: (G,), each group's share of the clips.
    """
    some = share > 0
    scale = some.sum() * (1 - share[some])[:, None]
    whole = values[..., :1, :]
    each = scale * (whole - values[..., 1:, :][..., some, :])
    centered: Array = whole + each - each.mean(-2, keepdims=True)
    return centered
