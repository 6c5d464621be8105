"""The table of a comparison as CSV (everything), Markdown (to read) and plain text (to look at first)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from lam.report.stats.acting import TITLES, key_of, main_budget
from lam.report.stats.measures import ERROR
from lam.report.stats.rows import ANCHORS, Comparison
from lam.report.tables.columns import columns, text_columns
from lam.report.tables.layout import ALPHA, DASH, Grid, marks, number
from lam.report.tables.published import NOTE

GUIDE = f"""\
**How to read it.** `none` (no latent action) and `identity` (an unconstrained one) are trained like every row; all others
are read between them. *error*: one-step prediction error on held-out clips, 1 = predicting that nothing changes. *gap
closed* = (error of none - error) / (error of none - error of identity), within each seed; it may exceed 1. *bits @5%*:
operational bits a transition, the shortest held-out code of a quantized latent at which the prediction error has risen by 5 %
of the gap between the anchors. *nominal bits*: the held-out entropy of codes or the divergence of a Gaussian from its prior;
*capacity*: what the codebook could carry at most.

*leakage ratio*: error where two clips were spliced over the error where they were not; near 1, the latent copies what comes.
*leakage share*: what part of the next state the latent brought across the cut, 1 - error at the cut / error of repeating the
state before it. *relative to none*: error at the cut over that of `none` there. *transfer ratio*: error with latents that went
through another clip and back, over the error with the clip's own; *its floor* went through the clip itself, *its ceiling*
are latents of a random clip; *normalized* puts the ratio between these two (0 to 1; undefined where random latents do no
harm). *retention*: share of transfers whose prediction stays with the target clip. A latent that says nothing has the best
ratios, so they compare only at matched capacity (`matched.md`).

*gain*: R² (balanced accuracy where a factor is discrete) of a factor from state and latent action together less that from the
state alone; `table.csv` has all factors. *R² of z*: the same factor from the latent action alone, linearly. *auc*: how well a
classifier tells inferred latents from the prior's, 0.5 not at all. *codes used*: share of the codebook that occurred on
held-out clips. *flags*: the latent is `ignored` by the prediction, `copies` the next state, has `collapsed`, or the code
`peeks` at what comes later; `none` is the first and the third by construction. {DASH} means that there is no such number.

Families are in alphabetical order; knobs run in numerical order from the tighter end (larger error) to the looser one.
Numbers are means ± half a 95 % interval over {{over}}; where single clips have no value it is over seeds, and with one
seed there is none. Ratios are of means within each seed, their intervals by leaving out groups of clips. Rows share their
clips, so a paired test may separate rows whose intervals overlap. **Bold** is the best bottleneck (anchors do not compete)
where a paired t test on the same clips and seeds separates it from every other row (p < {ALPHA}, not corrected for the number
of rows); otherwise it and all rows that the test cannot tell from it carry ≈, not distinguishable. A column without marks
could not be tested or is no contest."""

ACTING_GUIDE = """\
*controller error*: unrolled held-out clips with latents that a controller makes of known actions, after training on {budget}
labeled clips; *controller ratio*: over the error with inferred latents. *planning error*: of planned displacements, as a
share of the error of staying (the mean action at every step). *success*: share of simulator episodes that reached their goal.
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


def grid(comparison: Comparison, brief: bool = False) -> Grid:
    """The plain table; the brief one has what fits a terminal."""
    numbers = [column for column in columns(comparison) if column.brief or not brief]
    words = [column for column in text_columns(comparison) if column.brief or not brief]
    competing = [row for row in comparison.unlabeled if row.family not in ANCHORS]
    marked = {
        column.key: marks({row.name: comparison.sample(row, column.key) for row in competing}, column.better)
        for column in numbers
    }
    lines = []
    for row in comparison.rows:
        line = [(text, "") for text in (TITLES.get(row.family, row.family), row.knob or DASH, str(len(row.runs)))]
        for column in numbers:
            cell = comparison.estimate(row, key_of(row, column.key))
            line.append((number(cell, column.digits), marked[column.key].get(row.name, "")))
        lines.append([*line, *((column.text(comparison, row), "") for column in words)])
    return Grid(["bottleneck", "knob", "seeds", *(one.title for one in numbers), *(one.title for one in words)], lines, names=2)


def write_csv(path: Path, comparison: Comparison) -> Path:
    """One line a row: every key with its interval, numbers in full, then flags and published numbers."""
    lines = []
    for row in comparison.rows:
        over = comparison.estimate(row, ERROR).over
        line: dict[str, object] = {"bottleneck": row.family, "knob": row.knob, "seeds": len(row.runs), "interval": over}
        for key in comparison.keys:
            cell = comparison.estimate(row, key)
            line |= {key: cell.value, f"{key}/low": cell.value - cell.half, f"{key}/high": cell.value + cell.half}
        lines.append(line | {column.title: column.text(comparison, row) for column in text_columns(comparison)})
    pd.DataFrame(lines).to_csv(path, index=False, float_format="%.8g", lineterminator="\n")
    return path


def write_markdown(path: Path, comparison: Comparison, figures: list[Path]) -> Path:
    """The table with where it comes from, how to read it and its figures."""
    parts = [f"# {comparison.runs[0].setting}", provenance(comparison), grid(comparison).markdown(), *notes(comparison)]
    parts.append(guide(comparison))
    parts += [f"![{figure.stem}]({figure.name})" for figure in figures if figure.suffix == ".png"]
    path.write_text("\n\n".join(parts) + "\n")
    return path


def plain(comparison: Comparison) -> str:
    """The table for a terminal."""
    return f"{grid(comparison, brief=True).text()}\n{KEY}"


def guide(comparison: Comparison) -> str:
    """How to read the table, with what its intervals are over."""
    overs = sorted({comparison.estimate(row, ERROR).over for row in comparison.rows} - {""})
    said = GUIDE.format(over="; or ".join(OVER[over] for over in overs) or "nothing")
    budget = main_budget(comparison)
    return f"{said}\n\n{ACTING_GUIDE.format(budget=budget)}" if budget else said


def provenance(comparison: Comparison) -> str:
    """Where the numbers come from; no dates, so that the same runs give the same bytes."""
    runs, sources = comparison.runs, comparison.sources
    names = sorted(f"{run.family}@{run.knob}/{run.seed}: {run.config_hash}" for run in runs)
    configs = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    code = ", ".join(f"`{revision}`" for revision in sorted({run.code_revision for run in runs}))
    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in runs}))
    clips = f"{len(sources)} held-out clips of {sources.nunique()} sources" if len(sources) else "no values of single clips"
    return f"{len(runs)} runs, seeds {seeds}; {clips}. Data `{runs[0].data_hash}`, configs `{configs}`, code {code}."


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know before the numbers."""
    found = []
    missing = [name for name in ANCHORS if name not in comparison.anchors]
    if missing:
        found.append(f"Gap closed needs both anchors; {' and '.join(missing)} has no finished run.")
    elif not comparison.gap_is_open:
        gap = number(comparison.gap, 3)
        found.append(f"Gap closed is undefined: the anchors are not apart, error of none less identity is {gap}.")
    if comparison.unfinished:
        found.append(f"Not finished, left out: {', '.join(comparison.unfinished)}.")
    partial = [row.name for row in comparison.rows if len(row.runs) < max(len(one.runs) for one in comparison.rows)]
    if partial:
        found.append(f"Fewer seeds than other rows: {', '.join(partial)}.")
    if any(column.title.startswith("published") for column in text_columns(comparison)):
        found.append(NOTE)
    return found
