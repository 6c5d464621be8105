"""The search for the value of a knob at which a family closes a share of the gap, from the rows that are there.

Values lie on a logarithmic axis. Of two neighbors on either side of the level the search tries a value between them, by
interpolation kept out of the outer quarters, so that a bracket shrinks by a quarter at least; a level beyond all rows is
approached in factors. Rows that collapsed are never a match: they say only that the level lies on their loose side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from lam.runs.sweep.knobs import Knob

TOLERANCE = 0.03
"""Farthest that a row may lie from the level that it stands for, in shares of the gap."""


class Trial(NamedTuple):
    """A row on the first seed.

    Attributes:
        text: Value of the knob.
        gap: Share of the gap that it closes; None where it says nothing, since training collapsed or failed.
    """

    text: str
    gap: float | None

    @property
    def place(self) -> float:
        """Where it lies on the logarithmic axis."""
        return math.log(float(self.text))


class NextTrial(NamedTuple):
    """What to do next.

    Attributes:
        text: Value of the knob to try; of the row that matches where ``found``; empty where the level cannot be reached.
        found: Whether the row there matches.
        reason: Why the level cannot be reached.
    """

    text: str = ""
    found: bool = False
    reason: str = ""


def next_trial(knob: Knob, trials: Sequence[Trial], level: float, start: str) -> NextTrial:
    """Return the value to try next, or the row that matches, or why there is none.

    Args:
        knob: The family's knob.
        trials: Rows that are there, each value once.
        level: Share of the gap to reach.
        start: Value to begin with where there is no row.
    """
    if not trials:
        return NextTrial(start)
    ordered = sorted(trials, key=lambda trial: trial.place * _loosens(knob, trials))
    alive = [trial for trial in ordered if trial.gap is not None]
    best = nearest(trials, level)
    if best is not None and _distance(best, level) <= TOLERANCE:
        return NextTrial(best.text, found=True)
    brackets = _brackets(ordered, alive, level)
    for tight, loose in brackets:
        text = _between(knob, ordered, tight, loose, level)
        if text:
            return NextTrial(text)
    if brackets:
        return NextTrial(reason=f"{_said(brackets[0][0])}, {_said(brackets[0][1])}, and the knob has no value between them")
    return _beyond(knob, ordered, alive, level)


def nearest(trials: Sequence[Trial], level: float) -> Trial | None:
    """Return the row that lies nearest to a level; None where all of them collapsed."""
    alive = [trial for trial in trials if trial.gap is not None]
    return min(alive, key=lambda trial: _distance(trial, level), default=None)


def _loosens(knob: Knob, trials: Sequence[Trial]) -> int:
    """Tell whether a larger value passes more (1) or less (-1): as the outermost rows say, else by the knob's type."""
    alive = sorted((trial for trial in trials if trial.gap is not None), key=lambda trial: trial.place)
    rise = (alive[-1].gap or 0.0) - (alive[0].gap or 0.0) if alive else 0.0
    if abs(rise) > TOLERANCE:
        return 1 if rise > 0 else -1
    return 1 if knob.integer else -1


def _brackets(ordered: Sequence[Trial], alive: Sequence[Trial], level: float) -> list[tuple[Trial, Trial]]:
    """Return pairs of rows with the level between them, each the tighter one first, the most promising pair first.

    Neighbors whose gap rises through the level come before those whose gap falls, close ones before distant ones. Where all
    rows lie above the level, a collapsed row on their tight side bounds it.
    """
    pairs = [(a, b) for a, b in pairwise(alive) if ((a.gap or 0.0) < level) != ((b.gap or 0.0) < level)]
    if pairs:
        return sorted(pairs, key=lambda pair: ((pair[0].gap or 0.0) > level, abs(pair[1].place - pair[0].place)))
    if alive and (alive[0].gap or 0.0) > level:
        first = ordered.index(alive[0])
        return [(ordered[first - 1], alive[0])] if first else []
    return []


def _between(knob: Knob, ordered: Sequence[Trial], tight: Trial, loose: Trial, level: float) -> str:
    """Return a value between two rows that was not tried; empty where there is none."""
    share = 0.5
    if tight.gap is not None and loose.gap is not None:
        share = min(max((level - tight.gap) / (loose.gap - tight.gap), 0.25), 0.75)
    inner = ordered[ordered.index(tight) : ordered.index(loose) + 1]
    # beside the row that lives nearest to the level first, between two that collapsed last
    gaps = sorted(pairwise(inner), key=lambda pair: min(_distance(trial, level) for trial in pair))
    places = [tight.place + share * (loose.place - tight.place), *((a.place + b.place) / 2 for a, b in gaps)]
    tried = {float(trial.text) for trial in ordered}
    low, high = sorted((float(tight.text), float(loose.text)))
    texts = [knob.text(math.exp(place)) for place in places]
    return next((text for text in texts if float(text) not in tried and low < float(text) < high), "")


def _beyond(knob: Knob, ordered: Sequence[Trial], alive: Sequence[Trial], level: float) -> NextTrial:
    """Return a value a factor beyond all rows, on the side where the level must be, or why going on is of no use."""
    looser = not alive or (alive[-1].gap or 0.0) < level
    end, outermost = (ordered[-1], alive[-1:]) if looser else (ordered[0], alive[:1])
    side = "loose" if looser else "tight"
    if outermost:
        last = outermost[0]
        if looser and len(ordered) - 1 - ordered.index(last) > 1:
            return NextTrial(reason=f"{_said(last)}, and the rows beyond it collapse")
        if flat := _plateau(knob, alive if looser else alive[::-1], lasting=looser):
            return NextTrial(reason=f"{_said(flat)}, {_said(last)}: it levels off at its {side} end")
    grows = looser == (_loosens(knob, ordered) > 0)
    text = knob.text(float(end.text) * (knob.factor if grows else 1 / knob.factor))
    if float(text) == float(end.text) or float(text) <= 0:
        return NextTrial(reason=f"{_said(end)}, and the knob has no value beyond it")
    return NextTrial(text)


def _distance(trial: Trial, level: float) -> float:
    """Return how far a row lies from a level; infinity where it says nothing."""
    return math.inf if trial.gap is None else abs(trial.gap - level)


def _plateau(knob: Knob, toward: Sequence[Trial], lasting: bool) -> Trial | None:
    """Return the row from which on a family closes about the same up to its last row; None where going on may help.

    Two factors without a difference are enough where the family has moved before. Where it never has, all rows may
    lie where even a loose knob passes nothing or a tight one everything: then it takes four, and ``lasting``.

    Args:
        knob: The family's knob.
        toward: Rows that did not collapse, in the order in which the search goes on.
        lasting: Whether a family that never moved may count as level.
    """
    gaps = [trial.gap or 0.0 for trial in toward]
    moved = max(gaps) - min(gaps) > 3 * TOLERANCE
    if not moved and not lasting:
        return None
    length = (1.9 if moved else 3.9) * math.log(knob.factor)
    before = [trial for trial in toward if abs(trial.place - toward[-1].place) > length]
    if not before or abs((before[-1].gap or 0.0) - gaps[-1]) >= TOLERANCE:
        return None
    return before[-1]


def _said(trial: Trial) -> str:
    """Say what a row does."""
    return f"{trial.text} collapses" if trial.gap is None else f"{trial.text} closes {trial.gap:.2f}"
