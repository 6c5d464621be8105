"""Pictures that runs left in their folders, picked for a page that stays small."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lam.report.stats.control import main_label_budget
from lam.report.stats.measures import GAP_CLOSED, PLANNING
from lam.report.stats.rows import REFERENCE_ROWS, Comparison, TableRow

FOLDER = "boards"
"""Where visualizations lie in the folder of a run."""

CAPTIONS = {
    "prediction": "what happened and what the model predicts with the clip's own latents",
    "transfer": "latents of one clip drive another, and come back",
    "leakage": "latents inferred across a splice of two clips",
}
"""Captions of the visualizations to show, those that matter most first."""

CONTROL_CAPTIONS = {
    "plan": "a plan toward the goal and the recorded actions, both as the world model imagines them",
    "episodes": "plans acted out in the simulator",
}
"""Captions of a controller's pictures by the file's name; others are called by that name."""

MAX_PICTURES = 12
MAX_CONTROL_PICTURES = 6
MAX_BYTES = 5_000_000


class Picture(NamedTuple):
    """A visualization of one run.

    Attributes:
        path: The file.
        row: The run's row.
        seed: Its seed.
        caption: What it shows.
    """

    path: Path
    row: TableRow
    seed: int
    caption: str


def pick_pictures(comparison: Comparison) -> list[Picture]:
    """Pick visualizations of the reference rows and of the row of each family that closes most of the gap.

    Each is of the first seed that has it.
    """
    rows = [comparison.references[name] for name in REFERENCE_ROWS if name in comparison.references]
    rows += [max(sweep, key=lambda row: _gap_closed(comparison, row)) for sweep in comparison.families.values()]
    picked: list[Picture] = []
    size = 0
    for name, caption in CAPTIONS.items():
        for row in rows:
            files = [(seed, run.path / FOLDER / f"{name}.png") for seed, run in row.runs.items()]
            seed, path = next(((seed, path) for seed, path in files if path.exists()), (0, None))
            if path is None or len(picked) == MAX_PICTURES or size + path.stat().st_size > MAX_BYTES:
                continue
            size += path.stat().st_size
            picked.append(Picture(path, row, seed, caption))
    return picked


def pick_control_pictures(comparison: Comparison) -> list[Picture]:
    """Pick pictures of plans and episodes, of the row of each family that plans best and of the reference rows.

    They are of the first seed that has any at the table's label budget; one of each kind for all rows before the next kind.
    """
    budget = main_label_budget(comparison)
    sweeps = [[row for row in sweep if _control_files(row, budget)[1]] for sweep in comparison.families.values()]
    rows = [min(sweep, key=lambda row: _planning_error(comparison, row, budget)) for sweep in sweeps if sweep]
    rows += [row for row in comparison.unlabeled if row.family in REFERENCE_ROWS]
    pictures = [
        Picture(path, row, seed, CONTROL_CAPTIONS.get(path.stem, path.stem.replace("_", " ")))
        for row in rows
        for seed, paths in [_control_files(row, budget)]
        for path in paths
    ]
    kinds = sorted({one.caption for one in pictures})
    picked: list[Picture] = []
    size = 0
    for one in sorted(pictures, key=lambda one: kinds.index(one.caption)):
        if len(picked) < MAX_CONTROL_PICTURES and size + one.path.stat().st_size <= MAX_BYTES:
            size += one.path.stat().st_size
            picked.append(one)
    return picked


def _control_files(row: TableRow, budget: str) -> tuple[int, list[Path]]:
    """Return pictures of a row's controllers, with the seed they are of; none where no seed has any."""
    for seed, run in row.runs.items():
        paths = sorted((run.path / "control" / f"clips{budget}" / FOLDER).glob("*"))
        if pictures := [path for path in paths if path.suffix in (".png", ".gif")]:
            return seed, pictures
    return 0, []


def _planning_error(comparison: Comparison, row: TableRow, budget: str) -> float:
    """Return the planning error, infinite where there is none."""
    return float(np.nan_to_num(comparison.estimate(row, f"{PLANNING}error@{budget}").value, nan=np.inf))


def _gap_closed(comparison: Comparison, row: TableRow) -> float:
    """Return gap closed, minus infinity where it is undefined."""
    return float(np.nan_to_num(comparison.estimate(row, GAP_CLOSED).value, nan=-np.inf))
