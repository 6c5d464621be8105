"""Result cards of others beside our rows: their numbers as they were sent, which no test compares, since they have no clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lam.data.manifest import hash_clips
from lam.io import write_text
from lam.report.stats.estimates import Estimate
from lam.report.stats.measures import ERROR, GAP_CLOSED
from lam.report.stats.rows import REFERENCE_ROWS, Comparison
from lam.report.tables.columns import main_columns
from lam.report.tables.layout import DASH, Grid, format_estimate
from lam.report.tables.main import main_grid

SUBMITTED = """\
Lines marked *submitted* are result cards of others, made by `lam external` on the same data and the same held-out clips (their
hashes are checked). Their numbers stand as they were sent, ± half a 95 % interval over the sources, of one seed. They do not
compete, since a test would need their values of single clips; a run's whole folder, with its `clips.parquet`, does."""


class Card(NamedTuple):
    """A result that somebody sent.

    Attributes:
        name: Family and knob.
        seed: Its seed.
        numbers: Numbers by key.
    """

    name: str
    seed: int
    numbers: dict[str, Estimate]


def read_cards(paths: Sequence[Path], comparison: Comparison) -> list[Card]:
    """Read cards and check that they are of the data and the clips of a setting.

    Raises:
        ValueError: A file is no card, or is of other data or other clips.
    """
    ours = {
        "data": comparison.runs[0].data_hash,
        "clips": hash_clips(
            {int(position): source for position, source in zip(comparison.sources.index, comparison.sources, strict=True)}
        ),
    }
    cards = []
    for path in paths:
        try:
            content = json.loads(path.read_text())
            hashes, metrics = content["hashes"], content["metrics"]
            name = f"{content['family']}@{content['knob']}" if content["knob"] else content["family"]
            numbers = {
                key: Estimate(float(one["value"]), float(one.get("half", "nan")), "sources") for key, one in metrics.items()
            }
            cards.append(Card(name, int(content["seed"]), numbers))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no result card ({error}). Expected the card.json of lam external.") from error
        for what, own in ours.items():
            if hashes.get(what) != own:
                raise ValueError(
                    f"{path} is of {what} {hashes.get(what)}, the runs here are of {what} {own}. Make the same worlds "
                    "(data_prep manifest tells by one hash), run lam external again and send the new card."
                )
    return cards


def submitted_grid(comparison: Comparison, cards: Sequence[Card]) -> Grid:
    """Return the wide table with the cards' lines below our rows."""
    ours = main_grid(comparison)
    columns = {column.heading: column for column in main_columns(comparison)}
    lines = []
    for card in cards:
        cells = [card.name, "submitted", "1"]
        for heading in ours.headings[3:]:
            column = columns.get(heading)
            cells.append(format_estimate(_number(comparison, card, column.key), column.digits) if column else "")
        lines.append([(text or DASH, "") for text in cells])
    return Grid(ours.headings, [*ours.rows, *lines], ours.names)


def write_submitted(path: Path, comparison: Comparison, cards: Sequence[Card]) -> Path:
    """Write the table with how to read it."""
    title = f"# {comparison.runs[0].setting}, with submitted results"
    write_text(path, "\n\n".join([title, submitted_grid(comparison, cards).markdown(), SUBMITTED]) + "\n")
    return path


def _number(comparison: Comparison, card: Card, key: str) -> Estimate:
    """Return a card's number; gap closed is read between our reference rows."""
    if key != GAP_CLOSED or key in card.numbers:
        return card.numbers.get(key, Estimate())
    if not comparison.gap_is_open or ERROR not in card.numbers:
        return Estimate()
    none, identity = (comparison.estimate(comparison.references[name], ERROR).value for name in REFERENCE_ROWS)
    return Estimate((none - card.numbers[ERROR].value) / (none - identity))
