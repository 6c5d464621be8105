"""The lag between actions and image motion: how many frames after its row an action shows in the pictures.

For each lag the actions are predicted from the motion that many frames later by ridge regression, and scored on sources (or
stretches of time, where there are few sources) that the regression has not seen. Differences between recordings are
taken out first. The interval of the lag comes from resampling stretches of time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold

from lam.data.schema import ActionField

MAX_LAG = 8
_ALPHAS = np.logspace(0, 5, 6)
_STRETCH = 40  # rows that are resampled together: actions and motion are smooth in time
_RESAMPLES = 500
MIN_ROWS, _MIN_STRETCHES = 200, 8  # fewer say nothing with 65 motion features
_SHOWS = 0.02  # held-out R² that a number must surely have; noise has none
_OUTLIER = 4.0  # standard deviations at which both sides are clipped: one jolt would decide the regression


class LagVerdict(str, Enum):
    """How sure the lag is."""

    few = "too few rows"
    none = "no relation found"
    unclear = "related, but no clear peak"
    clear = "clear peak"


@dataclass(frozen=True)
class ActionLag:
    """Lag between actions and image motion, and how well they go together at each lag.

    Attributes:
        verdict: What is known.
        lags: Lags that were tried, (L,) frames; at lag k row i of the actions goes with motion from frame i + k to i + k + 1.
        r2: Held-out R² of each number of the action at each lag, (L, U); NaN for constant numbers.
        visible: Numbers that surely go with the motion at some lag, (U,).
        mean_r2: Mean R² of these at each lag, (L,), numbers weighted by how far their peak stands out.
        lag: Where ``mean_r2`` is largest.
        low: Smallest lag of the 95 % interval.
        high: Largest lag of it.
        rows: Rows of actions that were used.
    """

    verdict: LagVerdict
    lags: np.ndarray
    r2: np.ndarray
    visible: np.ndarray
    mean_r2: np.ndarray
    lag: int
    low: int
    high: int
    rows: int


def measure_lag(
    motions: Sequence[np.ndarray], actions: Sequence[np.ndarray], sources: Sequence[str], seed: int = 0
) -> ActionLag:
    """Find the lag at which actions go best with image motion.

    Args:
        motions: Motion features of each recording, (frames - 1, M); row i is from frame i to i + 1.
        actions: Actions of each, (rows, U); where they are absolute targets, their changes from row to row.
        sources: What each is a recording of; several cameras that saw the same are held out and resampled together.
        seed: Of the resampling.
    """
    counts = [min(len(m), len(a)) for m, a in zip(motions, actions, strict=True)]
    reach = min(MAX_LAG, int(np.median(counts)) // 4)
    lags = np.arange(-reach, reach + 1)
    long = [i for i, count in enumerate(counts) if count >= 2 * reach + 2]
    rows = [np.arange(reach, counts[i] - reach) for i in long]
    source, stretch = _number_stretches([sources[i] for i in long], rows)
    width = actions[0].shape[1]
    r2, visible, mean_r2 = np.full((len(lags), width), np.nan), np.zeros(width, bool), np.zeros(len(lags))
    nothing = ActionLag(LagVerdict.few, lags, r2, visible, mean_r2, lag=0, low=0, high=0, rows=len(stretch))
    if len(stretch) < MIN_ROWS or len(np.unique(stretch)) < _MIN_STRETCHES:
        return nothing
    wanted = standardize([actions[i][which] for i, which in zip(long, rows, strict=True)])
    varies = wanted.any(axis=0)
    wanted = wanted[:, varies]
    if not varies.any():
        return dataclasses.replace(nothing, verdict=LagVerdict.none)
    groups = source if len(np.unique(source)) >= 5 else stretch
    errors = []
    for lag in lags:
        seen = standardize([motions[i][which + lag] for i, which in zip(long, rows, strict=True)])
        errors.append(_sum_by(stretch, (wanted - predict_held_out(seen, wanted, groups)) ** 2))
    scores = bootstrap_r2(np.stack(errors), _sum_by(stretch, wanted**2), np.random.default_rng(seed))
    nothing.r2[:, varies] = scores[0]
    return _with_verdict(nothing, scores, np.flatnonzero(varies))


def _with_verdict(found: ActionLag, scores: np.ndarray, numbers: np.ndarray) -> ActionLag:
    """Add what resampled scores (1 + resamples, L, numbers) say; the first are those of all rows."""
    best = scores[0].argmax(axis=0)
    sure = np.quantile(scores[1:, best, np.arange(len(numbers))], 0.005, axis=0) > _SHOWS
    if not sure.any():
        return dataclasses.replace(found, verdict=LagVerdict.none)
    peaks = scores[0].max(axis=0) - np.median(scores[0], axis=0)
    joint = scores[:, :, sure] @ (peaks[sure] / peaks[sure].sum())
    low, high = np.quantile(found.lags[joint[1:].argmax(axis=1)], [0.025, 0.975], method="nearest")
    visible = found.visible.copy()
    visible[numbers[sure]] = True
    inside = found.lags[0] < low and high < found.lags[-1] and high - low <= 2
    return dataclasses.replace(
        found,
        verdict=LagVerdict.clear if inside else LagVerdict.unclear,
        visible=visible,
        mean_r2=joint[0],
        lag=int(found.lags[joint[0].argmax()]),
        low=int(low),
        high=int(high),
    )


def standardize(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return rows of all recordings, each recording's mean taken out, of unit variance, outliers clipped; 0 where constant."""
    rows = np.concatenate([part - part.mean(axis=0) for part in parts]).astype(np.float64)
    spread = rows.std(axis=0)
    largest = np.max([np.abs(part).max(axis=0) for part in parts], axis=0)
    spread[spread <= 1e-6 * largest] = np.inf  # rounding
    clipped: np.ndarray = np.clip(rows / spread, -_OUTLIER, _OUTLIER)
    return clipped


