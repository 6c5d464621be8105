"""The report as one page of HTML that needs no other file: tables, figures, pictures, a reading of each family."""

from __future__ import annotations

import base64
import os
import re
from html import escape
from pathlib import Path
from urllib.parse import quote

from lam.report.figures.catalogue import FIGURES
from lam.report.pictures import pick_acting, pick_pictures
from lam.report.stats.acting import main_budget
from lam.report.stats.rows import Comparison
from lam.report.tables.control import EXPECTED, control_grid, control_notes
from lam.report.tables.control import GUIDE as CONTROL_GUIDE
from lam.report.tables.main import grid, guide, notes, provenance
from lam.report.tables.matched import GUIDE as MATCHED_GUIDE
from lam.report.tables.matched import TITLES, Matched, grids
from lam.report.tables.published_acting import published_grid
from lam.report.tables.ranks import rank_grid, rank_sentence, rank_table
from lam.report.tables.summary import read_family

CSS = """
:root { color-scheme: light }
body { margin: 0 auto; max-width: 76rem; padding: 1rem 1.5rem 4rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.7rem; margin: 1rem 0 .3rem }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid #ccc; padding-bottom: .2rem }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .3rem }
p, figcaption, li { max-width: 50rem }
a { color: #0b4f8a }
code { font-size: .9em; background: #f3f3f3; padding: 0 .2em; overflow-wrap: anywhere }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem }
.scroll { overflow-x: auto; border: 1px solid #ddd; margin: .8rem 0 }
.scroll:focus-visible { outline: 2px solid #0b4f8a }
table { border-collapse: collapse; font-size: .83rem; font-variant-numeric: tabular-nums; white-space: nowrap }
caption { text-align: left; padding: .4rem .6rem; font-weight: 600; white-space: normal }
th, td { padding: .22rem .6rem; text-align: left; border-top: 1px solid #e4e4e4 }
thead th { background: #f3f3f3; vertical-align: bottom; white-space: normal; min-width: 4.5rem }
tbody th { font-weight: 500 }
tr.first > * { border-top: 1px solid #999 }
td.no { color: #6b6b6b }
tbody tr:hover > * { background: #f0f6fb }
th:first-child { position: sticky; left: 0; background: #fafafa }
figure { margin: 1.5rem 0 2.2rem }
figure img { max-width: 100%; height: auto }
.strips img { image-rendering: auto; border: 1px solid #ddd }
figcaption { font-size: .92rem; color: #333; margin-top: .3rem }
.note { border-left: 4px solid #b35c00; padding: .2rem .8rem; background: #fdf6ee }
dt { font-weight: 600 } dd { margin: 0 0 .4rem 1rem }
@media print { .scroll { overflow: visible } table { font-size: .6rem } }
"""


def write_page(path: Path, comparison: Comparison, matched: Matched, figures: list[Path]) -> Path:
    """Writes the page; links to settings are relative to it."""
    title = f"Latent actions compared: {comparison.runs[0].setting}"
    sections = {
        "Table": _table(comparison),
        "At matched capacity": _matched(comparison, matched),
        "Acting": _acting(comparison),
        "Figures": _figures(figures),
        "Pictures": _pictures(comparison),
        "Family by family": _families(comparison, matched),
        "How to read the numbers": _paragraphs(guide(comparison)),
        "Runs": _runs(comparison, path.parent),
    }
    sections = {head: body for head, body in sections.items() if body}
    links = "".join(f'<li><a href="#{_anchor(head)}">{head}</a></li>' for head in sections)
    body = "".join(f'<section id="{_anchor(head)}"><h2>{head}</h2>{inner}</section>' for head, inner in sections.items())
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><header><h1>{escape(title)}</h1>"
        f'{_paragraphs(provenance(comparison))}<nav aria-label="Sections"><ul>{links}</ul></nav></header>'
        f"<main>{body}</main></body></html>\n"
    )
    return path


