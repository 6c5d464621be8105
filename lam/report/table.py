"""The table of a comparison as CSV (everything), Markdown (to read) and plain text (to look at first)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lam.report.rows import ANCHORS, ERROR, GAP_CLOSED, Comparison, Estimate

ALPHA = 0.05
GAIN, LINEAR = "eval/probe/gain/", "eval/probe/r2_linear/"
MAX_CAUSES = 6
DASH = "–"
BEST, TIED = "best", "tied"


@dataclass(frozen=True)
class Column:
    """A column to read.

    Attributes:
        title: Its head.
        key: The key it shows.
        digits: Decimals.
        better: 1 where more is better, -1 where less is, 0 where it is no contest.
        brief: Whether the terminal shows it too.
    """

    title: str
    key: str
    digits: int = 3
    better: int = 0
    brief: bool = True


GUIDE = f"""\
**How to read it.** `none` (no latent action) and `identity` (an unconstrained one) are trained like every row; all others
are read between them. *error*: one-step prediction error on held-out clips, 1 = predicting that nothing changes. *gap
closed* = (error of none - error) / (error of none - error of identity), within each seed; it may exceed 1. *bits*: nominal
bits a transition, the held-out entropy of codes or the divergence of a Gaussian from its prior; *capacity*: what the
codebook could carry at most. *gain*: R² (balanced accuracy where a cause is discrete) of a cause from state and latent
action together less that from the state alone; `table.csv` has all causes. *R² of z*: the same cause from the latent action
alone, linearly. *codes used*: share of the codebook that occurred on held-out clips. {DASH} means that there is no such
number.

