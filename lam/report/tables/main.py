"""The wide table of a comparison as CSV (everything), Markdown (to read) and plain text (to look at first)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from lam.io import write_text
from lam.report.stats.control import TITLES, key_of, main_label_budget
from lam.report.stats.jackknife import ONE_SOURCE
from lam.report.stats.knobs import swept
from lam.report.stats.measures import ERROR
from lam.report.stats.rows import REFERENCE_ROWS, Comparison
from lam.report.tables.columns import declared_columns, explain, logged_flags, main_columns, text_columns
from lam.report.tables.hull import GUIDE as HULL_GUIDE
from lam.report.tables.hull import drawn_notes, hull_markdown
from lam.report.tables.layout import ALPHA, DASH, DOUBT, Grid, escape_markdown, format_estimate, marks, prose
from lam.report.tables.published import NOTE
from lam.runs.columns import Column

INTRODUCTION = """\
**How to read it.** The reference rows `none` (no latent action) and `identity` (an unconstrained one) are trained like every
row; all others are read between them."""

PROCEDURE = f"""\
{DASH} means that there is no such number.

Families are in alphabetical order; knobs run in numerical order from the tighter end (larger error) to the looser one.
Numbers are means ± half a 95 % interval over {{over}}; where single clips have no value it is over seeds, and with one
seed there is none. Ratios are of means within each seed, their intervals by leaving out groups of clips. Rows share their
clips, so a paired test may separate rows whose intervals overlap. **Bold** is the best bottleneck (reference rows do not
compete) where a paired t test on the same clips and seeds separates it from every other row (p < {ALPHA} in each: to win all
comparisons needs no correction); otherwise it and all rows that it is not told from carry ≈, not distinguishable, with p-values
multiplied by the number of pairs of rows. Rows share what three or five seeds tell of the variance over seeds (moderated t). A
column without marks could not be tested or is no contest.

