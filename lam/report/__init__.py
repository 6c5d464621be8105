"""Tables and figures from finished runs: everything that needs more than one run lives here."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Report(NamedTuple):
    """What a report left behind.

    Attributes:
        text: The table as aligned plain text, for a terminal.
        files: What was written: table.csv, table.md, then the figures.
    """

    text: str
    files: list[Path]


def report(folder: Path) -> Report:
    """Reads every finished run of a setting and writes its table and figures to ``<folder>/report``.

    Args:
        folder: ``runs/<setting>``, with runs in ``<family>[@<knob>]/seed<k>``.
    """
    from lam.report.figures import (
        write_figures,  # here, because ``lam --help`` shall not wait for pandas and matplotlib
    )
    from lam.report.rows import Comparison
    from lam.report.runs import read_runs
    from lam.report.table import plain, write_csv, write_markdown

    comparison = Comparison(*read_runs(folder))
    target = folder / "report"
    target.mkdir(exist_ok=True)
    figures = write_figures(target, comparison)
    files = [write_csv(target / "table.csv", comparison), write_markdown(target / "table.md", comparison, figures)]
    return Report(plain(comparison), [*files, *figures])
