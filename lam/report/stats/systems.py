"""Published systems: whole recipes with heads of their own, between anchors trained under these and between the setting's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from lam.report.stats.estimates import Replicates
from lam.report.stats.measures import GAP_CLOSED
from lam.report.stats.rows import REFERENCE_ROWS, Comparison, TableRow
from lam.report.stats.runs import read_runs

FOLDER = "systems"
"""Folder of a setting whose folders are systems, each laid out as a setting."""

OWN_GAP_CLOSED = "gap_closed_own"
"""Share of the gap between the anchors trained under a system's own heads."""


@dataclass(frozen=True)
class SystemRow:
    """A row of a system: one of its anchors, or its bottleneck at a value of the knob.

    Attributes:
        system: Name of the system.
        bottleneck: Family of its bottleneck.
        shared: The row between the setting's anchors.
        own: The same row between its own.
    """

    system: str
    bottleneck: str
    shared: TableRow
    own: TableRow

    @property
    def competes(self) -> bool:
        """Whether it is more than an anchor."""
        return self.bottleneck not in REFERENCE_ROWS


@dataclass(frozen=True)
class Systems:
    """All systems of a setting.

    Attributes:
        shared: Their rows as families ``system/bottleneck`` beside the setting's reference rows: the same states, clips and
            unit of errors, so their numbers can be compared with each other and with the bottleneck table.
        own: Each system's rows beside its own reference rows, by its name.
        rows: Rows by system, its anchors first.
    """

    shared: Comparison
    own: dict[str, Comparison]
    rows: list[SystemRow]

    def replicates(self, row: SystemRow, key: str) -> Replicates:
        """Return the number of a key in a row."""
        if key == OWN_GAP_CLOSED:
            return self.own[row.system].replicates(row.own, GAP_CLOSED)
        return self.shared.replicates(row.shared, key)


def read_systems(folder: Path, comparison: Comparison) -> Systems | None:
    """Read the systems of a setting; None where there are none.

    Args:
        folder: ``runs/<setting>``; systems are in ``systems/<system>``, with runs in ``<family>[@<knob>]/seed<k>``.
        comparison: The setting's own rows.

    Raises:
        ValueError: A system was made from other data or settings than the rows of the setting.
    """
    found = {path.name: path for path in sorted(folder.glob(f"{FOLDER}/*")) if any(path.glob("*/seed*/run.json"))}
    if not found:
        return None
    own = {name: Comparison(*read_runs(path)) for name, path in found.items()}
    anchors = [run for row in comparison.references.values() for run in row.runs.values()]
    first = comparison.runs[0]
    renamed = []
    for name, one in own.items():
        for run in one.runs:
            if (run.data_hash, run.shared_hash) != (first.data_hash, first.shared_hash):
                raise ValueError(
                    f"{run.path} and {first.path} differ in data, steps, encoder, distance or optimizer (data {run.data_hash} "
                    f"and {first.data_hash}, settings {run.shared_hash} and {first.shared_hash}). Make the older one again."
                )
            renamed.append(replace(run, family=f"{name}/{run.family}"))
    shared = Comparison([*anchors, *renamed], [])
    rows = [_row(shared, name, row) for name, one in own.items() for row in one.rows]
    return Systems(shared, own, rows)


def _row(shared: Comparison, system: str, own: TableRow) -> SystemRow:
    """Find a system's row between the setting's anchors."""
    sweep = shared.families[f"{system}/{own.family}"]
    return SystemRow(system, own.family, next(row for row in sweep if row.knob == own.knob), own)
