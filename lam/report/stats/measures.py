"""Numbers computed from means of a row and the reference rows; intervals come from the jackknife, for all in one way."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lam.metrics.operational import operational_bits
from lam.report.stats.jackknife import Array

ERROR, ERROR_DRAWN = "eval/capacity/error", "eval/capacity/error_drawn"
GAP_CLOSED, GAP_CLOSED_MEAN = "gap_closed", "gap_closed_mean"
"""Share of the gap closed with what passed the channel (z drawn from its posterior), and with the mean of that posterior."""

LEAKAGE, TRANSFER, RATE = "eval/leakage/", "eval/transfer/", "eval/rate/"
OPERATIONAL = RATE + "bits_operational@"
BITS = OPERATIONAL + "5"
NOMINAL_BITS, CODES_USED, GAIN = RATE + "bits_nominal", "eval/usage/codes_used", "eval/probe/gain/"
FLOOR = 1e-3
"""Errors below a thousandth of the unit are nothing to divide by."""
CONTROLLER, PLANNING, CLOSED_LOOP = "eval/controller/", "eval/planning/", "eval/closed_loop/"


class Term(NamedTuple):
    """A mean that a measure is computed from.

    Attributes:
        key: Its key; with a ``*`` all keys of the row's clips that fit, in order, on a leading axis.
        row: The reference row it is taken from, on the same seed; the row itself where empty.
    """

    key: str
    row: str = ""


@dataclass(frozen=True)
class Measure:
    """A function of means, evaluated within each seed.

    Attributes:
        key: Its key in the tables; takes the place of a run's own number of that key.
        terms: What it is computed from.
        formula: Maps the terms' values to its own, element by element.
        denominator: Maps them to what must be apart from 0 for the measure to mean anything, as its 95 % interval tells.
        needs_gap: Whether it also needs the reference rows apart.
    """

    key: str
    terms: tuple[Term, ...]
    formula: Callable[..., Array]
    denominator: Callable[..., Array] | None = None
    needs_gap: bool = False


def _operational(percent: float) -> Callable[..., Array]:
    """Return the formula of the bits at which the error has risen by ``percent`` of G over that with z as it is."""

    def bits_at(none: Array, identity: Array, unquantized: Array, bits: Array, errors: Array) -> Array:
        # points are on the leading axis of bits and errors; a seed that lacks a point has NaN there
        target = unquantized + percent / 100 * (none - identity)
        result = np.empty_like(target)
        for place in np.ndindex(target.shape):
            x, y = bits[(slice(None), *place)], errors[(slice(None), *place)]
            points = np.isfinite(x) & np.isfinite(y)
            result[place] = operational_bits(x[points], y[points], float(target[place]))
        return result

    return bits_at


_UNCUT, _CUT, _COPY_CUT = (Term(LEAKAGE + name) for name in ("uncut", "cut", "copy_cut"))
_ORIGINAL, _CYCLE, _FLOOR, _RANDOM = (Term(TRANSFER + name) for name in ("original", "cycle", "floor", "random"))
_NONE, _IDENTITY = Term(ERROR, "none"), Term(ERROR, "identity")
_NONE_DRAWN, _IDENTITY_DRAWN = Term(ERROR_DRAWN, "none"), Term(ERROR_DRAWN, "identity")
_POINTS = (Term(RATE + "unquantized"), Term(RATE + "point/*/bits"), Term(RATE + "point/*/error"))


def _share_of_gap(none: Array, row: Array, identity: Array) -> Array:
    """Return the share of the way from one reference row to the other."""
    return (none - row) / (none - identity)


def _divide(a: Array, b: Array) -> Array:
    """Return a ratio of means."""
    return a / b


def _above_floor(numerator: Array, denominator: Array) -> Array:
    """Return what of a denominator lies above ``FLOOR``."""
    return np.maximum(denominator - FLOOR, 0)


def _pair_measures(drawn: str) -> tuple[Measure, ...]:
    """Return measures of leakage and transfer, of z or with the suffix ``_drawn`` of what passed the channel."""
    cut, uncut = (Term(term.key + drawn) for term in (_CUT, _UNCUT))
    original, cycle, floor, random = (Term(term.key + drawn) for term in (_ORIGINAL, _CYCLE, _FLOOR, _RANDOM))
    return (
        Measure(f"{LEAKAGE}ratio{drawn}", (cut, uncut), _divide, _above_floor),
        Measure(f"{LEAKAGE}share{drawn}", (cut, _COPY_CUT), lambda cut, copy: 1 - cut / copy),
        Measure(f"{TRANSFER}ratio{drawn}", (cycle, original), _divide, _above_floor),
        Measure(f"{TRANSFER}ratio_floor{drawn}", (floor, original), _divide, _above_floor),
        Measure(f"{TRANSFER}ratio_random{drawn}", (random, original), _divide, _above_floor),
        Measure(
            f"{TRANSFER}normalized{drawn}",
            (cycle, floor, random),
            lambda cycle, floor, random: (cycle - floor) / (random - floor),
            denominator=lambda cycle, floor, random: random - floor,
        ),
        Measure(f"{TRANSFER}heading{drawn}", (Term(f"{TRANSFER}aligned{drawn}"), Term(TRANSFER + "moved")), _divide),
    )


MEASURES = {
    measure.key: measure
    for measure in (
        Measure(GAP_CLOSED, (_NONE_DRAWN, Term(ERROR_DRAWN), _IDENTITY_DRAWN), _share_of_gap, needs_gap=True),
        Measure(GAP_CLOSED_MEAN, (_NONE, Term(ERROR), _IDENTITY), _share_of_gap, needs_gap=True),
        *(
            Measure(f"{OPERATIONAL}{percent}", (_NONE, _IDENTITY, *_POINTS), _operational(percent), needs_gap=True)
            for percent in (1, 5, 10)
        ),
        Measure(LEAKAGE + "relative", (_CUT, Term(_CUT.key, "none")), _divide),
        *(measure for drawn in ("", "_drawn") for measure in _pair_measures(drawn)),
    )
}
"""Measures by key."""


def label_budget(key: str) -> str:
    """Return how many labeled clips a number of acting took, by its key; ``all`` of labeled bounds, empty of other numbers."""
    found = re.fullmatch(rf"(?:{CONTROLLER}|{PLANNING}|{CLOSED_LOOP}).+@(\d+|all)", key)
    return found[1] if found else ""


def control_measures(budget: str) -> list[Measure]:
    """Return ratios of acting at a label budget: of a controller to inferred latents, of a plan to staying."""
    controller = {name: Term(f"{CONTROLLER}{name}@{budget}") for name in ("error", "blind", "inferred", "inferred_drawn")}
    planning = {name: Term(f"{PLANNING}{name}@{budget}") for name in ("error", "error_stay")}
    return [
        Measure(f"{CONTROLLER}ratio@{budget}", (controller["error"], controller["inferred"]), _divide),
        Measure(f"{CONTROLLER}ratio_drawn@{budget}", (controller["error"], controller["inferred_drawn"]), _divide),
        Measure(f"{CONTROLLER}ratio_blind@{budget}", (controller["blind"], controller["inferred"]), _divide),
        Measure(f"{PLANNING}normalized@{budget}", (planning["error"], planning["error_stay"]), _divide),
    ]
