"""The page of a folder of shards: one HTML file with all pictures in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from data_prep.page.images import LONGEST, animate, data_uri, difference, png
from data_prep.page.svg import draw_lengths, draw_traces
from data_prep.shards.sample import Sample
from lam.data.index import DataIndex
from lam.data.schema import SPLITS

_CLIPPED = 0.05  # share of the steps at a limit that is worth a color
_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5em auto; max-width: 1240px; padding: 0 1em; color: #222; }
h1 { font-size: 1.5em; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.1em; margin: 1.8em 0 .6em; }
p { margin: .3em 0; } .quiet { color: #666; } .warn { background: #fde3cf; }
table { border-collapse: collapse; } th, td { padding: .15em .8em .15em 0; text-align: right; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid #ccc; } th:first-child, td:first-child, td.text { text-align: left; }
td.text { overflow-wrap: anywhere; }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 1em; }
.clip { border: 1px solid #ddd; border-radius: 6px; padding: .7em; }
.clip { overflow-wrap: anywhere; } .clip img { width: 100%; image-rendering: pixelated; } .key { font-weight: 600; }
.val { background: #e3effa; border-radius: 3px; padding: 0 .4em; }
.pairs { display: flex; gap: .8em; overflow-x: auto; } .pairs figure { margin: 0; width: 132px; flex: none; }
.pairs img { width: 132px; display: block; margin-bottom: 3px; image-rendering: pixelated; }
figcaption { font-size: 11px; color: #666; overflow-wrap: anywhere; }
svg { display: block; width: 100%; } pre { background: #f5f5f5; padding: .8em; overflow-x: auto; }
"""


def make_page(index: DataIndex, samples: Sequence[tuple[str, Sample]], pairs: tuple[np.ndarray, list[str]] | None) -> str:
    """Return the page as HTML.

    Args:
        index: The set.
        samples: Some samples and their splits; none of a feature cache, which has no pictures.
        pairs: Training windows of two frames and what they are called.
    """
    sections = [
        _head(index),
        "" if pairs is None else _section("What training reads: frame t, frame t + 1, their difference", _pairs(*pairs)),
        _section("Clips", f'<div class="clips">{"".join(_clip(index, *each) for each in samples)}</div>') if samples else "",
        _section("How long samples are", draw_lengths(index)),
        _section("Actions", _actions(index)),
        _section("Causes", _factors(index)),
        _section("Left out", _left_out(index)),
        _section("Settings", f"<pre>{escape(json.dumps(index.settings, indent=1))}</pre>"),
    ]
    title = escape(str(index.path))
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(sections)}</body></html>\n"


def _section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>{body}"


