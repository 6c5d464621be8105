"""``lam sweep``: rows of a table side by side, or families trained to levels of gap closed.

``lam sweep SETTING noisy:beta@1e-4 vq:num_codes@16 none --seeds 0 1`` makes what is missing or stale and skips what is done. A
row of a published system (experiments/systems) is written with its name, ``lapa/nsvq:num_codes@8``, and so are its
anchors, ``lapa/none`` and ``lapa/identity``. With ``--match 0.5 0.9`` families are given instead of rows, and values of their
knobs are searched for on the first seed until a row closes that share of the gap, and all seeds are trained there.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import os
import sys
from pathlib import Path
from typing import TypeVar

from lam.runs.configs import read_yaml
from lam.runs.errors import SettingsError
from lam.runs.sweep.knobs import knob_of
from lam.runs.sweep.matching import ANCHORS, MatchJob, match_family
from lam.runs.sweep.pool import work
from lam.runs.sweep.rows import RunSpec, train_row

MAX_RUNS = 8
"""Rows that are trained on the first seed at most in search of one level."""


def rows_parser(command: str, description: str, example: str) -> argparse.ArgumentParser:
    """Return a parser of which rows of a setting, with which seeds, and how many side by side."""
    parser = argparse.ArgumentParser(
        prog=command,
        description=description,
        epilog=f"Example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("setting", help="a file experiments/SETTING.yaml, or SERIES-WORLD of a series of worlds")
    parser.add_argument("rows", nargs="+", help="family, or family:knob@value; those of a system after its name and /")
    parser.add_argument(
        "--jobs", type=int, default=1, help="rows made side by side, each with its share of the cores or OMP_NUM_THREADS"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of weights, order of data and noise")
    parser.add_argument(
        "--part", default="1/1", metavar="I/N", help="make one of N parts of the rows, such as 3/16 in a SLURM array"
    )
    parser.add_argument(
        "--remove-stale",
        action="store_true",
        help="once a row is there, delete what it took the place of, with all that lies in it; else that stays in .stale",
    )
    return parser


Asked = TypeVar("Asked")


def part_of(asked: list[Asked], part: str) -> list[Asked]:
    """Return what one of several commands is to make, such that all together make everything once.

    Args:
        asked: All that was asked for, the same and in the same order in each command.
        part: Which of how many, ``3/16``.

    Raises:
        SettingsError: There is no such part.
    """
    number, _, count = part.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise SettingsError(f"--part is {part}, expected one of 1/N to N/N, such as 3/16.")
    return asked[int(number) - 1 :: int(count)]


def refuse_several_processes() -> None:
    """Refuse to be started several times at once by what starts the processes of one training.

    Raises:
        SettingsError: torchrun or srun did so.
    """
    tasks = "1" if "SLURM_STEP_ID" not in os.environ else os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or int(tasks) > 1:
        raise SettingsError(
            "Rows are made side by side with --jobs, or by the jobs of a SLURM array with --part, one task each (--ntasks=1). "
            "A row on several GPUs or nodes is started with lam fit."
        )


def rows_of(options: argparse.Namespace) -> list[RunSpec]:
    """Return the rows that were asked for.

    Raises:
        SettingsError: There is no such setting or family.
    """
    rows = [RunSpec.parse(options.setting, text, seed) for seed in options.seeds for text in options.rows]
    settings = [path.stem for path in sorted(Path("experiments").glob("*.yaml")) if "shards" in read_yaml(path).get("data", {})]
    if not {options.setting, options.setting.partition("-")[0]} & set(settings):
        raise SettingsError(_not_there("setting", "experiments", options.setting, settings))
    families = [path.stem for path in sorted(Path("experiments/bottlenecks").glob("*.yaml"))]
    systems = [path.stem for path in sorted(Path("experiments/systems").glob("*.yaml"))]
    for row in rows:
        if row.system and row.system not in systems:
            raise SettingsError(_not_there("system", "experiments/systems", row.system, systems))
        if row.family not in families:
            raise SettingsError(_not_there("family", "experiments/bottlenecks", row.family, families))
    return rows


def _not_there(kind: str, folder: str, name: str, there: list[str]) -> str:
    """Return what to say of a file that does not exist, with those that do."""
    if not there:
        return f"No {kind} in {folder}, seen from {Path.cwd()}. lam init writes a copy of the settings there."
    near = difflib.get_close_matches(name, there, 1)
    guess = f" Did you mean {near[0]}?" if near else ""
    return f"No {kind} {name}: there is no {folder}/{name}.yaml.{guess} There are: {', '.join(there)}."


def main(arguments: list[str]) -> None:
    """Read rows and make those that are missing or stale, or read families and train them to levels.

    Args:
        arguments: What is typed after ``lam sweep``.
    """
    parser = rows_parser("lam sweep", str(__doc__), "lam sweep demo none noisy:beta@1e-3 vq:num_codes@16 --seeds 0 1 --jobs 2")
    parser.add_argument("--match", nargs="+", type=float, metavar="LEVEL", help="shares of the gap to train families to")
    parser.add_argument("--max-runs", type=int, default=MAX_RUNS, help=f"rows trained in search of a level ({MAX_RUNS})")
    options, extra = parser.parse_known_args(arguments)
    refuse_several_processes()
    rows = rows_of(options)
    if options.match:
        match(options, rows, tuple(extra))
        return
    make = functools.partial(train_row, without_stale=options.remove_stale)
    failed = work(part_of(rows, options.part), tuple(extra), options.jobs, make)
    if failed:
        sys.exit("lam: error: failed rows, left out of the table: " + ", ".join(f"{r.name} seed {r.seed}" for r in failed))


def match(options: argparse.Namespace, rows: list[RunSpec], extra: tuple[str, ...]) -> None:
    """Train families to levels of gap closed, after the reference rows.

    Raises:
        SettingsError: Rows were given instead of families, or levels are no shares.
    """
    given = [text for text in options.rows if set(text) & set(":@/")]
    if given:
        raise SettingsError(f"--match looks for values of knobs itself. Give families alone, not {', '.join(given)}.")
    if options.max_runs < 1 or not all(0 < level < 1 for level in options.match):
        raise SettingsError("--match wants shares of the gap between 0 and 1, such as 0.5 0.75 0.9, and --max-runs 1 or more.")
    families = list(dict.fromkeys(row.family for row in rows))
    for family in families:
        knob_of(family)
    anchors = [RunSpec.parse(options.setting, name, seed) for seed in options.seeds for name in ANCHORS]
    if work(anchors, extra, options.jobs, train_row):
        sys.exit("lam: error: without the reference rows no gap is known.")
    jobs = [
        MatchJob(options.setting, family, tuple(options.match), tuple(options.seeds), options.max_runs) for family in families
    ]
    failed = work(part_of(jobs, options.part), extra, options.jobs, match_family)
    if failed:
        sys.exit("lam: error: failed families: " + ", ".join(job.family for job in failed))
