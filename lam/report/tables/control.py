"""The control table: how well rows serve to act through, between their bounds, as CSV, Markdown and plain text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lam.io import write_text
from lam.report.stats.control import control_rows, label_budgets, main_label_budget
from lam.report.stats.rows import Comparison
from lam.report.tables.columns import declared_columns, explain
from lam.report.tables.episodes import episode_notes
from lam.report.tables.ladder import GUIDE as LADDER
from lam.report.tables.ladder import ladder_grid
from lam.report.tables.layout import DASH, Grid, escape_markdown, format_estimate, marks, prose
from lam.report.tables.main import KEY, provenance
from lam.report.tables.published import CONTROL_SOURCE, PUSHT, published_control_grid
from lam.report.tables.ranks import rank_grid, rank_sentence, rank_table
from lam.report.tables.usefulness import GUIDE as FORETOLD
from lam.report.tables.usefulness import usefulness, usefulness_grid
from lam.runs.columns import LABELS, Column

INTRODUCTION = """\
**How to read it.** World models are trained without actions. Then small heads learn to translate between a frozen model's
latents and known actions, from the same few labeled clips for every row. Errors of controllers are of held-out clips, unrolled
from their first state."""

BOUNDS_GUIDE = f"""\
The first lines bound what can be expected. *stay*: the mean action at every step. *chance*: random actions, spread as
recorded ones. *cloning*: actions from start and goal, learned from the same labels without a world model. These are the same
in all rows of a seed, so their numbers are means over the rows. *true simulator*: the same planner with nothing to learn.
*actions*: a world model of the same size, data and steps that is given every recorded action, so a labeled upper bound. None
of them competes.

What to expect of latent actions ({CONTROL_SOURCE}): controller error is U-shaped over capacity (too tight says too little, too
loose says what no controller can know) and the ratio rises with it; planning error does not follow that U but the error with
inferred latents, with a rank correlation of 0.82 on DROID and 0.87 on RECON against 0.52 and 0.54 with controller error, each
over eight rows. Our coefficients are Spearman's over rows, without the reference row `none`, bounds and rows whose latent
says nothing. A row's numbers are uncertain themselves: a coefficient is the mean over draws of them (*of their means* is what
it would be without), and its interval has the rows' small number, the clips and the seeds in it. Whether two can be told apart
is read from the interval of their difference (Zou, 2007). The published ones have the interval of Bonett and Wright (2000),
which knows of the number of rows alone.

Numbers are means ± half a 95 % interval over held-out clips (success: over episodes) and seeds, as in `table.md`; where
single clips have no value (movement) it is over seeds. Shares of episodes have both ends of a Wilson interval in parentheses,
with as many trials as their standard error over episodes and seeds is worth. {DASH} means that there is no such number."""

EXPECTED = (
    f"Published ({CONTROL_SOURCE}): other data (DROID's arm, meters), other errors (LPIPS of decoded frames), one model a line "
    "and no intervals. Compare the order, not the numbers."
)


def control_grid(comparison: Comparison, budget: str, brief: bool = False) -> Grid:
    """Return the table at a label budget; the brief one has what fits a terminal."""
    rows = control_rows(comparison, budget)
    columns = [column for column in _columns(comparison, budget) if column.brief or not brief]
    marked = {
        one.heading: marks({row.name: row.replicates(_stem(one)) for row in rows if row.competes}, one.better)
        for one in columns
    }
    cells = []
    for row in rows:
        line = [(row.family, ""), (row.knob or DASH, ""), (str(row.seeds), "")]
        for one in columns:
            cell = row.replicates(_stem(one)).estimate()
            line.append((format_estimate(cell, one.digits), marked[one.heading].get(row.name, "")))
        cells.append(line)
    return Grid(["acting with", "knob", "seeds", *(one.heading for one in columns)], cells, names=2)


def control_guide(comparison: Comparison) -> str:
    """Return how to read the table."""
    columns = _columns(comparison, main_label_budget(comparison))
    return "\n\n".join([INTRODUCTION, "\n".join(explain(columns, columns)), BOUNDS_GUIDE])


def control_notes(comparison: Comparison) -> list[str]:
    """Return at which budget the table is, and which rows are not in it."""
    budget, rows_with = main_label_budget(comparison), label_budgets(comparison)
    others = ", ".join(f"{one} ({rows} rows)" for one, rows in rows_with.items() if one != budget)
    notes = [f"Heads learned from {budget} labeled clips" + (f"; also, in `control.csv`, from {others}." if others else ".")]
    acting = {row.name for row in control_rows(comparison, budget)}
    absent = [row.name for row in comparison.unlabeled if row.name not in acting]
    if absent:
        notes.append(f"No controllers with this budget: {', '.join(absent)}.")
    notes += episode_notes(comparison, budget)
    if comparison.runs[0].setting.startswith("pusht"):
        notes.append(PUSHT)
    return notes


def write_control(folder: Path, comparison: Comparison) -> list[Path]:
    """Write control.csv, every budget with numbers in full, and control.md; remove both where no row acts."""
    csv, markdown = folder / "control.csv", folder / "control.md"
    budget = main_label_budget(comparison)
    if not budget:
        csv.unlink(missing_ok=True)
        markdown.unlink(missing_ok=True)
        return []
    lines = []
    for one in label_budgets(comparison):
        for row in control_rows(comparison, one):
            line: dict[str, object] = {"labels": one, "acting with": row.family, "knob": row.knob, "seeds": row.seeds}
            for column in declared_columns(comparison, "control"):
                cell = row.replicates(_stem(column)).estimate()
                ends = {"": cell.value, "/low": cell.low, "/high": cell.high}
                line |= {_stem(column) + end: value for end, value in ends.items()}
            lines.append(line)
    write_text(csv, pd.DataFrame(lines).dropna(axis=1, how="all").to_csv(index=False, float_format="%.8g", lineterminator="\n"))
    table = rank_table(comparison)
    parts = [
        f"# {escape_markdown(comparison.runs[0].setting)}, acting",
        prose(provenance(comparison)),
        control_grid(comparison, budget).markdown(),
    ]
    parts += control_notes(comparison)
    if ladders := ladder_grid(comparison):
        parts += ["## What success is lost to", ladders.markdown(), LADDER]
    if table:
        parts += ["## Rank correlations", rank_grid(table).markdown(), rank_sentence(table)]
    if foretold := usefulness([comparison]):
        parts += ["## What each metric foretells", usefulness_grid(foretold).markdown(), FORETOLD]
    parts += ["## Published, other data", EXPECTED, published_control_grid().markdown(), prose(control_guide(comparison))]
    write_text(markdown, "\n\n".join(parts) + "\n")
    return [csv, markdown]


def control_text(comparison: Comparison) -> str:
    """Return the table for a terminal; empty where no row acts."""
    budget = main_label_budget(comparison)
    if not budget:
        return ""
    table = rank_table(comparison)
    parts = [f"Acting, {budget} labeled clips", control_grid(comparison, budget, brief=True).text(), KEY]
    return "\n".join([*parts, rank_sentence(table)] if table else parts)


def _columns(comparison: Comparison, budget: str) -> list[Column]:
    """Return the columns that some row has."""
    rows = control_rows(comparison, budget)
    columns = declared_columns(comparison, "control")
    return [column for column in columns if any(row.replicates(_stem(column)).seeds for row in rows)]


def _stem(column: Column) -> str:
    """Return a column's key without its label budget."""
    return column.key.removesuffix("@" + LABELS)
