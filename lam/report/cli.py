"""``lam report``: tables, figures and one page of the runs of a setting, or a table over several settings."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Write the report of each folder and print its tables, then the paths; with ``series`` or ``usefulness`` first, theirs.

    Args:
        arguments: Words after ``lam report``.

    Raises:
        FileNotFoundError: A folder has no finished run.
        ValueError: Runs cannot be compared, or a file cannot be understood.
    """
    others = {"series": series, "usefulness": usefulness}
    if arguments[:1] and arguments[0] in others:
        others[arguments[0]](arguments[1:])
        return
    from lam.report import report

    parser = argparse.ArgumentParser(
        prog="lam report",
        description="Write tables, figures and one page of the finished runs of a setting to FOLDER/report; print the tables.",
        epilog="lam report series OUT FOLDERS draws the same rows over worlds that differ in one or two parameters; "
        "lam report usefulness OUT FOLDERS ranks metrics by how well they foretell acting.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="runs/<setting>")
    parser.add_argument("--figures", action="store_true", help="write the figures alone")
    parser.add_argument("--cards", nargs="+", type=Path, default=[], help="result cards of others")
    options = parser.parse_args(arguments)
    for folder in options.folders:
        made = report(folder, only_figures=options.figures, cards=options.cards)
        print(made.text, *(str(path) for path in made.files if path.suffix not in (".svg", ".pdf")), sep="\n")


def series(arguments: list[str]) -> None:
    """Write OUT.csv, OUT.png, OUT.svg and OUT.pdf of a series of worlds, and print their paths.

    Args:
        arguments: Words after ``lam report series``.

    Raises:
        FileNotFoundError: A folder has no finished run.
        ValueError: Worlds do not differ in one or two numbers, or their runs do not fit to their data.
    """
    from lam.report.figures.series import KEYS, write_series

    parser = argparse.ArgumentParser(
        prog="lam report series",
        description="Draw the same rows over several worlds, against the one or two parameters in which the worlds differ.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="where to write, without an ending")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="runs/<setting>, one of each world")
    parser.add_argument("--keys", nargs="+", default=list(KEYS), help="keys of the numbers to draw")
    options = parser.parse_args(arguments)
    print(*write_series(options.out, options.folders, tuple(options.keys)), sep="\n")


def usefulness(arguments: list[str]) -> None:
    """Write OUT.csv, OUT.md, OUT.png, OUT.svg and OUT.pdf of what each metric foretells over settings; print the paths.

    Args:
        arguments: Words after ``lam report usefulness``.

    Raises:
        FileNotFoundError: A folder has no finished run.
        ValueError: No row acts, or a file cannot be understood.
    """
    parser = argparse.ArgumentParser(
        prog="lam report usefulness",
        description="Correlate every metric with planning error, controller error and success, over all rows of the settings.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="where to write, without an ending")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="runs/<setting>")
    options = parser.parse_args(arguments)
    from lam.report.figures.usefulness import write_usefulness
    from lam.report.stats.rows import Comparison
    from lam.report.stats.runs import read_runs

    comparisons = [Comparison(*read_runs(folder)) for folder in options.folders]
    print(*write_usefulness(options.out, comparisons), sep="\n")
