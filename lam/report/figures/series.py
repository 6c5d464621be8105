"""``python -m lam.report.figures.series OUT runs/<setting> ...``: the same rows in several worlds, against the worlds' dials.

E6: what of the action and of the distractor a latent carries as distractors grow stronger and more alike the action; also
any other series of worlds that differ in one or two dials. What each world was made with is read from its shards.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lam.data.index import DataIndex
from lam.report.figures.catalogue import save_figure
from lam.report.figures.style import style_of
from lam.report.stats.measures import LEAKAGE
from lam.report.stats.rows import ANCHORS, Comparison
from lam.report.stats.runs import read_runs

KEYS = ("eval/probe/gain/agent_dx", "eval/probe/gain/distractor_dx", LEAKAGE + "ratio")
LINEAR = "eval/distractors/linear_r2@{size}/{factor}"
LINEAR_SIZES = {2: ":", 8: "-."}
"""Sizes of the linear latent action model to draw, with their dashes."""

NOT_DIALS = ("generator", "train", "val", "seed", "storage", "input_sha256")


class World(NamedTuple):
    """One setting.

    Attributes:
        comparison: Its rows.
        settings: What its world was made with.
    """

    comparison: Comparison
    settings: dict[str, object]


def read_world(folder: Path) -> World:
    """Finished runs of a setting and the settings of the world they share, from the shards that a run's config names."""
    comparison = Comparison(*read_runs(folder))
    run = comparison.runs[0]
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    index = DataIndex.load(config["data"]["shards"])
    if index.digest != run.data_hash:
        raise ValueError(f"{run.path} was made from other data than {config['data']['shards']} holds now. Make it again.")
    return World(comparison, index.settings)


def differing_dials(worlds: list[World]) -> list[str]:
    """The one or two dials in which worlds differ, in the order of the settings.

    Raises:
        ValueError: None, more than two, or one that is not a number.
    """
    every = [name for name in worlds[0].settings if name not in NOT_DIALS]
    dials = [name for name in every if len({str(world.settings.get(name)) for world in worlds}) > 1]
    numbers = all(isinstance(world.settings.get(name), int | float) for world in worlds for name in dials)
    if not 1 <= len(dials) <= 2 or not numbers:
        raise ValueError(f"The worlds differ in {', '.join(dials) or 'nothing'}; expected one or two dials that are numbers.")
    return dials


def dial_table(worlds: list[World], keys: tuple[str, ...] = KEYS) -> pd.DataFrame:
    """One line a world, row and key, with the dials and the interval; where a key is missing there is no line."""
    dials = differing_dials(worlds)
    lines = []
    for world in worlds:
        for row in world.comparison.unlabeled:
            for key in (*keys, *(name for name in world.comparison.keys if name.startswith("eval/distractors/"))):
                cell = world.comparison.estimate(row, key)
                if cell.defined:
                    line: dict[str, object] = {dial: world.settings[dial] for dial in dials}
                    line |= {"family": row.family, "row": row.name, "key": key, "value": cell.value, "half": cell.half}
                    lines.append(line)
    table = pd.DataFrame(lines, columns=[*dials, "family", "row", "key", "value", "half"])
    return table.sort_values([*dials, "row", "key"], kind="stable", ignore_index=True)


def draw_dials(worlds: list[World], table: pd.DataFrame, keys: tuple[str, ...] = KEYS) -> Figure | None:
    """Each key a line of panels, the second dial's values from left to right, one curve a row of the first world.

    Where the first dial is 0 the second turns nothing, so such a world stands in all panels.
    """
    shown = [key for key in keys if (table["key"] == key).any()]
    dial, *second = differing_dials(worlds)
    if not shown:
        return None
    values = sorted(table[second[0]].unique()) if second else [None]
    figure = Figure(figsize=(1.9 + 2.6 * len(values), 0.5 + 2.4 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), len(values), sharex=True, sharey="row", squeeze=False)
    for line, key in zip(axes, shown, strict=True):
        for axis, value in zip(line, values, strict=True):
            here = table if value is None else table[(table[second[0]] == value) | (table[dial] == 0)]
            _curves(axis, worlds, here, key, dial)
            axis.set_xticks(sorted(table[dial].unique()))
            if key == shown[0] and second:
                axis.set_title(f"{second[0].replace('_', ' ')} {value:g}", fontsize=9)
        line[0].set_ylabel(key.removeprefix("eval/").replace("/", " "))
    figure.supxlabel(dial.replace("_", " "), fontsize=9)
    handles = {label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper")
    return figure


def _curves(axis: Axes, worlds: list[World], here: pd.DataFrame, key: str, dial: str) -> None:
    """A curve a row, and what the linear model of the same clips would carry of the factor."""
    comparison = worlds[0].comparison
    for row in comparison.unlabeled:
        points = here[(here["key"] == key) & (here["row"] == row.name)]
        if points.empty:
            continue
        style = style_of(comparison, row.family) | {"label": row.name, "linestyle": "-"}
        if row.family in ANCHORS:
            style["marker"] = ""
        elif row.name != comparison.families[row.family][-1].name:  # the loosest is filled
            style["markerfacecolor"] = "white"
        half = np.nan_to_num(points["half"].to_numpy())
        axis.errorbar(points[dial], points["value"], half, elinewidth=1, capsize=2, alpha=0.9, **style)
    for size, dashes in LINEAR_SIZES.items() if "/gain/" in key else ():
        linear = here[here["key"] == LINEAR.format(size=size, factor=key.rsplit("/", 1)[-1])]
        mean = linear.groupby(dial)["value"].mean()  # every row logs the same
        if len(mean):
            axis.plot(mean.index, mean.to_numpy(), dashes, color="#222222", linewidth=1, label=f"linear, {size} numbers (R²)")


def main(arguments: list[str] | None = None) -> None:
    """Writes OUT.csv, OUT.png and OUT.svg and prints their paths."""
    parser = argparse.ArgumentParser("python -m lam.report.figures.series", description=__doc__)
    parser.add_argument("out", type=Path, help="where to write, without an ending")
    parser.add_argument("folders", nargs="+", type=Path, help="runs/<setting>, of worlds that differ in one or two dials")
    parser.add_argument("--keys", nargs="+", default=list(KEYS), help="what to draw")
    options = parser.parse_args(arguments)
    keys = tuple(options.keys)
    try:
        worlds = [read_world(folder) for folder in options.folders]
        table = dial_table(worlds, keys)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    path = options.out.parent / f"{options.out.name}.csv"
    table.to_csv(path, index=False, float_format="%.8g", lineterminator="\n")
    print(*[path, *save_figure(options.out, lambda: draw_dials(worlds, table, keys))], sep="\n")


if __name__ == "__main__":
    main()