Leaving out a source takes its clips out of the averages; nothing is fitted again without it: neither probes, nor the quantizers
behind operational bits, nor the model itself. Only seeds repeat all of that, so an interval over clips alone is that of these
very fits."""

CONTROL_NOTE = """\
*actions*, a world model that is given the recorded actions, is a labeled upper bound and does not compete. `control.md` has
all bounds and the guide."""

OVER = {
    "clips": "clips (one seed: this says nothing about other seeds)",
    "clips x seeds": "clips and seeds, crossed",
    "sources": "clips, those of one source taken together (one seed: this says nothing about other seeds)",
    "sources x seeds": "clips and seeds, crossed, clips of one source taken together",
    "seeds": "seeds",
}
KEY = "± half a 95 % interval;  * best, separated from every other row by a paired test;  ≈ not distinguishable from it"

DRAWN = (
    "drawn, gap closed: of z as it passed the channel, a draw where there is a posterior; table.md has numbers of its mean too"
)


def main_grid(comparison: Comparison, brief: bool = False) -> Grid:
    """Return the wide table; the brief one has what fits a terminal."""
    numbers = [column for column in main_columns(comparison) if column.brief or not brief]
    words = [column for column in text_columns(comparison) if column.brief or not brief]
    competing = [row for row in comparison.unlabeled if row.family not in REFERENCE_ROWS]
    marked = {
        column.key: marks({row.name: comparison.replicates(row, column.key) for row in competing}, column.better)
        for column in numbers
    }
    rows = []
    for row in comparison.rows:
        cells = [(text, "") for text in (TITLES.get(row.family, row.family), row.knob or DASH, str(len(row.runs)))]
        for column in numbers:
            cell = comparison.estimate(row, key_of(row, column.key))
            cells.append((format_estimate(cell, column.digits), marked[column.key].get(row.name, "")))
        rows.append([*cells, *((column.text(comparison, row), "") for column in words)])
    headings = [*(doubted(comparison, column) for column in numbers), *(column.heading for column in words)]
    return Grid(["bottleneck", "knob", "seeds", *headings], rows, names=2)


def doubted(comparison: Comparison, column: Column) -> str:
    """Return the heading of a column, marked where a run says that its numbers are not to be trusted."""
    if any(run.metrics.get(column.doubt) == 1 for run in comparison.runs):
        return column.heading + DOUBT
    return column.heading


def write_csv(path: Path, comparison: Comparison) -> Path:
    """Write one line a row: every key with its interval, numbers in full, then flags and published numbers."""
    lines = []
    for row in comparison.rows:
        over = comparison.estimate(row, ERROR).over
        line: dict[str, object] = {"bottleneck": row.family, "knob": row.knob, "seeds": len(row.runs), "interval": over}
        for key in comparison.keys:
            cell = comparison.estimate(row, key)
            line |= {key: cell.value, f"{key}/low": cell.low, f"{key}/high": cell.high}
        lines.append(line | {column.heading: column.text(comparison, row) for column in text_columns(comparison)})
    write_text(path, pd.DataFrame(lines).to_csv(index=False, float_format="%.8g", lineterminator="\n"))
    return path


def write_markdown(path: Path, comparison: Comparison, figures: list[Path]) -> Path:
    """Write the table with where it comes from, how to read it and its figures."""
    parts = [f"# {escape_markdown(comparison.runs[0].setting)}", prose(provenance(comparison)), hull_markdown(comparison)]
    parts += [main_grid(comparison).markdown(), *map(prose, notes(comparison)), prose(guide(comparison)), HULL_GUIDE]
    parts += [prose(text)] if (text := swept(comparison)) else []
    parts += [f"![{figure.stem}]({figure.name})" for figure in figures if figure.suffix == ".png"]
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def main_text(comparison: Comparison) -> str:
    """Return the table for a terminal."""
    return "\n".join([main_grid(comparison, brief=True).text(), KEY, DRAWN, *skipped_notes(comparison)])


def guide(comparison: Comparison) -> str:
    """Return how to read the table: what its columns are, as their evaluations say, and what its intervals are over."""
    budget = main_label_budget(comparison)
    bullets = explain(declared_columns(comparison, "main"), main_columns(comparison), budget)
    warnings = "; ".join(f"`{flag.name}` ({flag.explanation})" for flag in logged_flags(comparison) if flag.explanation)
    if warnings:
        bullets.append(f"- *flags*: {warnings}.")
    overs = sorted({comparison.estimate(row, ERROR).over for row in comparison.rows} - {""})
    procedure = PROCEDURE.format(over="; or ".join(OVER[over] for over in overs) or "nothing")
    return "\n\n".join([INTRODUCTION, "\n".join(bullets), procedure, *([CONTROL_NOTE] if budget else [])])


def provenance(comparison: Comparison) -> str:
    """Return where the numbers come from; no dates, so that the same runs give the same bytes."""
    runs, sources = comparison.runs, comparison.sources
    names = sorted(f"{run.family}@{run.knob}/{run.seed}: {run.config_hash}" for run in runs)
    configs = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    code = ", ".join(f"`{revision}`" for revision in sorted({run.code_revision for run in runs}))
    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in runs}))
    clips = f"{len(sources)} held-out clips of {sources.nunique()} sources" if len(sources) else "no values of single clips"
    return f"{len(runs)} runs, seeds {seeds}; {clips}. Data `{runs[0].data_hash}`, configs `{configs}`, code {code}."


def notes(comparison: Comparison) -> list[str]:
    """Return what a reader must know before the numbers."""
    warnings = []
    missing = [name for name in REFERENCE_ROWS if name not in comparison.references]
    if missing:
        warnings.append(f"Gap closed needs both reference rows; {' and '.join(missing)} has no finished run.")
    elif not comparison.gap_is_open:
        gap = format_estimate(comparison.gap, 3)
        warnings.append(f"Gap closed is undefined: the reference rows are not apart, error of none less identity is {gap}.")
    if comparison.groups.unit == ONE_SOURCE:
        warnings.append(
            "All held-out clips are of one source, which says nothing of others: there are no intervals and no tests."
        )
    warnings += skipped_notes(comparison)
    warnings += drawn_notes(comparison)
    if comparison.unfinished:
        warnings.append(f"Not finished, left out: {', '.join(comparison.unfinished)}.")
    partial = [row.name for row in comparison.rows if len(row.runs) < max(len(one.runs) for one in comparison.rows)]
    if partial:
        warnings.append(f"Fewer seeds than other rows: {', '.join(partial)}.")
    if any(column.heading.startswith("published") for column in text_columns(comparison)):
        warnings.append(NOTE)
    return warnings


def skipped_notes(comparison: Comparison) -> list[str]:
    """Say which evaluations left something out and why, with the rows where it is not so in all."""
    rows: dict[tuple[str, str], set[str]] = {}
    for row in comparison.rows:
        for run in row.runs.values():
            for evaluation, reason in run.skipped.items():
                rows.setdefault((reason, evaluation), set()).add(row.name)
    told: dict[tuple[str, str], list[str]] = {}
    for (reason, evaluation), names in rows.items():
        where = "" if len(names) == len(comparison.rows) else f" ({', '.join(sorted(names))})"
        told.setdefault((reason, where), []).append(evaluation)
    return [f"Not measured by {', '.join(those)}: {reason}{where}." for (reason, where), those in told.items()]
