"""Style of the page, light or dark as the reader's system is, and figures that follow it."""

from __future__ import annotations

import re

CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --faint: #595959; --line: #ddd; --strong: #999;
  --link: #0b4f8a;
  --head: #f3f3f3; --side: #fafafa; --hover: #e8f1f9; --warn: #b35c00; --warn-paper: #fdf6ee; --doubt: #b00020 }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e6e6e6; --faint: #a9a9a9; --line: #363a3f;
  --strong: #6b7076; --link: #8ec3f0; --head: #22262a; --side: #1c1f22; --hover: #26323d; --warn: #e59a4c;
  --warn-paper: #2b2319; --doubt: #ff8b96 } }
body { margin: 0 auto; max-width: 78rem; padding: .6rem 1.2rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.1rem; margin: 0; color: var(--faint); font-weight: 500 }
h2 { font-size: 1.15rem; margin: 0; display: inline }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .3rem }
p, figcaption, li { max-width: 50rem }
a { color: var(--link) }
code { font-size: .9em; background: var(--head); padding: 0 .2em; overflow-wrap: anywhere }
.answer { font-size: 1.15rem; line-height: 1.4; font-weight: 600; margin: .3rem 0 .6rem; max-width: none }
.screen { display: grid; gap: 0 1.5rem; align-items: start }
.screen > * { min-width: 0 }
@media (min-width: 62rem) { .screen { grid-template-columns: minmax(0, 10fr) minmax(0, 10fr) } }
.screen th, .screen td { padding: .22rem .4rem } .screen table { font-size: .8rem }
.screen figure { margin: 0 } .screen .scroll { margin-top: 0 }
.faint { font-size: .85rem; color: var(--faint); margin: .4rem 0 }
nav ul { list-style: none; padding: 0; margin: .8rem 0 .4rem; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem }
main > details { border-top: 1px solid var(--line); padding: .55rem 0 }
summary { cursor: pointer }
details details > summary { color: var(--link); font-size: .92rem }
.scroll { overflow-x: auto; border: 1px solid var(--line); margin: .8rem 0 }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--link) }
table { border-collapse: collapse; font-size: .83rem; font-variant-numeric: tabular-nums; white-space: nowrap }
caption { text-align: left; padding: .4rem .6rem; font-weight: 600; white-space: normal }
th, td { padding: .22rem .6rem; text-align: left; border-top: 1px solid var(--line) }
thead th { background: var(--head); vertical-align: bottom; white-space: normal; min-width: 3.6rem }
thead th.doubt { color: var(--doubt) }
tbody th { font-weight: 500 }
tr.first > * { border-top: 1px solid var(--strong) }
td.no { color: var(--faint) }
tbody tr:hover > * { background: var(--hover) }
th:first-child { position: sticky; left: 0; background: var(--side) }
th[style] { box-shadow: inset 5px 0 var(--family); padding-left: .8rem }
figure { margin: 1.2rem 0 2rem }
figure img { max-width: 100%; height: auto }
.boards img { border: 1px solid var(--line); background: #fff }
.strips td { padding: 2px } .strips th { padding: .2rem .3rem; white-space: normal }
.strips img { display: block; width: 96px; height: 96px; image-rendering: pixelated }
figcaption { font-size: .92rem; margin-top: .3rem }
.note { border-left: 4px solid var(--warn); padding: .2rem .8rem; background: var(--warn-paper) }
dt { font-weight: 600 } dd { margin: 0 0 .4rem 1rem }
@media (max-width: 40rem) { .answer { font-size: 1rem } .screen table { font-size: .72rem }
  .screen th, .screen td { padding: .2rem .25rem; white-space: normal } .screen thead th { min-width: 0 }
  figure { overflow-x: auto } figure > img { max-width: none; width: max(100%, 34rem) } }
@media print { :root { color-scheme: light } .scroll { overflow: visible } table { font-size: .6rem } nav { display: none }
  details::details-content { content-visibility: visible; block-size: auto } }
"""

IN_THE_DARK = {
    "#ffffff": "#16181b",
    "#e5e5e5": "#33373c",
    "#222222": "#e6e6e6",
    "#444444": "#c4c4c4",
    "#666666": "#a9a9a9",
    "#999999": "#8f8f8f",
    "#0072b2": "#3d9bd4",
    "#882255": "#bd4a62",
    "#117733": "#3fa564",
    "#aa4499": "#a873e8",
}
"""Colors of figures and what they are on dark paper: gray turned over, dark colors of families lighter, others as they are."""


def themed(color: str) -> str:
    """Return a color of figures as one that follows the reader."""
    return f"var(--c{color[1:].lower()})" if color.lower() in IN_THE_DARK else color


def _variables() -> str:
    """Return the variables of all colors, light and dark."""
    light, dark = (
        "".join(f"--c{color[1:]}:{shown};" for color, shown in colors.items())
        for colors in ({color: color for color in IN_THE_DARK}, IN_THE_DARK)
    )
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


VARIABLES = _variables()


def follow_the_reader(svg: str) -> str:
    """Let a figure follow the reader's choice of light or dark: its colors become variables that it sets itself."""
    drawn = re.sub(r"(?<=: )#[0-9a-f]{6}\b", lambda found: themed(found[0]), svg)
    return re.sub(r"(<svg\b[^>]*>)", lambda found: f"{found[1]}<style>{VARIABLES}</style>", drawn, count=1)
