"""Columns of the readable tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lam.report.stats.acting import main_budget
from lam.report.stats.measures import BITS, CLOSED_LOOP, CONTROLLER, ERROR, GAP_CLOSED, LEAKAGE, PLANNING, RATE, TRANSFER
from lam.report.stats.rows import Comparison, Row
from lam.report.tables.published import published_at_end

GAIN, LINEAR = "eval/probe/gain/", "eval/probe/r2_linear/"
NOMINAL, CODES_USED, AUC = RATE + "bits_nominal", "eval/usage/codes_used", "eval/sampling/auc"
MAX_CAUSES = 6
FLAGS = {  # key, and the value that raises the flag
    "ignored": (TRANSFER + "ignored", 1.0),
    "copies": (LEAKAGE + "copies", 1.0),
    "collapsed": ("eval/usage/collapsed", 1.0),
    "peeks": ("eval/future/passed", 0.0),
}


@dataclass(frozen=True)
class Column:
    """A column to read.

    Attributes:
        title: Its head.
        key: The key it shows.
        digits: Decimals.
        better: 1 where more is better, -1 where less is, 0 where it is no contest.
        brief: Whether the terminal shows it too.
    """

    title: str
    key: str
    digits: int = 3
    better: int = 0
    brief: bool = True


@dataclass(frozen=True)
class TextColumn:
    """A column of words.

    Attributes:
        title: Its head.
        text: What it says of a row; empty where it has nothing to say.
        brief: Whether the terminal shows it too.
    """

    title: str
    text: Callable[[Comparison, Row], str]
    brief: bool = True


def probed_causes(comparison: Comparison) -> list[str]:
    """Causes to show: movements of the agent, then of the camera, then others by name, up to six; table.csv has all.

    Recorded actions, ``action_0`` and on, are shown only where no movement is recorded by name: they would say the same.
    """
    factors = [key.removeprefix(GAIN) for key in comparison.keys if key.startswith(GAIN)]
    if any(factor.startswith(("agent_d", "pan_d")) for factor in factors):
        factors = [factor for factor in factors if not factor.startswith("action")]
    return sorted(factors, key=lambda name: (not name.startswith("agent_d"), not name.startswith("pan"), name))[:MAX_CAUSES]


def columns(comparison: Comparison) -> list[Column]:
    """Number columns of the plain table; those that no row has are left out.

    Leakage and transfer as ratios are no contest here: a latent that says nothing has the best of them. The matched table
    compares them.
    """
    factors = probed_causes(comparison)
    first, budget = factors[:2], main_budget(comparison)
    shown = [
        Column("error", ERROR, better=-1),
        Column("gap closed", GAP_CLOSED, better=1),
        Column("bits @5%", BITS, digits=1),
        Column("nominal bits", NOMINAL, digits=2, brief=BITS not in comparison.keys),
        Column("capacity", RATE + "bits_capacity", digits=1, brief=False),
        Column("leakage ratio", LEAKAGE + "ratio", digits=2),
        Column("leakage share", LEAKAGE + "share", digits=2, brief=False),
        Column("error at a cut", LEAKAGE + "cut", digits=2, brief=False),
        Column("relative to none", LEAKAGE + "relative", digits=2, brief=False),
        Column("transfer ratio", TRANSFER + "ratio", digits=2),
        Column("its floor", TRANSFER + "ratio_floor", digits=2, brief=False),
        Column("its ceiling", TRANSFER + "ratio_random", digits=2, brief=False),
        Column("error after transfer", TRANSFER + "cycle", digits=2, brief=False),
        Column("transfer normalized", TRANSFER + "normalized", digits=2, better=-1, brief=False),
        Column("retention", TRANSFER + "retention", digits=2, brief=False),
        *(Column(f"gain {factor}", GAIN + factor, digits=2, better=1, brief=factor in first[:1]) for factor in factors),
        *(Column(f"R² of z {factor}", LINEAR + factor, digits=2, better=1, brief=False) for factor in first),
        Column("auc", AUC, digits=2, brief=False),
        Column("codes used", CODES_USED, digits=2, brief=False),
        Column("controller error", f"{CONTROLLER}error@{budget}", better=-1, brief=False),
        Column("controller ratio", f"{CONTROLLER}ratio@{budget}", digits=2, brief=False),
        Column("planning error", f"{PLANNING}normalized@{budget}", digits=2, better=-1, brief=False),
        Column("success", f"{CLOSED_LOOP}success@{budget}", digits=2, better=1, brief=False),
    ]
    return _known(comparison, shown)


def matched_columns(comparison: Comparison, along: str) -> list[Column]:
    """Number columns of the matched table along gap closed or bits; at equal information every one is a contest."""
    factors, budget = probed_causes(comparison)[:2], main_budget(comparison)
    shown = [
        Column("bits @5%", BITS, digits=1, better=-1) if along == GAP_CLOSED else Column("error", ERROR, better=-1),
        Column("leakage ratio", LEAKAGE + "ratio", digits=2, better=1),
        Column("leakage share", LEAKAGE + "share", digits=2, better=-1, brief=False),
        Column("transfer ratio", TRANSFER + "ratio", digits=2, better=-1),
        Column("transfer normalized", TRANSFER + "normalized", digits=2, better=-1, brief=False),
        Column("retention", TRANSFER + "retention", digits=2, better=1, brief=False),
        *(Column(f"gain {factor}", GAIN + factor, digits=2, better=1) for factor in factors),
        *(Column(f"R² of z {factor}", LINEAR + factor, digits=2, better=1, brief=False) for factor in factors),
        Column("auc", AUC, digits=2, better=-1, brief=False),
        Column("controller ratio", f"{CONTROLLER}ratio@{budget}", digits=2, better=-1, brief=False),
        Column("planning error", f"{PLANNING}normalized@{budget}", digits=2, better=-1, brief=False),
    ]
    return [replace(column, brief=column.brief and place < 4) for place, column in enumerate(_known(comparison, shown))]


def text_columns(comparison: Comparison) -> list[TextColumn]:
    """Word columns of the plain table; those that have nothing to say of any row are left out."""
    shown = [
        TextColumn("flags", flags),
        TextColumn("published leakage", lambda found, row: _published(found, row, "leakage_ratio"), brief=False),
        TextColumn("published transfer", lambda found, row: _published(found, row, "transfer_ratio"), brief=False),
    ]
    return [column for column in shown if any(column.text(comparison, row) for row in comparison.rows)]


def flags(comparison: Comparison, row: Row) -> str:
    """What the evaluations warn of, with the number of seeds where it is not all of them."""
    raised = []
    for name, (key, value) in FLAGS.items():
        seeds = [run.metrics[key] == value for run in row.runs.values() if key in run.metrics]
        if any(seeds):
            raised.append(name if all(seeds) else f"{name} ({sum(seeds)} of {len(seeds)} seeds)")
    return ", ".join(raised)


def _known(comparison: Comparison, shown: list[Column]) -> list[Column]:
    """Columns that some row has."""
    return [column for column in shown if column.key in comparison.keys]


def _published(comparison: Comparison, row: Row, field: str) -> str:
    """The published ratio beside the tight and the loose end of a family's sweep, where our table has that ratio."""
    key = {"leakage_ratio": LEAKAGE + "ratio", "transfer_ratio": TRANSFER + "ratio"}[field]
    sweep = comparison.families.get(row.family, [])
    if key not in comparison.keys or len(sweep) < 2 or row.name not in (sweep[0].name, sweep[-1].name):
        return ""
    found = published_at_end(row.family, tight=row.name == sweep[0].name)
    return f"{found._asdict()[field]:.2f} ({found.capacity})" if found else ""
