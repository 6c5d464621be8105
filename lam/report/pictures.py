"""Pictures that runs left in their folders, picked for a page that stays small."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lam.report.measures import GAP_CLOSED
from lam.report.rows import ANCHORS, Comparison, Row

BOARDS = {
    "prediction": "what happened and what the model predicts with the clip's own latents",
    "transfer": "latents of one clip drive another, and come back",
    "leakage": "latents inferred across a splice of two clips",
}
"""Boards to show, those that matter most first, and what is on them."""

MAX_PICTURES = 12
MAX_BYTES = 5_000_000


class Picture(NamedTuple):
    """One board of one run.

    Attributes:
        path: The file.
        row: The run's row.
        seed: Its seed.
        board: Which board.
    """

    path: Path
    row: Row
    seed: int
    board: str


def pick_pictures(comparison: Comparison) -> list[Picture]:
    """Boards of the anchors and of the row of each family that closes most of the gap, of the first seed that has them."""
    rows = [comparison.anchors[name] for name in ANCHORS if name in comparison.anchors]
    rows += [max(sweep, key=lambda row: _closed(comparison, row)) for sweep in comparison.families.values()]
    picked: list[Picture] = []
    size = 0
    for board in BOARDS:
        for row in rows:
            files = [(seed, run.path / "boards" / f"{board}.png") for seed, run in row.runs.items()]
            found = next(((seed, path) for seed, path in files if path.exists()), None)
            if found is None or len(picked) == MAX_PICTURES or size + found[1].stat().st_size > MAX_BYTES:
                continue
            size += found[1].stat().st_size
            picked.append(Picture(found[1], row, found[0], board))
    return picked


def _closed(comparison: Comparison, row: Row) -> float:
    """Gap closed, for comparing; lowest where it is undefined."""
    return float(np.nan_to_num(comparison.estimate(row, GAP_CLOSED).value, nan=-np.inf))
