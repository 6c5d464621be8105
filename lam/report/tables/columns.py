"""Columns of the tables: those that the runs' evaluations declare, and those that need more than one run.

An evaluation declares its columns beside its code (``lam.runs.columns``), so nothing here knows of a particular one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from lam.report.stats.control import main_label_budget
from lam.report.stats.matched import HULL_BITS
from lam.report.stats.measures import (
    BITS,
    CLOSED_LOOP,
    ERROR,
    ERROR_DRAWN,
    GAP_CLOSED,
    GAP_CLOSED_MEAN,
    LEAKAGE,
    NOMINAL_BITS,
    PLANNING,
    TRANSFER,
)
from lam.report.stats.rows import Comparison, TableRow
from lam.report.tables.published import published_at_end
from lam.runs.columns import LABELS, Column, Declarations, Flag

ACROSS_RUNS = Declarations(
    (
        Column(
            GAP_CLOSED,
            "gap closed",
            better=1,
            explanation="(error of none - error) / (error of none - error of identity), within each seed, of what passed the "
            "channel: z drawn where the bottleneck has a posterior; it may exceed 1",
            order=110,
            brief=True,
        ),
        Column(
            GAP_CLOSED_MEAN,
            "gap closed, mean z",
            explanation="the same with the mean of the posterior, which no channel of so many bits transmits; equal for codes",
            order=115,
        ),
        Column(
            BITS,
            "bits @5%",
            digits=1,
            explanation="operational bits a transition, the shortest held-out code of a quantized latent at which the "
            "prediction error has risen by 5 % of the gap between the reference rows; one point of a row's curve, by which "
            "no families are compared (the hull is)",
            order=120,
        ),
        Column(
            LEAKAGE + "relative",
            "relative to none",
            digits=2,
            explanation="error at the cut over that of `none` there",
            order=230,
        ),
        Column(
            PLANNING + "relative@" + LABELS,
            "planning / actions",
            digits=2,
            explanation="ratio to the model of recorded actions, of means within each seed",
            order=240,
            table="control",
            brief=True,
        ),
        Column(
            CLOSED_LOOP + "relative@" + LABELS,
            "success / actions",
            digits=2,
            explanation="likewise",
            order=310,
            table="control",
            brief=True,
        ),
    )
)
"""Columns of numbers that the report computes from several runs."""

MATCHED_BITS = Column(HULL_BITS, "bits (hull)", digits=1, better=-1, brief=True)
"""Bits of a family at a level, which are no number of a row."""

MATCHED_FACTORS = 2
"""Ground-truth factors that the matched tables show."""


@dataclass(frozen=True)
class TextColumn:
    """A column of words.

    Attributes:
        heading: Its heading.
        text: What it says of a row; empty where it has nothing to say.
        brief: Whether the terminal shows it too.
    """

    heading: str
    text: Callable[[Comparison, TableRow], str]
    brief: bool = True


def declarations(comparison: Comparison) -> Declarations:
    """Return all columns and flags that the runs declare or that the report adds, in order."""
    return Declarations.union([ACROSS_RUNS, *(run.declarations for run in comparison.runs)])


def declared_columns(comparison: Comparison, table: Literal["main", "control"]) -> list[Column]:
    """Return the columns of a table as they are declared, in order."""
    return [column for column in declarations(comparison).columns if column.table == table]


def main_columns(comparison: Comparison) -> list[Column]:
    """Return the number columns of the wide table; those that no row has are left out.

    A column that rows are compared by at matched capacity only is no contest here.
    """
    columns = _expanded(comparison, declared_columns(comparison, "main"))
    return [replace(column, better=0) if column.matched == "only" else column for column in columns]


def matched_columns(comparison: Comparison) -> list[Column]:
    """Return the number columns of the matched table, bits of the family's hull first; every one is a contest."""
    declared = declared_columns(comparison, "main")
    capacities = (ERROR, ERROR_DRAWN, BITS, GAP_CLOSED, GAP_CLOSED_MEAN)
    others = [column for column in declared if column.matched != "no" and column.key not in capacities]
    return [MATCHED_BITS, *_expanded(comparison, others, matched=True)]


