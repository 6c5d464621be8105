"""Tables as grids of marked text, and grids as Markdown, plain text and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np

from lam.report.stats.rows import paired_p_value
from lam.report.stats.sample import Estimate, Sample

ALPHA = 0.05
DASH = "–"
BEST, TIED = "best", "tied"


@dataclass(frozen=True)
class Grid:
    """A table to read.

    Attributes:
        head: Titles of its columns.
        lines: Text of each cell with its mark, BEST, TIED or none.
        names: How many columns at the left name the line.
    """

    head: list[str]
    lines: list[list[tuple[str, str]]]
    names: int

    def markdown(self) -> str:
        """As a Markdown table whose source is readable too."""
        lines = self._aligned({BEST: "**{}**", TIED: "{} ≈"})
        lines.insert(1, ["-" * len(cell) for cell in lines[0]])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def text(self) -> str:
        """As aligned text for a terminal."""
        lines = ["  ".join(line).rstrip() for line in self._aligned({BEST: "{} *", TIED: "{} ≈"})]
        rule = "-" * max(len(line) for line in lines)
        return "\n".join([lines[0], rule, *lines[1:], rule])

    def html(self, caption: str) -> str:
        """As an HTML table in a box that scrolls sideways; the names of a line are its heads."""
        head = "".join(f'<th scope="col">{escape(title)}</th>' for title in self.head)
        styles = {BEST: "<strong>{}</strong>", TIED: '{} <span title="not distinguishable from the best">≈</span>', "": "{}"}
        body = []
        above = ""
        for line in self.lines:
            cells = [styles[mark].format(escape(text)) for text, mark in line]
            named = "".join(f'<th scope="row">{cell}</th>' for cell in cells[: self.names])
            rest = "".join(
                f'<td class="no">{DASH}</td>' if cell == DASH else f"<td>{cell}</td>" for cell in cells[self.names :]
            )
            body.append(f"<tr>{named}{rest}</tr>" if cells[0] == above else f'<tr class="first">{named}{rest}</tr>')
            above = cells[0]
        inner = f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
        box = f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0">'
        return f"{box}<table>{inner}</table></div>"

    def _aligned(self, styles: dict[str, str]) -> list[list[str]]:
        """Text of head and lines with marks, every column padded to its width."""
        cells = [self.head, *([styles.get(mark, "{}").format(text) for text, mark in line] for line in self.lines)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(self.head))]
        return [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells]


def number(cell: Estimate, digits: int) -> str:
    """Mean ± half an interval, or a dash."""
    if not cell.defined:
        return DASH
    value = f"{round(cell.value, digits) + 0.0:.{digits}f}"  # + 0.0, so that there is no -0.00
    exact = np.isnan(cell.half) or cell.half < 1e-9  # gap closed of the anchors, bits of a codebook: so by definition
    return value if exact else f"{value} ± {cell.half:.{digits}f}"


def marks(samples: dict[str, Sample], better: int) -> dict[str, str]:
    """Which of several numbers is best, or not distinguishable from it, by name; empty where nothing could be tested.

    Args:
        samples: What competes.
        better: 1 where more is better, -1 where less is, 0 where it is no contest.
    """
    values = {name: better * float(sample.means.mean()) for name, sample in samples.items() if sample.seeds}
    if better == 0 or len(values) < 2:
        return {}
    best = max(values, key=lambda name: values[name])
    p = {name: paired_p_value(samples[best], samples[name]) for name in values if name != best}
    tied = [name for name in p if p[name] >= ALPHA]
    if tied:
        return dict.fromkeys([best, *tied], TIED)
    return {} if any(np.isnan(value) for value in p.values()) else {best: BEST}
