"""Runs that others take the place of: moved aside with all that a person has put there, and deleted by a flag alone."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from lam.io import PART
from lam.runs.recovery.locks import check_free

STALE = ".stale"
"""Folder beside the rows of a setting, or beside the controllers of a run, that keeps runs that others took the place of."""

RECORDS = ("config.yaml", "started.json", "trained.json", "run.json")
"""Files that make a folder a run; so does a checkpoint."""

START = ("config.yaml", "started.json", "init_from.json", "metrics.csv", "hparams.yaml", "events.out.tfevents.*")
"""Files that a training has written before its first checkpoint."""


@contextlib.contextmanager
def replaced(folder: Path) -> Iterator[Path | None]:
    """Move a run aside for the one that the block makes; where that ends before its first checkpoint, it is put back.

    Yields where the run lies from now on, ``.stale/<row>/<seed>`` or with a number after it; None where there was none.

    Args:
        folder: Where the run is, and where the new one will be.

    Raises:
        RunTakenError: Another process is making controllers for the run.
    """
    aside = _make_room(folder)
    try:
        yield aside
    except BaseException:
        if _remove_start(folder) and aside is not None:
            _put_back(aside, folder)
        raise


def bring_back(folder: Path) -> None:
    """Put back the run that was moved aside for one that was killed before its first checkpoint."""
    before = stale_runs(folder)
    if before and folder.exists() and _remove_start(folder):
        _put_back(max(before, key=lambda run: run.stat().st_ctime_ns), folder)


def stale_runs(folder: Path) -> list[Path]:
    """Return the runs that were moved aside for the one in a folder."""
    return kept_in(_place(folder), folder.name)


def remove_stale(folder: Path) -> None:
    """Delete the runs that were moved aside for the one in a folder, with everything in them."""
    for run in stale_runs(folder):
        shutil.rmtree(run)
    remove_empty(_place(folder))


def move_aside(folder: Path, place: Path) -> Path:
    """Move a folder into another one, and return where it lies there: under its name, or that with a number."""
    place.mkdir(parents=True, exist_ok=True)
    target, count = place / folder.name, 1
    while target.exists():
        count += 1
        target = place / f"{folder.name}-{count}"
    folder.rename(target)
    return target


def kept_in(place: Path, name: str) -> list[Path]:
    """Return what was moved into a folder under a name, or that with a number."""
    names = re.compile(rf"{re.escape(name)}(-\d+)?")
    return sorted(path for path in place.glob("*") if names.fullmatch(path.name)) if place.is_dir() else []


def _place(folder: Path) -> Path:
    """Return the folder that keeps what was moved aside for a run."""
    return folder.parents[1] / STALE / folder.parent.name


def _make_room(folder: Path) -> Path | None:
    """Move a run aside; a start that failed is removed, and a folder that is no run stays where it is."""
    if _remove_start(folder) or not _is_run(folder):
        return None
    for lock in sorted(folder.glob("*/.*.lock")):
        check_free(lock.with_name(lock.name[1 : -len(".lock")]))
    return move_aside(folder, _place(folder))


def _put_back(aside: Path, folder: Path) -> None:
    aside.rename(folder)
    remove_empty(aside.parent)


def _is_run(folder: Path) -> bool:
    """Tell whether a folder holds anything of a run."""
    return any((folder / name).exists() for name in RECORDS) or any(folder.glob("checkpoints/*"))


def _remove_start(folder: Path) -> bool:
    """Remove a folder that holds only what a training writes before its first checkpoint; tell whether it is gone."""
    if not folder.exists():
        return True
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    if not all(path.name.endswith(PART) or (path.parent == folder and _matches(path)) for path in files):
        return False
    for path in files:
        path.unlink(missing_ok=True)
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        path.rmdir()
    folder.rmdir()
    return True


def _matches(path: Path) -> bool:
    return any(path.match(pattern) for pattern in START)


def remove_empty(place: Path) -> None:
    """Remove a folder of what was moved aside, and the one above it, where they are empty."""
    with contextlib.suppress(OSError):
        place.rmdir()
        place.parent.rmdir()