def text_columns(comparison: Comparison) -> list[TextColumn]:
    """Return the word columns of the wide table; those that have nothing to say of any row are left out."""
    columns = [
        TextColumn("flags", flags),
        TextColumn("published leakage", lambda comparison, row: _published(comparison, row, "leakage_ratio"), brief=False),
        TextColumn("published transfer", lambda comparison, row: _published(comparison, row, "transfer_ratio"), brief=False),
    ]
    return [column for column in columns if any(column.text(comparison, row) for row in comparison.rows)]


def flags(comparison: Comparison, row: TableRow) -> str:
    """Return the warnings of a row, with how many of its seeds where it is not all of them."""
    raised = []
    for flag in declarations(comparison).flags:
        seeds = [run.metrics[flag.key] == flag.value for run in row.runs.values() if flag.key in run.metrics]
        if any(seeds):
            raised.append(flag.name if all(seeds) else f"{flag.name} ({sum(seeds)} of {len(seeds)})")
    return ", ".join(raised)


def logged_flags(comparison: Comparison) -> list[Flag]:
    """Return the flags that some row could raise."""
    return [flag for flag in declarations(comparison).flags if flag.key in comparison.keys]


def shown_factors(comparison: Comparison, stems: Iterable[str]) -> list[str]:
    """Return the endings of keys that begin with a stem: ground-truth factors in the order to show them, or horizons.

    Movements of the agent come first, then those of the camera, then others by name. Recorded actions, ``action_0`` and on, are
    shown only where no movement is recorded by name: they would say the same. Of horizons the farthest comes first.
    """
    names = {key.removeprefix(stem) for stem in stems for key in comparison.keys if key.startswith(stem)}
    if all(name.isdigit() for name in names):
        return sorted(names, key=int, reverse=True)
    if any(name.startswith(("agent_d", "pan_d")) for name in names):
        names = {name for name in names if not name.startswith("action")}

    def order(name: str) -> tuple[bool, bool, str]:
        return not (name == "agent" or name.startswith("agent_d")), not name.startswith("pan"), name

    return sorted(names, key=order)


def explain(columns: Iterable[Column], shown: Iterable[Column], budget: str = "") -> list[str]:
    """Return a bullet for each declared column of which something is shown.

    Args:
        columns: Columns as they are declared.
        shown: Columns of a table.
        budget: Label budget to put into the explanation.
    """
    keys = {column.key.replace(LABELS, budget) for column in shown}
    bullets = []
    for column in columns:
        stem, star, _ = column.key.replace(LABELS, budget).partition("*")
        if column.explanation and any(key.startswith(stem) if star else key == stem for key in keys):
            heading = column.heading.replace("*", "").strip(" @")
            bullets.append(f"- *{heading}*: {column.explanation.replace(LABELS, budget)}.")
    return bullets


def _expanded(comparison: Comparison, columns: list[Column], matched: bool = False) -> list[Column]:
    """Put the label budget and the factors that there are into columns, and leave out those that no row has."""
    budget = main_label_budget(comparison)
    expanded = []
    for column in columns:
        if not column.key.endswith("*"):
            brief = column.brief and not (column.key == NOMINAL_BITS and BITS in comparison.keys)
            expanded.append(replace(column, key=column.key.replace(LABELS, budget), brief=brief))
            continue
        evaluation = column.key[: column.key.index("/", len("eval/")) + 1]
        stems = [one.key[:-1] for one in columns if one.key.endswith("*") and one.key.startswith(evaluation)]
        names = shown_factors(comparison, stems)[: min(column.most, MATCHED_FACTORS) if matched else column.most]
        for place, name in enumerate(names):
            expanded.append(replace(column.of(name), brief=column.brief and (matched or place == 0)))
    return [column for column in expanded if column.key in comparison.keys]


def _published(comparison: Comparison, row: TableRow, field: str) -> str:
    """Return the published ratio beside the tight and the loose end of a family's sweep, where our table has that ratio."""
    key = {"leakage_ratio": LEAKAGE + "ratio", "transfer_ratio": TRANSFER + "ratio"}[field]
    sweep = comparison.families.get(row.family, [])
    if key not in comparison.keys or len(sweep) < 2 or row.name not in (sweep[0].name, sweep[-1].name):
        return ""
    published = published_at_end(row.family, tight=row.name == sweep[0].name)
    return f"{published._asdict()[field]:.2f} ({published.capacity})" if published else ""
