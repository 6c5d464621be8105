"""Names of knobs: which argument of a bottleneck a row's knob sets, read from the settings that its run left."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lam.report.stats.rows import Comparison, TableRow
from lam.runs.configs import read_yaml


def knob_name(rows: Sequence[TableRow]) -> str:
    """Return the argument whose value is the knob's in every row of a family; empty where none or several are.

    Args:
        rows: Rows of one family.
    """
    names: set[str] | None = None
    for row in rows:
        path = next(iter(row.runs.values())).path / "config.yaml"
        arguments = _arguments(path, path.stat().st_mtime_ns) if path.exists() else {}
        here = {str(name) for name, value in arguments.items() if _is(value, row)}
        names = here if names is None else names & here
    return names.pop() if names and len(names) == 1 else ""


def titled(comparison: Comparison, family: str) -> str:
    """Return a family with the name of its knob, for the head of a panel."""
    name = knob_name(comparison.families[family])
    return f"{family}, {name}" if name else family


def swept(comparison: Comparison) -> str:
    """Say which knobs the families have and at which values they were trained; empty where there are none."""
    told = [
        f"{titled(comparison, family).replace(',', '')} {', '.join(row.knob for row in rows)}"
        for family, rows in comparison.families.items()
        if all(row.knob for row in rows)
    ]
    return f"Knobs, from tight to loose: {'; '.join(told)}." if told else ""


@cache
def _arguments(path: Path, changed: int) -> dict[str, Any]:
    """Return the arguments of a run's bottleneck, of a file as it was when it changed last."""
    settings = read_yaml(path) if path.stat().st_size else {}
    arguments: dict[str, Any] = settings.get("model", {}).get("bottleneck", {}).get("init_args", {})
    return arguments


def _is(value: object, row: TableRow) -> bool:
    """Tell whether a value of the settings is the row's knob."""
    try:
        return float(str(value)) == row.number
    except ValueError:
        return str(value) == row.knob
