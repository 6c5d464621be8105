"""Tables as grids of marked text, and grids as Markdown, plain text and HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from textwrap import wrap
from types import MappingProxyType

import numpy as np

from lam.report.stats.contest import adjust, compare_with_best
from lam.report.stats.estimates import Estimate, Replicates

ALPHA = 0.05
DASH = "–"
BEST, TIED = "best", "tied"
DOUBT = " (!)"
"""End of the heading of a column that is not to be trusted; red in HTML."""


@dataclass(frozen=True)
class Grid:
    """A table to read.

    Attributes:
        headings: Headings of its columns.
        rows: Text of each cell with its mark, BEST, TIED or none.
        names: How many columns at the left name the row.
    """

    headings: list[str]
    rows: list[list[tuple[str, str]]]
    names: int

    def markdown(self) -> str:
        """Return a Markdown table whose source is readable too."""
        headings = [escape_markdown(title) for title in self.headings]
        cells = [[(escape_markdown(text), mark) for text, mark in row] for row in self.rows]
        rows = _padded([headings, *_marked(cells, {BEST: "**{}**", TIED: "{} ≈"})])
        rows.insert(1, ["-" * len(cell) for cell in rows[0]])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def text(self) -> str:
        """Return aligned text for a terminal, headings that are wider than their columns on several lines."""
        cells = _marked(self.rows, {BEST: "{} *", TIED: "{} ≈"})
        widths = [max(map(len, column), default=0) for column in zip(*cells, strict=True)] or [0] * len(self.headings)
        wrapped = [
            wrap(heading, max(width, *map(len, heading.split())), break_long_words=False, break_on_hyphens=False)
            for heading, width in zip(self.headings, widths, strict=True)
        ]
        above = [list(line) for line in zip_longest(*wrapped, fillvalue="")]
        lines = ["  ".join(row).rstrip() for row in _padded([*above, *cells])]
        rule = "-" * max(len(line) for line in lines)
        return "\n".join([*lines[: len(above)], rule, *lines[len(above) :], rule])

    def html(self, caption: str, colors: Mapping[str, str] = MappingProxyType({})) -> str:
        """Return an HTML table in a box that scrolls sideways; the names of a row are its headings.

        Args:
            caption: What it shows.
            colors: Colors at the left of rows, by the first cell's text.
        """
        classes = [' class="doubt"' if title.endswith(DOUBT) else "" for title in self.headings]
        heading = "".join(
            f'<th scope="col"{kind}>{escape(title)}</th>' for title, kind in zip(self.headings, classes, strict=True)
        )
        styles = {BEST: "<strong>{}</strong>", TIED: '{} <span title="not distinguishable from the best">≈</span>', "": "{}"}
        body = []
        above = ""
        for row in self.rows:
            cells = [styles[mark].format(escape(text).replace("± ", "±&nbsp;")) for text, mark in row]
            color = colors.get(row[0][0])
            keys = [f' style="--family:{color}"' if color else "", *[""] * (self.names - 1)]
            names = zip(keys, cells[: self.names], strict=True)
            named = "".join(f'<th scope="row"{key}>{cell}</th>' for key, cell in names)
            rest = "".join(
                f'<td class="no">{DASH}</td>' if cell == DASH else f"<td>{cell}</td>" for cell in cells[self.names :]
            )
            body.append(f"<tr>{named}{rest}</tr>" if cells[0] == above else f'<tr class="first">{named}{rest}</tr>')
            above = cells[0]
        inner = f"<caption>{escape(caption)}</caption><thead><tr>{heading}</tr></thead><tbody>{''.join(body)}</tbody>"
        box = f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0">'
        return f"{box}<table>{inner}</table></div>"


def escape_markdown(text: str) -> str:
    """Return a text of which Markdown, and HTML within it, make nothing but this text, in one line of one cell.

    Names of runs, families and factors may come from elsewhere; underscores within words mean nothing and stay readable.
    """
    text = " ".join(text.split("\n")).replace("\r", " ").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", text)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)


def prose(text: str) -> str:
    """Return a text of Markdown in which names that came from elsewhere cannot be tags of HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _marked(rows: list[list[tuple[str, str]]], styles: dict[str, str]) -> list[list[str]]:
    """Return the text of rows with their marks."""
    return [[styles.get(mark, "{}").format(text) for text, mark in row] for row in rows]


def _padded(cells: list[list[str]]) -> list[list[str]]:
    """Pad every column to its width."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]


def format_estimate(cell: Estimate, digits: int) -> str:
    """Format a mean ± half an interval, or with both ends where they are not as far from it; a dash where there is none."""
    if not cell.defined:
        return DASH
    if cell.ends:
        return f"{cell.value:.{digits}f} ({cell.low:.{digits}f}–{cell.high:.{digits}f})"
    value = f"{round(cell.value, digits) + 0.0:.{digits}f}"  # + 0.0, so that there is no -0.00
    exact = np.isnan(cell.half) or cell.half < 1e-9  # gap closed of reference rows, bits of a codebook: so by definition
    return value if exact else f"{value} ± {cell.half:.{digits}f}"


def marks(replicates: dict[str, Replicates], better: int) -> dict[str, str]:
    """Mark which of several numbers is best, or not distinguishable from it, by name; empty where nothing could be tested.

    A best row is separated from every other one; else rows that it is not separated from, corrected for how many there are, are
    tied with it (``lam.report.stats.contest``).

    Args:
        replicates: What competes.
        better: 1 where more is better, -1 where less is, 0 where it is no contest.
    """
    competing = {name: one for name, one in replicates.items() if one.seeds}
    if better == 0 or len(competing) < 2:
        return {}
    names = list(competing)
    best = int(np.argmax([better * competing[name].means.mean() for name in names]))
    p = compare_with_best(list(competing.values()), best)
    others = np.arange(len(names)) != best
    if (p[others] < ALPHA).all():
        return {names[best]: BEST}
    if np.isnan(p[others]).any() and not (p[others] >= ALPHA).any():
        return {}
    tied = others & (adjust(p) >= ALPHA)
    return dict.fromkeys([names[best], *(name for name, one in zip(names, tied, strict=True) if one)], TIED)
