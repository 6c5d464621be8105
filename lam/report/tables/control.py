"""The control table: how well rows serve to act through, between their bounds, as CSV, Markdown and plain text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lam.report.stats.acting import Line, budgets, control_lines, main_budget
from lam.report.stats.measures import CLOSED_LOOP, CONTROLLER, PLANNING
from lam.report.stats.rows import Comparison
from lam.report.tables.columns import Column
from lam.report.tables.layout import DASH, Grid, marks, number
from lam.report.tables.main import KEY, provenance
from lam.report.tables.published_acting import PUSHT, SOURCE, published_grid
from lam.report.tables.ranks import rank_grid, rank_sentence, rank_table

COLUMNS = (
    Column("controller error", CONTROLLER + "error", better=-1),
    Column("with codes classified", CONTROLLER + "error_codes", better=-1, brief=False),
    Column("inferred", CONTROLLER + "inferred", brief=False),
    Column("ratio", CONTROLLER + "ratio", digits=2),
    Column("ratio, blind", CONTROLLER + "ratio_blind", digits=2, brief=False),
    Column("movement, blind", CONTROLLER + "movement_blind", digits=2, brief=False),
    Column("planning error", PLANNING + "error", better=-1),
    Column("planning, blind", PLANNING + "error_blind", brief=False),
    Column("planning, shuffled", PLANNING + "error_shuffled", brief=False),
    Column("planning, in latents", PLANNING + "error_latent", better=-1, brief=False),
    Column("planning / actions", PLANNING + "relative", digits=2),
    Column("ATE", PLANNING + "ate", better=-1, brief=False),
    Column("RPE", PLANNING + "rpe", better=-1, brief=False),
    Column("success", CLOSED_LOOP + "success", better=1),
    Column("success / actions", CLOSED_LOOP + "relative", digits=2),
    Column("crashed", CLOSED_LOOP + "crashed", brief=False),
)
"""Columns of the control table; their keys lack the label budget."""

GUIDE = f"""\
**How to read it.** World models are trained without actions. Then small heads learn to translate between a frozen model's
latents and known actions, from the same few labeled clips for every row. Of held-out clips, unrolled from their first state:
*controller error* with the latents that the controller makes of the recorded actions (1 = the last state repeated),
*inferred* with those of the inverse model, which has seen the answer, *ratio* the first over the second; *with codes
classified* the controller picks codes instead of regressing latents. A *blind* controller does not see the state: where poses
and cameras vary the same action is another latent each time, so it should fail. *movement* is how far its last state is from
the first, as a share of how far inferred latents take it. A latent that is ignored has ratio and movement 1 and helps nobody.

*planning error*: a plan is searched for toward the last state of a held-out clip; |sum of its actions - sum of the recorded
ones|, added over the numbers of an action, in recorded units. *ATE* and *RPE*: root mean square distance between both paths,
and between single steps. *planning, blind*: through the blind controller; *shuffled*: with each candidate at the cost of
another, so no better than staying. *planning, in latents*: planned over latents of the prior, without a controller, and read
back as actions by the reverse head. These three are over fewer episodes. *success*: share of simulator episodes that reached
their goal, replanning on the way; *crashed*: share in which the simulator failed, which count as not reached. *planning /
actions* and *success / actions* are ratios to the model of recorded actions, of means within each seed.

The first lines bound what can be expected. *stay*: the mean action at every step. *chance*: random actions, spread as
recorded ones. *cloning*: actions from start and goal, learned from the same labels without a world model. These are the same
in all rows of a seed, so their numbers are means over the rows. *true simulator*: the same planner with nothing to learn.
*actions*: a world model of the same size, data and steps that is given every recorded action, so a labeled upper bound. None
of them competes.

What to expect of latent actions ({SOURCE}): controller error is U-shaped over capacity (too tight says too little, too loose
says what no controller can know) and the ratio rises with it; planning error does not follow that U but the error with
inferred latents, with a rank correlation of 0.82 on DROID and 0.87 on RECON against 0.52 and 0.54 with controller error, each
over eight rows. Our coefficients are Spearman's over rows, the anchor `none` and bounds left out, with Bonett and Wright's
interval (2000); whether two can be told apart is read from the interval of their difference (Zou, 2007).

