"""The tables of a setting as one small CSV that documents cite and a repository keeps: what is shown, with intervals."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lam.io import write_text
from lam.report.stats.control import key_of, main_label_budget
from lam.report.stats.rows import Comparison
from lam.report.tables.columns import flags, main_columns
from lam.report.tables.main import provenance

DIGITS = 4
"""Significant digits of a number."""


def write_results(path: Path, comparison: Comparison) -> Path:
    """Write the columns of the wide table, one line a row, each with half its 95 % interval; the first line is provenance.

    Shares of episodes have both ends of their interval too, from which they are not as far.

    Read it with ``pandas.read_csv(path, comment="#")``.
    """
    columns = main_columns(comparison)
    lines = []
    for row in comparison.rows:
        line: dict[str, object] = {"bottleneck": row.family, "knob": row.knob, "seeds": len(row.runs)}
        for column in columns:
            cell = comparison.estimate(row, key_of(row, column.key))
            line |= {column.key: cell.value, f"{column.key} ±": cell.half}
            if cell.ends:
                line |= {f"{column.key} low": cell.low, f"{column.key} high": cell.high}
        lines.append(line | {"flags": flags(comparison, row)})
    budget = main_label_budget(comparison)
    head = f"# {comparison.runs[0].setting}: {provenance(comparison)}" + (f" Labels: {budget} clips." if budget else "")
    table = pd.DataFrame(lines).dropna(axis=1, how="all").to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
    write_text(path, f"{head}\n{table}")
    return path
