"""Figures on the page, with what they show and how to read them folded under the long ones."""

from __future__ import annotations

from pathlib import Path

from lam.report.figures.catalogue import FIGURES
from lam.report.page.markup import embed, folded, paragraphs
from lam.report.page.style import follow_the_reader


def figure_html(figure: Path, knobs: str) -> str:
    """Return an SVG figure with its caption folded under it, and which knobs its rows have."""
    drawing = FIGURES[figure.stem]
    svg = follow_the_reader(figure.read_text())
    image = embed(svg.encode(), "svg+xml", f"{drawing.title}, described below")
    text = paragraphs("\n\n".join([drawing.caption, *([knobs] if knobs else [])]))
    caption = folded("How to read it", f"{text}<p>As a file: {_links(figure)}.</p>")
    return f'<figure id="figure-{figure.stem}">{image}<figcaption>{caption}</figcaption></figure>'


def figures_html(figures: list[Path], knobs: str, without: str = "hull") -> str:
    """Return the figures that stand in a section of their own."""
    return "".join(figure_html(figure, knobs) for figure in figures if figure.suffix == ".svg" and figure.stem != without)


def _links(figure: Path) -> str:
    """Link to the files of a figure, which lie beside the page."""
    return ", ".join(f'<a href="{figure.stem}.{kind}">{kind.upper()}</a>' for kind in ("png", "svg", "pdf"))
