"""The report as one page of HTML that needs no other file: an answer on the first screen, the rest folded under headings."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from urllib.parse import quote

from lam.io import write_text
from lam.report.page.figures import figures_html
from lam.report.page.first import family_colors, first_screen
from lam.report.page.markup import embed, folded, identifier, inline, paragraphs
from lam.report.page.strips import same_clips, strips_html
from lam.report.page.style import CSS, VARIABLES
from lam.report.pictures import pick_control_pictures, pick_pictures
from lam.report.stats.control import main_label_budget
from lam.report.stats.hull import family_hulls
from lam.report.stats.knobs import knob_name, swept
from lam.report.stats.matched import Match
from lam.report.stats.rows import Comparison
from lam.report.stats.systems import Systems
from lam.report.tables.control import EXPECTED, control_grid, control_guide, control_notes
from lam.report.tables.hull import GUIDE as HULL_GUIDE
from lam.report.tables.hull import hull_grid, hull_notes
from lam.report.tables.ladder import GUIDE as LADDER
from lam.report.tables.ladder import ladder_grid
from lam.report.tables.main import guide, main_grid
from lam.report.tables.matched import GUIDE, NOTHING, TITLE, matched_grid
from lam.report.tables.published import published_control_grid
from lam.report.tables.ranks import rank_grid, rank_sentence, rank_table
from lam.report.tables.summary import read_family
from lam.report.tables.systems import TITLE as SYSTEMS_TITLE
from lam.report.tables.systems import systems_grid, systems_guide, systems_notes
from lam.report.tables.usefulness import GUIDE as FORETOLD
from lam.report.tables.usefulness import usefulness, usefulness_grid


def write_page(path: Path, comparison: Comparison, matched: list[Match], systems: Systems | None, figures: list[Path]) -> Path:
    """Write the page; links to settings are relative to it."""
    title = f"Latent actions compared: {comparison.runs[0].setting}"
    colors = family_colors(comparison)
    sections = {
        "Rate and error": _hull(comparison, colors),
        "Table": _table(comparison, colors),
        "At matched capacity": _matched(comparison, matched),
        "Acting": _control(comparison, colors),
        SYSTEMS_TITLE: _systems(systems),
        "Figures": figures_html(figures, swept(comparison)),
        "Pictures": _pictures(comparison),
        "Family by family": _families(comparison, matched),
        "How to read the numbers": paragraphs(guide(comparison)),
        "Runs": _runs(comparison, path.parent),
    }
    sections = {heading: body for heading, body in sections.items() if body}
    links = "".join(f'<li><a href="#{identifier(heading)}">{heading}</a></li>' for heading in sections)
    # the target of a link lies within the fold, so that browsers open it
    body = "".join(
        folded(f"<h2>{heading}</h2>", f'<section id="{identifier(heading)}">{inner}</section>')
        for heading, inner in sections.items()
    )
    write_text(
        path,
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}{VARIABLES}</style></head><body><header><h1>{escape(title)}</h1>"
        f'{first_screen(comparison, figures)}<nav aria-label="Sections"><ul>{links}</ul></nav></header>'
        f"<main>{body}</main></body></html>\n",
    )
    return path


def _table(comparison: Comparison, colors: dict[str, str]) -> str:
    """Return the wide table."""
    lead = (
        "One row a bottleneck and knob, the reference rows `none` and `identity` first. A number is a mean ± half a 95 % "
        "interval; **bold** is the best where a paired test separates it from all others, ≈ marks what it cannot separate. "
        "Error is 1 where a model predicts that nothing changes; gap closed is 0 for none and 1 for identity. "
        "Wide tables scroll sideways."
    )
    return paragraphs(lead) + main_grid(comparison).html("All rows", colors)


def _hull(comparison: Comparison, colors: dict[str, str]) -> str:
    """Return the table that is read off the hulls."""
    if not family_hulls(comparison).families:
        return ""
    text = "\n\n".join([*hull_notes(comparison), HULL_GUIDE])
    return hull_grid(comparison).html("Read off the hulls", colors) + paragraphs(text)


def _matched(comparison: Comparison, matched: list[Match]) -> str:
    """Return the table at matched capacity."""
    table = matched_grid(comparison, matched)
    return paragraphs(GUIDE) + table.html(TITLE) if table else paragraphs(NOTHING)


def _control(comparison: Comparison, colors: dict[str, str]) -> str:
    """Return the control table with its rank correlations; empty where no row acts."""
    budget = main_label_budget(comparison)
    if not budget:
        return ""
    table = rank_table(comparison)
    parts = [
        "".join(paragraphs(note) for note in control_notes(comparison)),
        control_grid(comparison, budget).html("Acting", colors),
    ]
    if ladders := ladder_grid(comparison):
        parts += [ladders.html("What success is lost to"), paragraphs(LADDER)]
    if table:
        parts += [rank_grid(table).html("Rank correlations"), paragraphs(rank_sentence(table))]
    if foretold := usefulness([comparison]):
        parts += [usefulness_grid(foretold).html("What each metric foretells"), paragraphs(FORETOLD)]
    published = published_control_grid().html("Published, other data")
    return "".join([*parts, paragraphs(EXPECTED), published, paragraphs(control_guide(comparison))])


def _systems(systems: Systems | None) -> str:
    """Return the table of published systems; empty where there are none."""
    if systems is None:
        return ""
    warnings = "".join(f'<p class="note">{inline(note)}</p>' for note in systems_notes(systems))
    return warnings + systems_grid(systems).html(SYSTEMS_TITLE) + paragraphs(systems_guide(systems))


def _pictures(comparison: Comparison) -> str:
    """Return predictions of the same clips as one grid, then, folded, other pictures that the runs drew themselves."""
    picked = pick_pictures(comparison)
    strips = same_clips([one for one in picked if one.path.stem == "prediction"])
    others = [one for one in [*picked, *pick_control_pictures(comparison)] if one not in strips.pictures]
    html = ""
    if strips.pictures:
        seeds = ", ".join(sorted({str(one.seed) for one in strips.pictures}))
        lead = (
            f"The last transition of the same clips, with each clip's own latents (seed {seeds}); of each family the row that "
        )
        html += paragraphs(lead + "closes most of the gap.") + strips_html(strips)
    for one in others:
        caption = f"{one.row.name}, seed {one.seed}: {one.caption}."
        image = embed(one.path.read_bytes(), one.path.suffix[1:], caption)
        html += folded(escape(caption), f'<figure class="boards">{image}</figure>')
    return html


def _families(comparison: Comparison, matched: list[Match]) -> str:
    """Return a paragraph a family."""
    over = "one seed, so nothing is said of other seeds; " if len({run.seed for run in comparison.runs}) == 1 else ""
    lead = f"Written from the numbers above ({over}gap closed with its 95 % interval; differences by paired tests, p < 0.05)."
    read = "".join(
        f"<h3>{escape(_titled(comparison, family))}</h3><p>{escape(' '.join(read_family(comparison, family, matched)))}</p>"
        for family in comparison.families
    )
    return paragraphs(lead) + read if read else ""


def _titled(comparison: Comparison, family: str) -> str:
    """Name a family with its knob."""
    name = knob_name(comparison.families[family])
    return f"{family}, by {name}" if name else family


def _runs(comparison: Comparison, folder: Path) -> str:
    """Return each row's seeds with links to their settings."""
    html = ""
    for row in [*comparison.rows, *(row for row in comparison.bounds.values() if row not in comparison.rows)]:
        links = []
        for seed, run in row.runs.items():
            target = quote(os.path.relpath(run.path / "config.yaml", folder), safe="/.@")
            links.append(f'<a href="{target}">seed {seed}</a> <code>{escape(run.config_hash)}</code>')
        html += f"<dt>{escape(row.name)}</dt><dd>{', '.join(links)}</dd>"
    return paragraphs("Settings of every run, with their hash.") + f"<dl>{html}</dl>"
