"""What success is lost to: the ladders that ``lam control ladder`` left in folders of heads, as one table."""

from __future__ import annotations

import pandas as pd

from lam.report.stats.rows import Comparison
from lam.report.tables.layout import DASH, Grid

FILE = "ladder.csv"

GUIDE = """\
One part of acting is replaced by the truth at a time, in the same episodes (`lam control ladder`). *As it is*: the row's own
search. *Small search*: one that the simulator can afford too; the next three differ from it in one thing. *True dynamics*:
candidates run in the simulator, and the model's own cost compares pictures at their end with the goal's. *True cost*: the model
imagines, the simulator's distance is taken of the numbers that are read from what it imagines. *Four times the search* and *all
labels* are compared with the row as it is. Shares have Wilson intervals, differences paired ones over episodes, of one seed."""


def ladder_grid(comparison: Comparison) -> Grid | None:
    """Return the ladders of all rows below each other; None where there are none."""
    cells = []
    for row in [*comparison.unlabeled, *comparison.bounds.values()]:
        for seed, run in row.runs.items():
            for path in sorted(run.path.glob(f"control/*/{FILE}")):
                labels = path.parent.name.removeprefix("clips")
                table = pd.read_csv(path, keep_default_na=False, na_values=[""])
                cells += [[*(row.name, labels, str(seed)), *_line(line)] for _, line in table.iterrows()]
    headings = ["row", "labels", "seed", "replaced", "candidates", "episodes", "success", "strict", "difference", "against"]
    return Grid(headings, [[(text, "") for text in line] for line in cells], names=4) if cells else None


def _line(line: pd.Series) -> list[str]:
    """Return the cells of a rung."""
    share = f"{line['success']:.2f} ({line['success/low']:.2f}–{line['success/high']:.2f})"
    apart = f"{line['difference']:+.2f} ({line['difference/low']:+.2f}–{line['difference/high']:+.2f})"
    compared = isinstance(line["against"], str)
    ends = [apart, line["against"]] if compared else [DASH, DASH]
    return [line["rung"], str(line["candidates"]), str(line["episodes"]), share, f"{line['success_strict']:.2f}", *ends]
