"""What the lag between actions and image motion means for the options of a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from data_prep.inspection.action_lag import MIN_ROWS, MotionLag, Verdict
from lam.data.schema import ActionField


def lag_rows(rows: np.ndarray, fields: Sequence[ActionField]) -> np.ndarray:
    """Actions as they can be compared with motion: of absolute targets, the change from the row before."""
    absolute = np.array([each.join == "last" for each in fields for _ in range(each.dim)])
    finite = np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float64)
    return np.where(absolute, np.diff(finite, axis=0, prepend=finite[:1]), finite)


def say_lag(lag: MotionLag, options: Mapping[str, object], zeros_first: bool) -> list[str]:
    """How many frames after its row an action shows in the pictures, and which options would align them.

    Args:
        lag: What was measured.
        options: Options of the source and their values; lag and shift matter.
        zeros_first: Whether the actions look like those of a replay buffer.
    """
    lines = [f"Actions and image motion: {lag.verdict.value}, from {lag.rows} rows."]
    if lag.verdict in (Verdict.clear, Verdict.unclear):
        lines.append("  lag " + " ".join(f"{each:5d}" for each in lag.lags))
        lines.append("  R²  " + " ".join(f"{each:5.2f}" for each in lag.joint))
        lines.append(
            f"  Largest at lag {lag.lag}, 95 % interval {lag.low} to {lag.high}; held-out R², mean of numbers that show."
        )
    if lag.verdict is Verdict.clear:
        lines.append(f"  {advice(lag, options)}")
    elif lag.verdict is Verdict.few:
        lines.append(f"  At least {MIN_ROWS} are needed, without those near the ends of recordings: raise --recordings.")
    else:
        lines.append("! The lag is not known: check the alignment of actions and frames by other means.")
    if zeros_first and options.get("shift") is False:
        after = ""
        if lag.verdict is Verdict.clear:
            after = f" Actions then show {_frames(lag.low + 1, lag.high + 1)} after their row, the time the robot takes."
        lines.append(f"! The zeros in every first row suggest a replay buffer: prepare with --shift true.{after}")
    return lines


def advice(lag: MotionLag, options: Mapping[str, object]) -> str:
    """What a clear lag means and which options of the source take it away."""
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


def _shows(lag: MotionLag) -> str:
    if lag.lag > 0:
        return f"Actions show {_frames(lag.low, lag.high)} after their row"
    return f"Actions show {_frames(-lag.high, -lag.low)} before their row"


def _frames(low: int, high: int) -> str:
    """A range of numbers of frames."""
    return f"{low} to {high} frames" if 0 < low < high else f"{high} frame{'s' if high != 1 else ''}"
