"""Which rows may stand for their family: those whose latent says something, in every seed that the family has."""

from __future__ import annotations

from collections.abc import Sequence

from lam.report.stats.rows import Comparison, TableRow

DEAD = ("collapsed", "ignored")
"""Flags of a latent that says nothing, or that the forward model does not listen to: training failed, whatever the knob."""


def usable(comparison: Comparison, row: TableRow) -> bool:
    """Tell whether a row may be ranked: it has a latent, and in no seed is it collapsed or ignored."""
    return row.family != "none" and not dead(comparison, row)


def dead(comparison: Comparison, row: TableRow) -> str:
    """Return which of the flags ``DEAD`` a row has and in how many of its seeds; empty where it has none."""
    found = []
    for name in DEAD:
        flags = {flag.key: flag for run in comparison.runs for flag in run.declarations.flags if flag.name == name}
        raised = sum(any(run.metrics.get(key) == flag.value for key, flag in flags.items()) for run in row.runs.values())
        if raised:
            found.append(name if raised == len(row.runs) else f"{name} in {raised} of {len(row.runs)} seeds")
    return ", ".join(found)


def competing_rows(comparison: Comparison, family: str) -> tuple[list[TableRow], dict[str, str]]:
    """Return a family's rows that may be compared, in the order of the table, and why the others are left out, by name.

    Seeds are those that both reference rows and the family's most often trained usable row have. A row that lacks one of
    them is left out: with other seeds it would be compared by them.
    """
    reasons = {row.name: text for row in comparison.families[family] if (text := dead(comparison, row))}
    rows = [row for row in comparison.families[family] if row.name not in reasons]
    seeds = common_seeds(comparison, rows)
    for row in rows:
        if missing := sorted(seeds - set(row.runs)):
            reasons[row.name] = f"no seed {', '.join(map(str, missing))}"
    return [row for row in rows if row.name not in reasons], reasons


def common_seeds(comparison: Comparison, rows: Sequence[TableRow]) -> set[int]:
    """Return the seeds of the most often trained row that both reference rows have too."""
    if not rows:
        return set()
    most = set(max(rows, key=lambda row: len(row.runs)).runs)
    return most.intersection(*(set(row.runs) for row in comparison.references.values()))


def left_out(comparison: Comparison) -> dict[str, str]:
    """Return why rows are in no comparison of families, by name."""
    return {name: why for family in comparison.families for name, why in competing_rows(comparison, family)[1].items()}