def _table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; a cell is escaped unless it is a tuple of its class and its text."""
    cells = [[each if isinstance(each, tuple) else ("", str(each)) for each in row] for row in rows]
    lines = ["".join(f'<td class="{kind}">{escape(text)}</td>' for kind, text in row) for row in cells]
    lines.insert(0, "".join(f"<th>{title}</th>" for title in titles))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _head(index: DataIndex) -> str:
    """Show what the set is, and its counts."""
    if index.features is not None:
        what = f"States of {index.features.encoder.get('class_path', 'an encoder')}: {index.height} x {index.width} tokens of "
        what += f"{index.features.dim} numbers; no pictures to show."
    else:
        mean, std = (", ".join(f"{value:.3f}" for value in values) for values in (index.pixel_mean, index.pixel_std))
        what = f"{index.width} x {index.height} pixels, stored as {index.storage.name}. Pixels: mean {mean}; deviation {std}."
    rows = []
    for split in SPLITS:
        infos = index.splits[split]
        samples, frames, size = (sum(getattr(info, name) for info in infos) for name in ("samples", "frames", "bytes"))
        minutes = frames / index.fps / 60
        time = f"{minutes:,.1f} min" if minutes < 100 else f"{minutes / 60:,.1f} h"
        rows.append([split, len(infos), f"{samples:,}", f"{frames:,}", time, f"{size / 2**20:,.1f}"])
    table = _table(["split", "shards", "samples", "frames", "time", "MiB"], rows)
    return f"<h1>{escape(str(index.path))}</h1><p>{escape(what)} {index.fps:.4g} frames a second.</p>{table}"


def _pairs(frames: np.ndarray, names: Sequence[str]) -> str:
    """Show training windows side by side."""
    figures = []
    for (before, after), name in zip(frames, names, strict=True):
        pictures = "".join(
            f'<img src="{data_uri(png(each), "png")}" alt="">' for each in (before, after, difference(before, after))
        )
        figures.append(f"<figure>{pictures}<figcaption>{escape(name)}</figcaption></figure>")
    return f'<div class="pairs">{"".join(figures)}</div><p class="quiet">Differences are doubled; gray is no change.</p>'


def _clip(index: DataIndex, split: str, sample: Sample) -> str:
    """Show a clip that plays, and what was recorded beside it."""
    times = sample.times
    count = f"{len(times)} frames" + (f", the first {LONGEST} play" if len(times) > LONGEST else "")
    rate = (len(times) - 1) / (times[-1] - times[0])
    origin = sample.episode if sample.episode.startswith(sample.source) else f"{sample.source}, {sample.episode}"
    return (
        f'<div class="clip"><img src="{data_uri(animate(sample.frames, times), "webp")}" alt="">'
        f'<div class="key">{escape(sample.key)} <span class="{split}">{split}</span></div>'
        f'<p class="quiet">{escape(origin)}<br>{times[0]:.2f} s to {times[-1]:.2f} s, {count}, '
        f"{rate:.4g} a second</p>{draw_traces(index, sample)}</div>"
    )


def _actions(index: DataIndex) -> str:
    """Show statistics of each number of the actions."""
    if not index.actions:
        return '<p class="quiet">None were recorded.</p>'
    names = [(each, i) for each in index.actions for i in range(each.dim)]
    rows: list[list[Any]] = []
    for number, (each, i) in enumerate(names):
        row: list[Any] = [f"{each.name}[{i}]" if each.dim > 1 else each.name, each.aggregation]
        if (found := index.action_statistics) is not None:
            shares = found.at_low[number], found.at_high[number]
            constant = found.low[number] == found.high[number]
            row += [f"{values[number] + 0.0:.4g}" for values in (found.mean, found.std, found.low, found.high)]
            row += [("warn" if share > _CLIPPED and not constant else "", f"{share:.1%}") for share in shares]
            row += [("warn", "constant") if constant else ""]
        rows.append(row)
    note = '<p class="quiet">Of the training split. Many steps at a limit mean that actions were clipped there.</p>'
    return _table(["number", "joined by", "mean", "deviation", "low", "high", "at low", "at high", ""], rows) + note


def _factors(index: DataIndex) -> str:
    """Show which ground-truth factors were recorded."""
    if not index.factors:
        return '<p class="quiet">None were recorded.</p>'
    rows = [[name, list(factor.shape) or "a number", factor.kind, factor.aggregation] for name, factor in index.factors.items()]
    return _table(["factor", "shape", "kind", "joined by"], rows)


def _left_out(index: DataIndex) -> str:
    """Show segments that were dropped, and files that could not be read."""
    if not index.dropped and not index.num_quarantined:
        return '<p class="quiet">Nothing.</p>'
    parts = []
    if index.dropped:
        parts.append(_table(["segments", "number"], [[reason, f"{count:,}"] for reason, count in index.dropped.items()]))
    if index.num_quarantined:
        shown = f", the first {len(index.quarantined)}" if index.num_quarantined > len(index.quarantined) else ""
        parts.append(f"<p>{index.num_quarantined:,} files or episodes{shown}:</p>")
        parts.append(_table(["source", "reason"], [[each.source, ("text", each.reason)] for each in index.quarantined]))
    return "".join(parts)
