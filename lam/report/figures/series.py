"""Figure of a series of worlds: the same rows in several worlds, against the parameters in which the worlds differ.

E6: how much of the action and of the distractor a latent carries as distractors grow stronger and more alike the action; also
any other series of worlds that differ in one or two parameters. The parameters of each world are read from its shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lam.data.index import DataIndex
from lam.io import write_text
from lam.report.figures.catalogue import sample, save_figure
from lam.report.figures.style import style_of
from lam.report.stats.measures import LEAKAGE
from lam.report.stats.rows import REFERENCE_ROWS, Comparison
from lam.report.stats.runs import read_runs
from lam.runs.configs import read_yaml

KEYS = ("eval/probe/gain/agent_dx", "eval/probe/gain/distractor_dx", LEAKAGE + "ratio")
LINEAR = "eval/distractors/linear_r2@{size}/{factor}"
LINEAR_SIZES = {2: ":", 8: "-."}
"""Sizes of the linear latent action model to draw, with their dashes."""

NOT_PARAMETERS = ("generator", "train", "val", "seed", "storage", "input_sha256")


class WorldRuns(NamedTuple):
    """Finished runs in one world.

    Attributes:
        comparison: Its rows.
        settings: Settings that its world was made with.
    """

    comparison: Comparison
    settings: dict[str, object]


def read_world(folder: Path) -> WorldRuns:
    """Read the runs of a setting and the settings of the world they share, from the shards that a run's config names."""
    comparison = Comparison(*read_runs(folder))
    run = comparison.runs[0]
    config = read_yaml(run.path / "config.yaml")
    index = DataIndex.load(config["data"]["shards"])
    if index.digest != run.data_hash:
        raise ValueError(f"{run.path} was made from other data than {config['data']['shards']} holds now. Make it again.")
    return WorldRuns(comparison, with_shares(index.settings.get("made_with", index.settings)))


def with_shares(settings: dict[str, object]) -> dict[str, object]:
    """Return settings in which each part of a mixture of policies is a number, its share: ``policy random``."""
    policy = settings.get("policy")
    if not isinstance(policy, dict):
        return settings
    shares = {f"policy {name}": round(weight / sum(policy.values()), 6) for name, weight in policy.items()}
    return {name: value for name, value in settings.items() if name != "policy"} | shares


def differing_parameters(worlds: list[WorldRuns]) -> list[str]:
    """Return the one or two parameters in which worlds differ, in the order of the settings.

    Of a policy's shares those are left out that are linear functions of the ones before, as the last always is.

    Raises:
        ValueError: There are none, more than two, or one that is not a number.
    """
    every = [name for name in worlds[0].settings if name not in NOT_PARAMETERS]
    differing = [name for name in every if len({str(world.settings.get(name)) for world in worlds}) > 1]
    shares = [name for name in differing if name.startswith("policy ")]
    for place in reversed(range(1, len(shares))):
        if _follows(shares[place], shares[:place], worlds):
            differing.remove(shares[place])
    numbers = all(isinstance(world.settings.get(name), int | float) for world in worlds for name in differing)
    if not 1 <= len(differing) <= 2 or not numbers:
        raise ValueError(
            f"The worlds differ in {', '.join(differing) or 'nothing'}; expected one or two parameters that are numbers."
        )
    return differing


def _follows(name: str, others: list[str], worlds: list[WorldRuns]) -> bool:
    """Tell whether a number is a linear function of others over the worlds."""
    every = np.array([[world.settings.get(one) for world in worlds] for one in (*others, name)], dtype=float)
    known = np.isfinite(every).all()
    apart = every - every[:, :1]
    return bool(known and np.linalg.matrix_rank(apart, tol=1e-4) == np.linalg.matrix_rank(apart[:-1], tol=1e-4))


