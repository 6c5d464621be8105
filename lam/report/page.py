"""The report as one page of HTML that needs no other file: tables, figures, pictures, a reading of each family."""

from __future__ import annotations

import base64
import os
import re
from html import escape
from pathlib import Path
from urllib.parse import quote

from lam.io import write_text
from lam.report.figures.catalogue import FIGURES
from lam.report.pictures import pick_control_pictures, pick_pictures
from lam.report.stats.control import main_label_budget
from lam.report.stats.hull import family_hulls
from lam.report.stats.matched import Match
from lam.report.stats.rows import Comparison
from lam.report.stats.systems import Systems
from lam.report.tables.control import EXPECTED, control_grid, control_guide, control_notes
from lam.report.tables.hull import GUIDE as HULL_GUIDE
from lam.report.tables.hull import hull_grid, hull_notes, hull_sentence
from lam.report.tables.main import guide, main_grid, notes, provenance
from lam.report.tables.matched import GUIDE, NOTHING, TITLE, matched_grid
from lam.report.tables.published import published_control_grid
from lam.report.tables.ranks import rank_grid, rank_sentence, rank_table
from lam.report.tables.summary import read_family
from lam.report.tables.systems import TITLE as SYSTEMS_TITLE
from lam.report.tables.systems import systems_grid, systems_guide, systems_notes
from lam.report.tables.usefulness import GUIDE as FORETOLD
from lam.report.tables.usefulness import usefulness, usefulness_grid

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
thead th.doubt { color: #b00020 }
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


def write_page(path: Path, comparison: Comparison, matched: list[Match], systems: Systems | None, figures: list[Path]) -> Path:
    """Write the page; links to settings are relative to it."""
    title = f"Latent actions compared: {comparison.runs[0].setting}"
    sections = {
        "Rate and error": _hull(comparison, figures),
        "Table": _table(comparison),
        "At matched capacity": _matched(comparison, matched),
        "Acting": _control(comparison),
        SYSTEMS_TITLE: _systems(systems),
        "Figures": _figures([figure for figure in figures if figure.stem != "hull"]),
        "Pictures": _pictures(comparison),
        "Family by family": _families(comparison, matched),
        "How to read the numbers": _paragraphs(guide(comparison)),
        "Runs": _runs(comparison, path.parent),
    }
    sections = {heading: body for heading, body in sections.items() if body}
    links = "".join(f'<li><a href="#{_identifier(heading)}">{heading}</a></li>' for heading in sections)
    body = "".join(
        f'<section id="{_identifier(heading)}"><h2>{heading}</h2>{inner}</section>' for heading, inner in sections.items()
    )
    write_text(
        path,
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><header><h1>{escape(title)}</h1>"
        f'{_paragraphs(provenance(comparison))}<nav aria-label="Sections"><ul>{links}</ul></nav></header>'
        f"<main>{body}</main></body></html>\n",
    )
    return path


def _table(comparison: Comparison) -> str:
    """Return the wide table after what must be known before it."""
    lead = (
        "One row a bottleneck and knob, the reference rows `none` and `identity` first. A number is a mean ± half a 95 % "
        "interval; **bold** is the best where a paired test separates it from all others, ≈ marks what it cannot separate. "
        "Error is 1 where a model predicts that nothing changes; gap closed is 0 for none and 1 for identity. "
        "Wide tables scroll sideways."
    )
    warnings = "".join(f'<p class="note">{_inline(note)}</p>' for note in notes(comparison))
    return _paragraphs(lead) + warnings + main_grid(comparison).html("All rows")


def _hull(comparison: Comparison, figures: list[Path]) -> str:
    """Return what the hull says, the figure of it, and the table that is read off it."""
    html = _paragraphs(f"**{hull_sentence(comparison)}**") + _figures([figure for figure in figures if figure.stem == "hull"])
    if not family_hulls(comparison).families:
        return html
    return (
        html
        + hull_grid(comparison).html("Read off the hulls")
        + _paragraphs("\n\n".join([*hull_notes(comparison), HULL_GUIDE]))
    )


def _matched(comparison: Comparison, matched: list[Match]) -> str:
    """Return the table at matched capacity."""
    table = matched_grid(comparison, matched)
    return _paragraphs(GUIDE) + table.html(TITLE) if table else _paragraphs(NOTHING)


def _control(comparison: Comparison) -> str:
    """Return the control table with its rank correlations; empty where no row acts."""
    budget = main_label_budget(comparison)
    if not budget:
        return ""
    table = rank_table(comparison)
    parts = ["".join(_paragraphs(note) for note in control_notes(comparison)), control_grid(comparison, budget).html("Acting")]
    if table:
        parts += [rank_grid(table).html("Rank correlations"), _paragraphs(rank_sentence(table))]
    if foretold := usefulness([comparison]):
        parts += [usefulness_grid(foretold).html("What each metric foretells"), _paragraphs(FORETOLD)]
    published = published_control_grid().html("Published, other data")
    return "".join([*parts, _paragraphs(EXPECTED), published, _paragraphs(control_guide(comparison))])


def _systems(systems: Systems | None) -> str:
    """Return the table of published systems; empty where there are none."""
    if systems is None:
        return ""
    warnings = "".join(f'<p class="note">{_inline(note)}</p>' for note in systems_notes(systems))
    return warnings + systems_grid(systems).html(SYSTEMS_TITLE) + _paragraphs(systems_guide(systems))


def _figures(figures: list[Path]) -> str:
    """Return the figures with their captions."""
    html = ""
    for figure in figures:
        if figure.suffix == ".svg":
            image = _image(figure.read_bytes(), "svg+xml", f"Figure {figure.stem}, described below")
            html += f'<figure id="figure-{figure.stem}">{image}<figcaption>{FIGURES[figure.stem].caption}</figcaption></figure>'
    return html


def _pictures(comparison: Comparison) -> str:
    """Return pictures that the runs drew themselves."""
    html = ""
    for one in [*pick_pictures(comparison), *pick_control_pictures(comparison)]:
        caption = f"{one.row.name}, seed {one.seed}: {one.caption}."
        image = _image(one.path.read_bytes(), one.path.suffix[1:], caption)
        html += f'<figure class="strips">{image}<figcaption>{escape(caption)}</figcaption></figure>'
    return html


def _families(comparison: Comparison, matched: list[Match]) -> str:
    """Return a paragraph a family."""
    over = "one seed, so nothing is said of other seeds; " if len({run.seed for run in comparison.runs}) == 1 else ""
    lead = f"Written from the numbers above ({over}gap closed with its 95 % interval; differences by paired tests, p < 0.05)."
    paragraphs = "".join(
        f"<h3>{escape(family)}</h3><p>{escape(' '.join(read_family(comparison, family, matched)))}</p>"
        for family in comparison.families
    )
    return _paragraphs(lead) + paragraphs if paragraphs else ""


def _runs(comparison: Comparison, folder: Path) -> str:
    """Return each row's seeds with links to their settings."""
    html = ""
    for row in [*comparison.rows, *(row for row in comparison.bounds.values() if row not in comparison.rows)]:
        links = []
        for seed, run in row.runs.items():
            target = quote(os.path.relpath(run.path / "config.yaml", folder), safe="/.@")
            links.append(f'<a href="{target}">seed {seed}</a> <code>{escape(run.config_hash)}</code>')
        html += f"<dt>{escape(row.name)}</dt><dd>{', '.join(links)}</dd>"
    return _paragraphs("Settings of every run, with their hash.") + f"<dl>{html}</dl>"


def _image(data: bytes, kind: str, alt: str) -> str:
    """Embed an image into the page."""
    return f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" alt="{escape(alt)}">'


def _paragraphs(text: str) -> str:
    """Turn the little Markdown that the guides use into paragraphs and lists."""
    html = ""
    for part in text.split("\n\n"):
        if part.startswith("- "):
            items = "".join(f"<li>{_inline(item.removeprefix('- '))}</li>" for item in part.splitlines())
            html += f"<ul>{items}</ul>"
        else:
            html += f"<p>{_inline(part)}</p>"
    return html


def _inline(text: str) -> str:
    """Turn bold, emphasis and code into tags."""
    html = escape(text)
    for pattern, tag in ((r"`(.+?)`", "code"), (r"\*\*(.+?)\*\*", "strong"), (r"\*(.+?)\*", "em")):
        html = re.sub(pattern, rf"<{tag}>\1</{tag}>", html, flags=re.DOTALL)
    return html


def _identifier(heading: str) -> str:
    """Return the target of links to a heading."""
    return heading.lower().replace(" ", "-")