Families are in alphabetical order; knobs run in numerical order from the tighter end (larger error) to the looser one.
Numbers are means ± half a 95 % interval over {{over}}; where single clips have no value it is over seeds, and with one
seed there is none. Rows share their clips, so a paired test may separate rows whose intervals overlap. **Bold** is the
best bottleneck (anchors do not compete) where a paired t test on the same clips and seeds separates it from every other row
(p < {ALPHA}, not corrected for the number of rows); otherwise it and all rows that the test cannot tell from it carry ≈,
not distinguishable. A column without marks could not be tested or is no contest."""

OVER = {
    "clips": "clips (one seed: this says nothing about other seeds)",
    "clips x seeds": "clips and seeds, crossed",
    "sources": "clips, those of one source taken together (one seed: this says nothing about other seeds)",
    "sources x seeds": "clips and seeds, crossed, clips of one source taken together",
    "seeds": "seeds",
}


def probed_causes(comparison: Comparison) -> list[str]:
    """Causes to show: movements of the agent, then of the camera, then others by name, up to six; table.csv has all.

    Recorded actions, ``action_0`` and on, are shown only where no movement is recorded by name: they would say the same.
    """
    causes = [key.removeprefix(GAIN) for key in comparison.keys if key.startswith(GAIN)]
    if any(cause.startswith(("agent_d", "pan_d")) for cause in causes):
        causes = [cause for cause in causes if not cause.startswith("action")]
    return sorted(causes, key=lambda name: (not name.startswith("agent_d"), not name.startswith("pan"), name))[:MAX_CAUSES]


def columns(comparison: Comparison) -> list[Column]:
    """Columns of the readable tables; those that no row has are left out."""
    causes = probed_causes(comparison)
    first = causes[:2]
    shown = [
        Column("error", ERROR, better=-1),
        Column("gap closed", GAP_CLOSED, better=1),
        Column("bits", "eval/rate/bits_nominal", digits=2),
        Column("capacity", "eval/rate/bits_capacity", digits=1, brief=False),
        *(Column(f"gain {cause}", GAIN + cause, digits=2, better=1, brief=cause in first) for cause in causes),
        *(Column(f"R² of z {cause}", LINEAR + cause, digits=2, better=1, brief=False) for cause in first),
        Column("codes used", "eval/usage/codes_used", digits=2),
    ]
    return [column for column in shown if column.key in (ERROR, GAP_CLOSED, *comparison.keys)]


def marks(comparison: Comparison, column: Column) -> dict[str, str]:
    """Which rows are best or not distinguishable from it, by row name; empty where nothing could be tested."""
    rows = {row.name: row for row in comparison.rows if row.family not in ANCHORS}
    values = {name: column.better * comparison.estimate(row, column.key).value for name, row in rows.items()}
    values = {name: value for name, value in values.items() if np.isfinite(value)}
    if column.better == 0 or len(values) < 2:
        return {}
    best = max(values, key=lambda name: values[name])
    p = {name: comparison.p_value(rows[best], rows[name], column.key) for name in values if name != best}
    tied = [name for name in p if p[name] >= ALPHA]
    if tied:
        return dict.fromkeys([best, *tied], TIED)
    return {} if any(np.isnan(value) for value in p.values()) else {best: BEST}


def write_csv(path: Path, comparison: Comparison) -> Path:
    """One line a row: every key with its interval, numbers in full."""
    lines = []
    for row in comparison.rows:
        over = comparison.estimate(row, ERROR).over
        line = {"bottleneck": row.family, "knob": row.knob, "seeds": len(row.runs), "interval": over}
        for key in (GAP_CLOSED, *comparison.keys):
            cell = comparison.estimate(row, key)
            line |= {key: cell.value, f"{key}/low": cell.value - cell.half, f"{key}/high": cell.value + cell.half}
        lines.append(line)
    pd.DataFrame(lines).to_csv(path, index=False, float_format="%.8g", lineterminator="\n")
    return path


def write_markdown(path: Path, comparison: Comparison, figures: list[Path]) -> Path:
    """The table with where it comes from, how to read it and its figures."""
    shown = columns(comparison)
    cells = _cells(comparison, shown, {BEST: "**{}**", TIED: "{} ≈"})
    body = [f"| {' | '.join(line)} |" for line in _aligned(cells)]
    body.insert(1, "| " + " | ".join("-" * len(cell) for cell in _aligned(cells)[0]) + " |")
    overs = sorted({comparison.estimate(row, ERROR).over for row in comparison.rows} - {""})
    parts = [f"# {comparison.runs[0].setting}", _provenance(comparison), "\n".join(body), *_notes(comparison)]
    parts.append(GUIDE.format(over="; or ".join(OVER[over] for over in overs) or "nothing"))
    parts += [f"![{figure.stem}]({figure.name})" for figure in figures if figure.suffix == ".png"]
    path.write_text("\n\n".join(parts) + "\n")
    return path


def plain(comparison: Comparison) -> str:
    """The table for a terminal."""
    shown = [column for column in columns(comparison) if column.brief]
    lines = _aligned(_cells(comparison, shown, {BEST: "{} *", TIED: "{} ≈"}))
    rule = "-" * len("  ".join(lines[0]))
    key = "± half a 95 % interval;  * best, separated from every other row by a paired test;  ≈ not distinguishable from it"
    return "\n".join(["  ".join(lines[0]), rule, *("  ".join(line).rstrip() for line in lines[1:]), rule, key])


def _cells(comparison: Comparison, shown: list[Column], styles: dict[str, str]) -> list[list[str]]:
    """Head and lines as text."""
    head = ["bottleneck", "knob", "seeds", *(column.title for column in shown)]
    marked = {column.key: marks(comparison, column) for column in shown}
    lines = [head]
    for row in comparison.rows:
        line = [row.family, row.knob or DASH, str(len(row.runs))]
        for column in shown:
            style = styles.get(marked[column.key].get(row.name, ""), "{}")
            line.append(style.format(_cell(comparison.estimate(row, column.key), column.digits)))
        lines.append(line)
    return lines


def _cell(cell: Estimate, digits: int) -> str:
    """Mean ± half an interval."""
    if np.isnan(cell.value):
        return DASH
    value = f"{round(cell.value, digits) + 0.0:.{digits}f}"  # + 0.0, so that there is no -0.00
    exact = np.isnan(cell.half) or cell.half < 1e-9  # gap closed of the anchors, bits of a codebook: so by definition
    return value if exact else f"{value} ± {cell.half:.{digits}f}"


def _aligned(cells: list[list[str]]) -> list[list[str]]:
    """Pads every column to its width, so that the source is readable too."""
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells]


def _provenance(comparison: Comparison) -> str:
    """Where the numbers come from; no dates, so that the same runs give the same bytes."""
    runs = comparison.runs
    names = sorted(f"{run.family}@{run.knob}/{run.seed}: {run.config_hash}" for run in runs)
    configs = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    code = ", ".join(f"`{revision}`" for revision in sorted({run.code_revision for run in runs}))
    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in runs}))
    sources = pd.concat([run.sources for run in runs])
    sources = sources[~sources.index.duplicated()]
    clips = f"{len(sources)} held-out clips of {sources.nunique()} sources" if len(sources) else "no values of single clips"
    return f"{len(runs)} runs, seeds {seeds}; {clips}. Data `{runs[0].data_hash}`, configs `{configs}`, code {code}."


def _notes(comparison: Comparison) -> list[str]:
    """What a reader must know before the numbers."""
    notes = []
    missing = [name for name in ANCHORS if name not in comparison.anchors]
    if missing:
        notes.append(f"Gap closed needs both anchors; {' and '.join(missing)} has no finished run.")
    elif not comparison.gap_is_open:
        gap = _cell(comparison.gap, 3)
        notes.append(f"Gap closed is undefined: the anchors are not apart, error of none less identity is {gap}.")
    if comparison.unfinished:
        notes.append(f"Not finished, left out: {', '.join(comparison.unfinished)}.")
    partial = [row.name for row in comparison.rows if len(row.runs) < max(len(one.runs) for one in comparison.rows)]
    if partial:
        notes.append(f"Fewer seeds than other rows: {', '.join(partial)}.")
    return notes