def series_table(worlds: list[WorldRuns], keys: tuple[str, ...] = KEYS) -> pd.DataFrame:
    """Return one line a world, row and key, with parameters and interval; where a key is missing there is no line."""
    parameters = differing_parameters(worlds)
    lines = []
    for world in worlds:
        for row in world.comparison.unlabeled:
            for key in (*keys, *(name for name in world.comparison.keys if name.startswith("eval/distractors/"))):
                cell = world.comparison.estimate(row, key)
                if cell.defined:
                    line: dict[str, object] = {name: world.settings[name] for name in parameters}
                    line |= {"family": row.family, "row": row.name, "key": key, "value": cell.value, "half": cell.half}
                    lines.append(line)
    table = pd.DataFrame(lines, columns=[*parameters, "family", "row", "key", "value", "half"])
    return table.sort_values([*parameters, "row", "key"], kind="stable", ignore_index=True)


def draw_series(worlds: list[WorldRuns], table: pd.DataFrame, keys: tuple[str, ...] = KEYS) -> Figure | None:
    """Draw each key as a line of panels, the second parameter from left to right, one curve a row of the first world.

    Where the first parameter is 0 the second changes nothing, so such a world stands in all panels.
    """
    shown = [key for key in keys if (table["key"] == key).any()]
    first, *second = differing_parameters(worlds)
    if not shown:
        return None
    values = sorted(table[second[0]].unique()) if second else [None]
    figure = Figure(figsize=(1.9 + 2.6 * len(values), 0.5 + 2.4 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), len(values), sharex=True, sharey="row", squeeze=False)
    for line, key in zip(axes, shown, strict=True):
        for axis, value in zip(line, values, strict=True):
            here = table if value is None else table[(table[second[0]] == value) | (table[first] == 0)]
            _curves(axis, worlds, here, key, first)
            axis.set_xticks(sorted(table[first].unique()))
            if key == shown[0] and second:
                axis.set_title(f"{second[0].replace('_', ' ')} {value:g}", fontsize=9)
        line[0].set_ylabel(key.removeprefix("eval/").replace("/", " "))
    figure.supxlabel(first.replace("_", " "), fontsize=9)
    handles = {label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper")
    return figure


def write_series(out: Path, folders: Sequence[Path], keys: tuple[str, ...] = KEYS) -> list[Path]:
    """Write the table and the figure of a series of worlds.

    Args:
        out: Where to write, without an ending.
        folders: ``runs/<setting>`` of each world.
        keys: Keys of the numbers to draw.

    Returns:
        The files: OUT.csv, OUT.png, OUT.svg and OUT.pdf.
    """
    worlds = [read_world(folder) for folder in folders]
    table = series_table(worlds, keys)
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.parent / f"{out.name}.csv"
    write_text(path, table.to_csv(index=False, float_format="%.8g", lineterminator="\n"))
    return [path, *save_figure(out, lambda: draw_series(worlds, table, keys), _title(worlds))]


def _title(worlds: list[WorldRuns]) -> str:
    """Return the head of the figure: its worlds, clips and seeds."""
    names = [world.comparison.runs[0].setting for world in worlds]
    return f"{len(worlds)} worlds, {names[0]} to {names[-1]}. {sample(worlds[0].comparison)} in the first"


def _curves(axis: Axes, worlds: list[WorldRuns], here: pd.DataFrame, key: str, parameter: str) -> None:
    """Draw a curve a row, and the share of the factor that the linear model of the same clips would carry."""
    comparison = worlds[0].comparison
    for row in comparison.unlabeled:
        points = here[(here["key"] == key) & (here["row"] == row.name)]
        if points.empty:
            continue
        style = style_of(row.family) | {"label": row.name, "linestyle": "-"}
        if row.family in REFERENCE_ROWS:
            style["marker"] = ""
        elif row.name != comparison.families[row.family][-1].name:  # the loosest is filled
            style["markerfacecolor"] = "white"
        half = np.nan_to_num(points["half"].to_numpy())
        axis.errorbar(points[parameter], points["value"], half, elinewidth=1, capsize=2, alpha=0.9, **style)
    for size, dashes in LINEAR_SIZES.items() if "/gain/" in key else ():
        linear = here[here["key"] == LINEAR.format(size=size, factor=key.rsplit("/", 1)[-1])]
        mean = linear.groupby(parameter)["value"].mean()  # every row logs the same
        if len(mean):
            axis.plot(mean.index, mean.to_numpy(), dashes, color="#222222", linewidth=1, label=f"linear, {size} numbers (R²)")