Numbers are means ± half a 95 % interval over held-out clips (success: over episodes) and seeds, as in `table.md`; where
single clips have no value (movement) it is over seeds. Where all of n episodes ended alike no interval is shown, and 3 / n is
still possible. {DASH} means that there is no such number."""

EXPECTED = (
    f"Published ({SOURCE}): other data (DROID's arm, meters), other errors (LPIPS of decoded frames), one model a line and no "
    "intervals. Compare the order, not the numbers."
)


def control_columns(lines: list[Line]) -> list[Column]:
    """Columns that some line has."""
    return [column for column in COLUMNS if any(line.sample(column.key).seeds for line in lines)]


def control_grid(comparison: Comparison, budget: str, brief: bool = False) -> Grid:
    """The table at a label budget; the brief one has what fits a terminal."""
    lines = control_lines(comparison, budget)
    shown = [column for column in control_columns(lines) if column.brief or not brief]
    marked = {one.key: marks({_name(n): n.sample(one.key) for n in lines if n.competes}, one.better) for one in shown}
    cells = []
    for line in lines:
        cell = [(line.name, ""), (line.knob or DASH, ""), (str(line.seeds), "")]
        for one in shown:
            mark = marked[one.key].get(_name(line), "")
            cell.append((number(line.sample(one.key).estimate(), one.digits), mark))
        cells.append(cell)
    return Grid(["acting with", "knob", "seeds", *(one.title for one in shown)], cells, names=2)


def control_notes(comparison: Comparison) -> list[str]:
    """At which budget the table is, and who is not in it."""
    budget, found = main_budget(comparison), budgets(comparison)
    others = ", ".join(f"{one} ({rows} rows)" for one, rows in found.items() if one != budget)
    said = [f"Heads learned from {budget} labeled clips" + (f"; also, in `control.csv`, from {others}." if others else ".")]
    known = {_name(line) for line in control_lines(comparison, budget)}
    absent = [row.name for row in comparison.unlabeled if row.name not in known]
    if absent:
        said.append(f"No controllers with this budget: {', '.join(absent)}.")
    if comparison.runs[0].setting.startswith("pusht"):
        said.append(PUSHT)
    return said


def write_control(folder: Path, comparison: Comparison) -> list[Path]:
    """Writes control.csv, every budget with numbers in full, and control.md; removes both where no row acts."""
    csv, markdown = folder / "control.csv", folder / "control.md"
    budget = main_budget(comparison)
    if not budget:
        csv.unlink(missing_ok=True)
        markdown.unlink(missing_ok=True)
        return []
    lines = []
    for one in budgets(comparison):
        for line in control_lines(comparison, one):
            found: dict[str, object] = {"labels": one, "acting with": line.name, "knob": line.knob, "seeds": line.seeds}
            for column in COLUMNS:
                cell = line.sample(column.key).estimate()
                ends = {"": cell.value, "/low": cell.value - cell.half, "/high": cell.value + cell.half}
                found |= {column.key + end: value for end, value in ends.items()}
            lines.append(found)
    pd.DataFrame(lines).dropna(axis=1, how="all").to_csv(csv, index=False, float_format="%.8g", lineterminator="\n")
    table = rank_table(comparison)
    parts = [f"# {comparison.runs[0].setting}, acting", provenance(comparison), control_grid(comparison, budget).markdown()]
    parts += control_notes(comparison)
    if len(table):
        parts += ["## Rank correlations", rank_grid(table).markdown(), rank_sentence(table)]
    parts += ["## Published, other data", EXPECTED, published_grid().markdown(), GUIDE]
    markdown.write_text("\n\n".join(parts) + "\n")
    return [csv, markdown]


def plain_control(comparison: Comparison) -> str:
    """For a terminal; empty where no row acts."""
    budget = main_budget(comparison)
    if not budget:
        return ""
    table = rank_table(comparison)
    parts = [f"Acting, {budget} labeled clips", control_grid(comparison, budget, brief=True).text(), KEY]
    return "\n".join([*parts, rank_sentence(table)] if len(table) else parts)


def _name(line: Line) -> str:
    """Family and knob."""
    return f"{line.name}@{line.knob}" if line.knob else line.name
