"""``python -m lam.report runs/<setting>``: tables, figures and page of a setting, the tables printed too."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lam.report import report


def main(arguments: list[str] | None = None) -> None:
    """Writes the report of each folder and prints its tables, then the paths."""
    parser = argparse.ArgumentParser("python -m lam.report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="runs/<setting>")
    parser.add_argument("--figures", action="store_true", help="the figures alone")
    options = parser.parse_args(arguments)
    for folder in options.folders:
        try:
            made = report(folder, only_figures=options.figures)
        except (FileNotFoundError, ValueError) as error:  # a folder that cannot be compared: one line, not a traceback
            sys.exit(f"error: {error}")
        print(made.text, *(str(path) for path in made.files if path.suffix != ".svg"), sep="\n")


if __name__ == "__main__":
    main()
