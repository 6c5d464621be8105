"""The table of published systems as CSV, Markdown and plain text: whose model, beside which bottleneck."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from lam.io import write_text
from lam.report.stats.control import main_label_budget
from lam.report.stats.estimates import Replicates
from lam.report.stats.rows import TableRow
from lam.report.stats.systems import OWN_GAP_CLOSED, Systems
from lam.report.tables.columns import declared_columns, explain, flags, main_columns
from lam.report.tables.layout import DASH, Grid, escape_markdown, format_estimate, marks, prose
from lam.report.tables.main import KEY, provenance
from lam.runs.columns import LABELS, PARAMETERS, Column

TITLE = "Published systems"

GUIDE = f"""\
The bottleneck table asks *which bottleneck*, so all its rows share one pair of heads; this one asks *whose model*. A system is
what a paper puts together: inverse model, layout of the latent, bottleneck and forward model (`experiments/systems/`, where
each file says what is published and what is scaled down), on the same states, with the same steps and optimizer. Its `none` and
`identity` are trained under its own heads: *own gap closed* is read between them and says what its bottleneck lets through,
and the error of its `identity` what its heads can do. *Gap closed* is read between the anchors of the setting, the first two
rows, so it compares whole systems with each other and with the bottleneck table: it is negative where a system predicts
worse than the setting's heads without any latent. Anchors do not compete for **bold** and ≈. {DASH} means that there is no such
number."""

OWN_COLUMNS = (
    Column(
        OWN_GAP_CLOSED,
        "own gap closed",
        better=1,
        explanation="gap closed between `none` and `identity` of the system's own heads",
        order=105,
        brief=True,
    ),
    Column(
        PARAMETERS + "heads",
        "parameters",
        digits=0,
        explanation="of inverse and forward model, without encoder and bottleneck",
        order=106,
        brief=True,
    ),
)
"""Columns that only this table has."""


def systems_grid(systems: Systems, brief: bool = False) -> Grid:
    """Return the table; the brief one has what fits a terminal."""
    columns = [column for column in system_columns(systems) if column.brief or not brief]
    anchors = systems.shared.references.values()
    marked = {
        column.key: marks(
            {row.shared.name: systems.replicates(row, column.key) for row in systems.rows if row.competes}, column.better
        )
        for column in columns
    }
    cells = [
        [
            *((text, "") for text in ("the setting's heads", row.family, DASH, str(len(row.runs)))),
            *((_shown(systems.shared.replicates(row, column.key), column), "") for column in columns),
            (flags(systems.shared, row), ""),
        ]
        for row in anchors
    ]
    for row in systems.rows:
        names = (row.system, row.bottleneck, row.own.knob or DASH, str(len(row.own.runs)))
        numbers = [
            (_shown(systems.replicates(row, column.key), column), marked[column.key].get(row.shared.name, ""))
            for column in columns
        ]
        cells.append([*((text, "") for text in names), *numbers, (flags(systems.shared, row.shared), "")])
    return Grid(["system", "bottleneck", "knob", "seeds", *(column.heading for column in columns), "flags"], cells, names=3)


def system_columns(systems: Systems) -> list[Column]:
    """Return the number columns: those of the wide table, the system's own, and planning where rows act."""
    shared = systems.shared
    budget = main_label_budget(shared)
    acting = [replace(column, key=column.key.replace(LABELS, budget)) for column in declared_columns(shared, "control")]
    acting = [column for column in acting if budget and column.brief and column.key in shared.keys]
    columns = sorted([*main_columns(shared), *OWN_COLUMNS], key=lambda column: column.order) + acting
    return [column for column in columns if any(systems.replicates(row, column.key).seeds for row in systems.rows)]


def systems_guide(systems: Systems) -> str:
    """Return how to read the table."""
    columns = system_columns(systems)
    declared = [*declared_columns(systems.shared, "main"), *OWN_COLUMNS, *declared_columns(systems.shared, "control")]
    return "\n\n".join([GUIDE, "\n".join(explain(declared, columns, main_label_budget(systems.shared)))])


def systems_notes(systems: Systems) -> list[str]:
    """Return what a reader must know before the numbers."""
    notes = []
    for name, comparison in systems.own.items():
        if not comparison.gap_is_open:
            notes.append(f"{name}: its own gap is not open, or an anchor under its heads is missing.")
        if comparison.unfinished:
            notes.append(f"{name}: not finished, left out: {', '.join(comparison.unfinished)}.")
    if not systems.shared.gap_is_open:
        notes.append("The setting's own reference rows are missing or not apart, so gap closed between them is undefined.")
    return notes


def write_systems(folder: Path, systems: Systems | None) -> list[Path]:
    """Write systems.csv, every key with numbers in full, and systems.md; remove both where there is no system."""
    csv, markdown = folder / "systems.csv", folder / "systems.md"
    if systems is None:
        csv.unlink(missing_ok=True)
        markdown.unlink(missing_ok=True)
        return []
    lines = [_line("", row.family, row, systems, {}) for row in systems.shared.references.values()]
    for one in systems.rows:
        own = systems.replicates(one, OWN_GAP_CLOSED)
        lines.append(_line(one.system, one.bottleneck, one.shared, systems, {OWN_GAP_CLOSED: own}))
    write_text(csv, pd.DataFrame(lines).to_csv(index=False, float_format="%.8g", lineterminator="\n"))
    head = [f"# {escape_markdown(systems.shared.runs[0].setting)}, published systems", prose(provenance(systems.shared))]
    parts = [*head, systems_grid(systems).markdown(), *map(prose, systems_notes(systems)), prose(systems_guide(systems))]
    write_text(markdown, "\n\n".join(parts) + "\n")
    return [csv, markdown]


def systems_text(systems: Systems | None) -> str:
    """Return the table for a terminal; empty where there is no system."""
    if systems is None:
        return ""
    return "\n".join([f"{TITLE} (gap closed between the setting's anchors)", systems_grid(systems, brief=True).text(), KEY])


def _line(system: str, bottleneck: str, row: TableRow, systems: Systems, more: dict[str, Replicates]) -> dict[str, object]:
    """Return a line of the CSV."""
    line: dict[str, object] = {"system": system, "bottleneck": bottleneck, "knob": row.knob, "seeds": len(row.runs)}
    for key, one in {**{key: systems.shared.replicates(row, key) for key in systems.shared.keys}, **more}.items():
        cell = one.estimate()
        line |= {key: cell.value, f"{key}/low": cell.low, f"{key}/high": cell.high}
    return line


def _shown(replicates: Replicates, column: Column) -> str:
    """Format a cell."""
    return format_estimate(replicates.estimate(), column.digits)
