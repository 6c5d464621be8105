"""Predictions as one grid: the same clips down, families across, cut out of the pictures that runs left.

The picture of a run (``lam.viz.PredictionVisualization``) is a table of square tiles: before, true, predicted, two differences.
Whether two pictures are of the same clips is seen by their true tiles, which are equal to the byte.
"""

from __future__ import annotations

import io
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lam.report.page.markup import embed
from lam.report.pictures import Picture
from lam.report.stats.jackknife import Array

PAD, GAP, LINE = 8, 4, 26
"""Pixels around a picture, between its tiles and a line of its headings."""

COLUMNS = 5
MAX_CLIPS = 4
BEFORE, TRUE, PREDICTED = range(3)


class Strips(NamedTuple):
    """Rows that predict the same clips.

    Attributes:
        pictures: Pictures of the rows.
        tiles: Tiles of each, (clips, 5, side, side, 3).
    """

    pictures: list[Picture]
    tiles: list[Array]


def cut_tiles(path: Path) -> Array | None:
    """Cut a picture of predictions into tiles (clips, 5, side, side, 3); None where it is of another shape."""
    image = np.asarray(Image.open(path).convert("RGB"))
    height, width = image.shape[:2]
    # five tiles and the text beside them, as wide as a tile
    side, rest = divmod(width - 2 * PAD - COLUMNS * GAP, COLUMNS + 1)
    if rest or side < 1:
        return None
    clips, head = divmod(height - 2 * PAD, side + GAP)
    if not clips or head not in (LINE + GAP, 2 * LINE + GAP, 3 * LINE + GAP):
        return None
    tops = [PAD + head + GAP + clip * (side + GAP) for clip in range(clips)]
    lefts = [PAD + column * (side + GAP) for column in range(COLUMNS)]
    return np.stack([[image[top : top + side, left : left + side] for left in lefts] for top in tops])


def same_clips(pictures: list[Picture]) -> Strips:
    """Keep the pictures that can be cut and are of the clips of the first of them."""
    kept = Strips([], [])
    for picture in pictures:
        tiles = cut_tiles(picture.path)
        if tiles is None or (kept.tiles and not _agree(kept.tiles[0], tiles)):
            continue
        kept.pictures.append(picture)
        kept.tiles.append(tiles)
    return kept


def strips_html(strips: Strips) -> str:
    """Return the grid as a table: a clip a line; before and true once, then what each row predicts."""
    if not strips.tiles:
        return ""
    names = [picture.row.name for picture in strips.pictures]
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("before", "came (true)", *names))
    body = ""
    for clip in range(min(MAX_CLIPS, len(strips.tiles[0]))):
        shown = {"before": strips.tiles[0][clip, BEFORE], "true": strips.tiles[0][clip, TRUE]}
        shown |= {name: tiles[clip, PREDICTED] for name, tiles in zip(names, strips.tiles, strict=True)}
        cells = "".join(f"<td>{_tile(tile, f'clip {clip + 1}, {what}')}</td>" for what, tile in shown.items())
        body += f"<tr>{cells}</tr>"
    inner = f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody>"
    label = "Predictions of the same clips"
    return f'<div class="scroll strips" role="region" aria-label="{label}" tabindex="0"><table>{inner}</table></div>'


def _agree(first: Array, other: Array) -> bool:
    """Tell whether two pictures show the same states before and after."""
    return first.shape == other.shape and bool((first[:, : TRUE + 1] == other[:, : TRUE + 1]).all())


def _tile(tile: Array, alt: str) -> str:
    """Embed a tile."""
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "PNG")
    return embed(buffer.getvalue(), "png", alt)
