"""Tables and figures from finished runs: everything that needs more than one run lives here.

Nothing here needs a model: neither torch nor Lightning is imported, only what runs left in their folders is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Report(NamedTuple):
    """Result of a report.

    Attributes:
        text: What the hull says, then the tables as aligned plain text, for a terminal.
        files: Files that were written: the page, tables, figures.
    """

    text: str
    files: list[Path]


def report(folder: Path, only_figures: bool = False, cards: Sequence[Path] = ()) -> Report:
    """Read every finished run of a setting and write its tables, figures and page to ``<folder>/report``.

    Args:
        folder: ``runs/<setting>``, with runs in ``<family>[@<knob>]/seed<k>``.
        only_figures: Leave tables and page as they are.
        cards: Result cards of others, beside those in ``<folder>/cards``.

    Raises:
        FileNotFoundError: There is no finished run.
        ValueError: Runs cannot be compared, a card is of other data, or a file cannot be understood.
    """
    # here, because ``lam --help`` shall not wait for pandas and matplotlib
    from lam.report.figures.catalogue import write_figures
    from lam.report.page import write_page
    from lam.report.stats.rows import Comparison
    from lam.report.stats.runs import read_runs
    from lam.report.stats.systems import read_systems
    from lam.report.tables.control import control_text, write_control
    from lam.report.tables.hull import hull_text, write_hull
    from lam.report.tables.main import main_text, write_csv, write_markdown
    from lam.report.tables.matched import match_all, matched_text, write_matched_csv, write_matched_markdown
    from lam.report.tables.results import write_results
    from lam.report.tables.submitted import read_cards, write_submitted
    from lam.report.tables.systems import systems_text, write_systems

    comparison = Comparison(*read_runs(folder))
    sent = read_cards([*sorted((folder / "cards").glob("*.json")), *cards], comparison)
    target = folder / "report"
    target.mkdir(exist_ok=True)
    figures = write_figures(target, comparison)
    if only_figures:
        return Report("", figures)
    matched = match_all(comparison)
    systems = read_systems(folder, comparison)
    tables = [
        write_csv(target / "table.csv", comparison),
        write_results(target / "results.csv", comparison),
        write_markdown(target / "table.md", comparison, figures),
        write_matched_csv(target / "matched.csv", matched),
        write_matched_markdown(target / "matched.md", comparison, matched),
        *write_hull(target, comparison),
        *write_control(target, comparison),
        *write_systems(target, systems),
        write_page(target / "report.html", comparison, matched, systems, figures),
    ]
    if sent:
        tables.append(write_submitted(target / "submitted.md", comparison, sent))
    drawn = next((path for path in figures if path.name == "hull.png"), None)
    texts = [hull_text(comparison, drawn), main_text(comparison), matched_text(comparison, matched)]
    texts += [control_text(comparison), systems_text(systems)]
    return Report("\n\n".join(text for text in texts if text), [*tables, *figures])
