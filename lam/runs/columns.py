"""Columns and flags of the report's tables: declared by evaluations, written into a run's folder, read by the report.

The file ``columns.json`` of a run holds what its evaluations declare, so a table knows an evaluation from somewhere else too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from lam.io import write_text

FILE = "columns.json"
LABELS = "{labels}"
"""Stands in a key for the label budget, in clips, that controllers learned from."""

PARAMETERS = "model/parameters/"
"""Begins the keys under which a run says how many parameters its model has."""

MAIN, CONTROL = "main", "control"
"""Tables that a column can be in: the wide one of all rows (``table.md``), the one of acting with latents (``control.md``)."""


@dataclass(frozen=True)
class Column:
    """A column of a table: which number of a run it shows, and how.

    Attributes:
        key: Key of the number as the evaluation returns it; in the file ``eval/<name>/`` stands before it. ``{labels}`` is in
            the place of a label budget in clips. A ``*`` at the end makes a column of each ground-truth factor or horizon.
        heading: Heading; a ``*`` in it is replaced as in the key.
        digits: Decimals.
        better: 1 where a higher number is better, -1 where a lower one is, 0 where neither is.
        explanation: What the number is, for the guide below the table: a sentence after a colon, without a period at its end.
        order: Place among the columns of all evaluations, the lowest first; equal ones keep the order of the runs' evaluations.
        table: ``main`` or ``control``.
        brief: Whether the terminal shows it too; where the key has a ``*`` the first of them.
        matched: Whether rows are compared by it at matched capacity: ``no``, ``too``, or ``only``, where the wide table marks
            no best row, as latents that say nothing would win.
        most: Columns at most where the key has a ``*``.
        doubt: Key of a number, with a ``*`` as in the column's own, that is 1 where the column is not to be trusted: where any
            run has it the heading is marked.
    """

    key: str
    heading: str
    digits: int = 3
    better: Literal[-1, 0, 1] = 0
    explanation: str = ""
    order: int = 1000
    table: Literal["main", "control"] = "main"
    brief: bool = False
    matched: Literal["no", "too", "only"] = "no"
    most: int = 6
    doubt: str = ""

    def __post_init__(self) -> None:
        if "*" in self.key[:-1]:
            raise ValueError(f"The key {self.key!r} of the column {self.heading!r} has a * before its end. Put it last.")

    def of(self, name: str) -> Column:
        """Return the column of one of the factors or horizons that ``*`` stands for."""
        key, doubt = (stem.removesuffix("*") + name if stem else "" for stem in (self.key, self.doubt))
        return replace(self, key=key, heading=self.heading.replace("*", name), doubt=doubt)


@dataclass(frozen=True)
class Flag:
    """A warning in the column ``flags``, raised where a run has one value of a number.

    Attributes:
        key: Key of the number, as in ``Column``.
        name: The warning, a word or two.
        value: The value at which it is raised.
        explanation: What it says of the latent action.
        order: Place among the flags, the lowest first.
    """

    key: str
    name: str
    value: float = 1.0
    explanation: str = ""
    order: int = 1000


@dataclass(frozen=True)
class Declarations:
    """Columns and flags with their keys in full.

    Attributes:
        columns: Columns, each key and table once.
        flags: Flags, each key once.
    """

    columns: tuple[Column, ...] = ()
    flags: tuple[Flag, ...] = ()

    @classmethod
    def union(cls, several: Iterable[Declarations]) -> Declarations:
        """Aggregation declarations in a stable order: by their own number, then as they come; the first of a key counts."""
        columns: dict[tuple[str, str], Column] = {}
        flags: dict[str, Flag] = {}
        for one in several:
            for column in one.columns:
                columns.setdefault((column.table, column.key), column)
            for flag in one.flags:
                flags.setdefault(flag.key, flag)
        return cls(
            tuple(sorted(columns.values(), key=lambda column: column.order)),
            tuple(sorted(flags.values(), key=lambda flag: flag.order)),
        )

    def write(self, folder: Path) -> None:
        """Write them into a run's folder."""
        write_text(folder / FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Declarations | None:
        """Read those of a run's folder; None where it has none, as runs made before evaluations declared columns.

        Raises:
            ValueError: The file cannot be understood.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_text())
            columns = tuple(Column(**column) for column in content["columns"])
            return cls(columns, tuple(Flag(**flag) for flag in content["flags"]))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not declare columns ({error}). Validate the run again with lam validate.") from error


class Declaring(Protocol):
    """What declares columns: an evaluation, or its class."""

    @property
    def name(self) -> str:
        """Its name, unique among the evaluations of a run."""
        ...

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns with keys as it returns them."""
        ...

    @property
    def flags(self) -> tuple[Flag, ...]:
        """Flags with keys as it returns them."""
        ...


def declared(evaluations: Iterable[Declaring]) -> Declarations:
    """Return what evaluations declare, with their keys in full."""
    found = []
    for evaluation in evaluations:
        prefix = f"eval/{evaluation.name}/"
        columns = tuple(
            replace(column, key=prefix + column.key, doubt=prefix + column.doubt if column.doubt else "")
            for column in evaluation.columns
        )
        found.append(Declarations(columns, tuple(replace(flag, key=prefix + flag.key) for flag in evaluation.flags)))
    return Declarations.union(found)