def _table(comparison: Comparison) -> str:
    """The plain table with what must be known before it."""
    lead = (
        "One row a bottleneck and knob, the anchors `none` and `identity` first. A number is a mean ± half a 95 % interval; "
        "**bold** is the best where a paired test separates it from all others, ≈ marks what it cannot separate. Error is 1 "
        "where a model predicts that nothing changes; gap closed is 0 for none and 1 for identity. Wide tables scroll sideways."
    )
    warnings = "".join(f'<p class="note">{_inline(note)}</p>' for note in notes(comparison))
    return _paragraphs(lead) + warnings + grid(comparison).html("All rows")


def _matched(comparison: Comparison, matched: Matched) -> str:
    """The tables at matched capacity."""
    tables = grids(comparison, matched)
    if not tables:
        return _paragraphs("No family brackets any level: a sweep of at least two knobs around it is needed, and both anchors.")
    return _paragraphs(MATCHED_GUIDE) + "".join(table.html(TITLES[along]) for along, table in tables.items())


def _acting(comparison: Comparison) -> str:
    """The control table with its rank correlations; empty where no row acts."""
    budget = main_budget(comparison)
    if not budget:
        return ""
    table = rank_table(comparison)
    parts = ["".join(_paragraphs(note) for note in control_notes(comparison)), control_grid(comparison, budget).html("Acting")]
    if len(table):
        parts += [rank_grid(table).html("Rank correlations"), _paragraphs(rank_sentence(table))]
    return "".join([*parts, _paragraphs(EXPECTED), published_grid().html("Published, other data"), _paragraphs(CONTROL_GUIDE)])


def _figures(figures: list[Path]) -> str:
    """Figures with captions."""
    found = ""
    for figure in figures:
        if figure.suffix == ".svg":
            image = _image(figure.read_bytes(), "svg+xml", f"Figure {figure.stem}, described below")
            found += (
                f'<figure id="figure-{figure.stem}">{image}<figcaption>{FIGURES[figure.stem].caption}</figcaption></figure>'
            )
    return found


def _pictures(comparison: Comparison) -> str:
    """What runs drew themselves."""
    found = ""
    for one in [*pick_pictures(comparison), *pick_acting(comparison)]:
        said = f"{one.row.name}, seed {one.seed}: {one.said}."
        image = _image(one.path.read_bytes(), one.path.suffix[1:], said)
        found += f'<figure class="strips">{image}<figcaption>{escape(said)}</figcaption></figure>'
    return found


def _families(comparison: Comparison, matched: Matched) -> str:
    """A paragraph a family."""
    over = "one seed, so nothing is said of other seeds; " if len({run.seed for run in comparison.runs}) == 1 else ""
    lead = f"Written from the numbers above ({over}gap closed with its 95 % interval; differences by paired tests, p < 0.05)."
    found = "".join(
        f"<h3>{escape(family)}</h3><p>{escape(' '.join(read_family(comparison, family, matched)))}</p>"
        for family in comparison.families
    )
    return _paragraphs(lead) + found if found else ""


def _runs(comparison: Comparison, folder: Path) -> str:
    """Each row's seeds with links to their settings."""
    found = ""
    for row in [*comparison.rows, *(row for row in comparison.bounds.values() if row not in comparison.rows)]:
        links = []
        for seed, run in row.runs.items():
            target = quote(os.path.relpath(run.path / "config.yaml", folder), safe="/.@")
            links.append(f'<a href="{target}">seed {seed}</a> <code>{escape(run.config_hash)}</code>')
        found += f"<dt>{escape(row.name)}</dt><dd>{', '.join(links)}</dd>"
    return _paragraphs("Settings of every run, with their hash.") + f"<dl>{found}</dl>"


def _image(data: bytes, kind: str, alt: str) -> str:
    """An image inside the page."""
    return f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" alt="{escape(alt)}">'


def _paragraphs(text: str) -> str:
    """Paragraphs of the little Markdown that the guides use."""
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n"))


def _inline(text: str) -> str:
    """Bold, emphasis and code."""
    said = escape(text)
    for pattern, tag in ((r"`(.+?)`", "code"), (r"\*\*(.+?)\*\*", "strong"), (r"\*(.+?)\*", "em")):
        said = re.sub(pattern, rf"<{tag}>\1</{tag}>", said, flags=re.DOTALL)
    return said


def _anchor(head: str) -> str:
    """A heading as the target of a link."""
    return head.lower().replace(" ", "-")