def predict_held_out(seen: np.ndarray, wanted: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Predict each row of ``wanted`` from ``seen`` by ridge regressions on other groups, in five folds."""
    predicted = np.empty_like(wanted)
    for train, test in GroupKFold(min(5, len(np.unique(groups)))).split(seen, groups=groups):
        model = RidgeCV(_ALPHAS, alpha_per_target=True).fit(seen[train], wanted[train])
        predicted[test] = model.predict(seen[test]).reshape(len(test), -1)
    return predicted


def bootstrap_r2(errors: np.ndarray, totals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return R² of all stretches, then of resamples of them with replacement, (1 + resamples, L, U).

    Args:
        errors: Squared errors of each stretch, (L, stretches, U).
        totals: Squares of each stretch, (stretches, U).
        rng: Chooses stretches.
    """
    count = len(totals)
    weights = np.concatenate([np.ones((1, count)), rng.multinomial(count, np.full(count, 1 / count), _RESAMPLES)])
    floor = 1e-3 * totals.sum(axis=0)  # a rare event may be missing from a bootstrap_r2
    r2: np.ndarray = 1 - np.einsum("rs,lsu->rlu", weights, errors) / np.maximum(weights @ totals, floor)[:, None]
    return r2


def _number_stretches(sources: Sequence[str], rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row of all recordings the number of its source and of its stretch of time in it."""
    if not rows:
        return np.empty(0, int), np.empty(0, int)
    source = np.unique(np.repeat(sources, [len(each) for each in rows]), return_inverse=True)[1]
    times = np.concatenate(rows) // _STRETCH
    stretch = np.unique(np.stack([source, times]), axis=1, return_inverse=True)[1]
    return source, stretch.ravel()


def _sum_by(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return sums of rows (rows, U) by group, (groups, U)."""
    sums = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return sums


def lag_targets(rows: np.ndarray, fields: Sequence[ActionField]) -> np.ndarray:
    """Return actions as they can be compared with motion: of absolute targets, the change from the row before."""
    absolute = np.array([each.aggregation == "last" for each in fields for _ in range(each.dim)])
    finite = np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float64)
    targets: np.ndarray = np.where(absolute, np.diff(finite, axis=0, prepend=finite[:1]), finite)
    return targets


def format_lag(lag: ActionLag, options: Mapping[str, object], zeros_first: bool) -> list[str]:
    """Say how many frames after its row an action shows in the images, and which options would align them.

    Args:
        lag: What was measured.
        options: Options of the source and their values; lag and shift matter.
        zeros_first: Whether the actions look like those of a replay buffer.
    """
    lines = [f"Actions and image motion: {lag.verdict.value}, from {lag.rows} rows."]
    if lag.verdict in (LagVerdict.clear, LagVerdict.unclear):
        lines.append("  lag " + " ".join(f"{each:5d}" for each in lag.lags))
        lines.append("  R²  " + " ".join(f"{each:5.2f}" for each in lag.mean_r2))
        lines.append(
            f"  Largest at lag {lag.lag}, 95 % interval {lag.low} to {lag.high}; held-out R², mean of numbers that show."
        )
    if lag.verdict is LagVerdict.clear:
        lines.append(f"  {suggest_options(lag, options)}")
    elif lag.verdict is LagVerdict.few:
        lines.append(f"  At least {MIN_ROWS} are needed, without those near the ends of recordings: raise --recordings.")
    else:
        lines.append("! The lag is not known: check the alignment of actions and frames by other means.")
    if zeros_first and options.get("shift") is False:
        after = ""
        if lag.verdict is LagVerdict.clear:
            after = f" Actions then show {_frames(lag.low + 1, lag.high + 1)} after their row, the time the robot takes."
        lines.append(f"! The zeros in every first row suggest a replay buffer: prepare with --shift true.{after}")
    return lines


def suggest_options(lag: ActionLag, options: Mapping[str, object]) -> str:
    """Say what a clear lag means and which options of the source take it away."""
    given = options.get("lag")
    if lag.low <= 0 <= lag.high and (lag.lag == 0 or lag.low < lag.high):
        near = "aligned" if lag.low == lag.high else f"aligned to within {_frames(0, max(-lag.low, lag.high))}"
        return f"Row i of the actions shows between frames i and i + 1: {near}."
    if isinstance(given, int) and given + lag.lag >= 0:
        return f"{_shows(lag)}: prepare with --lag {given + lag.lag}."
    if lag.lag > 0:
        return f"{_shows(lag)}: servo, robot and camera take time" + (", or --shift is wrong." if options.get("shift") else ".")
    if lag.lag == -1 and options.get("shift") is False:
        return "Row i of the actions led to frame i: prepare with --shift true."
    return f"{_shows(lag)}: the rows come late, check how frames and actions were recorded."


def _shows(lag: ActionLag) -> str:
    if lag.lag > 0:
        return f"Actions show {_frames(lag.low, lag.high)} after their row"
    return f"Actions show {_frames(-lag.high, -lag.low)} before their row"


def _frames(low: int, high: int) -> str:
    """Return a range of numbers of frames."""
    return f"{low} to {high} frames" if 0 < low < high else f"{high} frame{'s' if high != 1 else ''}"
