"""Pictures that runs left in their folders, picked for a page that stays small."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lam.report.stats.acting import main_budget
from lam.report.stats.measures import GAP_CLOSED, PLANNING
from lam.report.stats.rows import ANCHORS, Comparison, Row

BOARDS = {
    "prediction": "what happened and what the model predicts with the clip's own latents",
    "transfer": "latents of one clip drive another, and come back",
    "leakage": "latents inferred across a splice of two clips",
}
"""Boards to show, those that matter most first, and what is on them."""

ACTING_BOARDS = {
    "plan": "a plan toward the goal and the recorded actions, both as the world model imagines them",
    "episodes": "plans acted out in the simulator",
}
"""What is on a picture of a controller, by the file's name; others are called by that name."""

MAX_PICTURES = 12
MAX_ACTING = 6
MAX_BYTES = 5_000_000


class Picture(NamedTuple):
    """One board of one run.

    Attributes:
        path: The file.
        row: The run's row.
        seed: Its seed.
        said: What is on it.
    """

    path: Path
    row: Row
    seed: int
    said: str


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
            picked.append(Picture(found[1], row, found[0], BOARDS[board]))
    return picked


def pick_acting(comparison: Comparison) -> list[Picture]:
    """Pictures of plans and episodes that controllers left, of the row of each family that plans best and of the anchors.

    The first seed's that has any at the table's label budget; one of each kind for all rows before the next kind.
    """
    budget = main_budget(comparison)
    sweeps = [[row for row in sweep if _boards(row, budget)[1]] for sweep in comparison.families.values()]
    rows = [min(sweep, key=lambda row: _planned(comparison, row, budget)) for sweep in sweeps if sweep]
    rows += [row for row in comparison.unlabeled if row.family in ANCHORS]
    found = [Picture(path, row, seed, _kind(path)) for row in rows for seed, paths in [_boards(row, budget)] for path in paths]
    kinds = sorted({one.said for one in found})
    picked: list[Picture] = []
    size = 0
    for one in sorted(found, key=lambda one: kinds.index(one.said)):
        if len(picked) < MAX_ACTING and size + one.path.stat().st_size <= MAX_BYTES:
            size += one.path.stat().st_size
            picked.append(one)
    return picked


def _boards(row: Row, budget: str) -> tuple[int, list[Path]]:
    """Pictures of a row's controllers, with the seed they are of; none where no seed has any."""
    for seed, run in row.runs.items():
        paths = sorted((run.path / "control" / f"clips{budget}" / "boards").glob("*"))
        if shown := [path for path in paths if path.suffix in (".png", ".gif")]:
            return seed, shown
    return 0, []


def _kind(path: Path) -> str:
    """What is on a picture."""
    return ACTING_BOARDS.get(path.stem, path.stem.replace("_", " "))


def _planned(comparison: Comparison, row: Row, budget: str) -> float:
    """Planning error, for comparing; highest where there is none."""
    return float(np.nan_to_num(comparison.estimate(row, f"{PLANNING}error@{budget}").value, nan=np.inf))


def _closed(comparison: Comparison, row: Row) -> float:
    """Gap closed, for comparing; lowest where it is undefined."""
    return float(np.nan_to_num(comparison.estimate(row, GAP_CLOSED).value, nan=-np.inf))
