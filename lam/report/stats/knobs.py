"""Names of knobs: which argument of a bottleneck a row's knob sets, read from the settings that its run left."""

from __future__ import annotations

from collections.abc import Sequence

from lam.report.stats.rows import TableRow
from lam.runs.configs import read_yaml


def knob_name(rows: Sequence[TableRow]) -> str:
    """Return the argument whose value is the knob's in every row of a family; empty where none or several are.

    Args:
        rows: Rows of one family.
    """
    names: set[str] | None = None
    for row in rows:
        path = next(iter(row.runs.values())).path / "config.yaml"
        config = read_yaml(path) if path.exists() else {}
        arguments = config.get("model", {}).get("bottleneck", {}).get("init_args", {})
        here = {str(name) for name, value in arguments.items() if _is(value, row)}
        names = here if names is None else names & here
    return names.pop() if names and len(names) == 1 else ""


def _is(value: object, row: TableRow) -> bool:
    """Tell whether a value of the settings is the row's knob."""
    try:
        return float(str(value)) == row.number
    except ValueError:
        return str(value) == row.knob
