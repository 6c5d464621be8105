"""Finished runs of a setting, read back from their folders."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from lam.runs.columns import Declarations, declared
from lam.runs.provenance import HEADS_KEYS

SHARED_WITH_RUN = ("data_hash", "family", "knob", "seed")
"""Fields of run.json in which controllers must agree with the run whose folder they are in."""

OWN_HEADS = {"actions": ("inverse_model",), "cuts": HEADS_KEYS}
"""Heads that are a family's own, by family: the labeled bound is given the actions instead of inferring them; the positive
control of leakage has those through which a whole state passes, and never competes."""


@dataclass(frozen=True)
class ActedEpisodes:
    """Episodes that a closed loop acted in.

    Attributes:
        sha256: SHA-256 of what they go from and to: equal where they are the same.
        num: How many.
        drawn: Pairs of start and goal that were drawn for them.
        solved_at_start: Pairs among them that are no episodes, as nothing had to be done.
    """

    sha256: str
    num: int
    drawn: int
    solved_at_start: int


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: one row and seed of a comparison.

    Numbers of its controllers and plans, for each label budget in ``control/*/`` of its folder, are among its own.

    Attributes:
        path: Its folder.
        setting: Data and sizes it shares with the others.
        family: Bottleneck family.
        knob: The knob's text, empty where there is none.
        seed: Its seed.
        config_hash: Hash of its settings.
        shared_hash: Hash of the settings that all runs must share.
        data_hash: Hash of its data's index.
        code_revision: Revision of the code that made it.
        metrics: Numbers by key.
        clips: Values of single clips: one line a position, one column a key.
        sources: Source of each position; episodes of a simulator have positions of their own (``lam.report.stats.jackknife``).
        declarations: Columns of the tables that its evaluations declare.
        heads: Hashes of its heads and of the latent between them, which all rows of a bottleneck table must share.
        skipped: Evaluations that left something out, and why; earlier releases did not record it.
        episodes: Episodes of its closed loops by label budget; earlier releases did not record them.
    """

    path: Path
    setting: str
    family: str
    knob: str
    seed: int
    config_hash: str
    shared_hash: str
    data_hash: str
    code_revision: str
    metrics: dict[str, float]
    clips: pd.DataFrame
    sources: pd.Series[str]
    declarations: Declarations
    heads: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    episodes: dict[str, ActedEpisodes] = field(default_factory=dict)


def read_runs(folder: Path) -> tuple[list[FinishedRun], list[str]]:
    """Read the finished runs under ``runs/<setting>``, and the names of those that did not finish.

    A run, or one of its controllers, that has settings but not both run.json and metrics.json failed or is still going; other
    folders are not runs.

    Raises:
        FileNotFoundError: There is no finished run.
        ValueError: Runs cannot be compared, or a file cannot be understood.
    """
    seeds = [path for path in folder.glob("*/seed*") if path.is_dir()]
    heads = [path for seed in seeds if _is_finished(seed) for path in seed.glob("control/*") if path.is_dir()]
    started = sorted(path for path in [*seeds, *heads] if not _is_finished(path) and (path / "config.yaml").exists())
    runs = [_with_heads(_read_run(path)) for path in sorted(seeds) if _is_finished(path)]
    if not runs:
        raise FileNotFoundError(
            f"{folder} has no finished run. Expected <family>@<knob>/seed<k> with run.json and metrics.json; run lam fit first."
        )
    _check_same_data(runs)
    return runs, [str(path.relative_to(folder)) for path in started]


def _is_finished(path: Path) -> bool:
    """Tell whether a folder has both files that a row needs."""
    return (path / "run.json").exists() and (path / "metrics.json").exists()


def _read_run(path: Path) -> FinishedRun:
    """Read one run's folder."""
    about = _read_json(path / "run.json")
    fields = ("setting", "family", "knob", "seed", "config_hash", "shared_hash", "data_hash", "code_revision")
    missing = [field for field in fields if field not in about]
    if missing:
        raise ValueError(f"{path / 'run.json'} lacks {', '.join(missing)}. Validate the run again with lam validate.")
    metrics = {key: float(value) for key, value in _read_json(path / "metrics.json").items()}
    clips, sources = _read_clips(path / "clips.parquet")
    for key in clips.columns.intersection(list(metrics)):
        mean = clips[key].mean()
        if not np.isclose(mean, metrics[key], rtol=1e-3, atol=1e-5, equal_nan=True):
            raise ValueError(
                f"{path}: {key} is {metrics[key]:g} in metrics.json but its clips in clips.parquet average {mean:g}. "
                "Values of clips must have the metric as their mean; validate the run again or rename them."
            )
    declarations = Declarations.read(path) or built_in_declarations(controllers=path.parent.name == "control")
    heads = about.get("heads", {})  # earlier releases had none, and their other hashes differ from those of today
    about = {field: about[field] for field in fields}
    skipped = _read_json(path / "skipped.json") if (path / "skipped.json").exists() else {}
    return FinishedRun(
        path,
        **about,
        metrics=metrics,
        clips=clips,
        sources=sources,
        declarations=declarations,
        heads=heads,
        skipped=skipped,
        episodes=_read_episodes(path),
    )


def _read_episodes(path: Path) -> dict[str, ActedEpisodes]:
    """Read which episodes a run acted in, by label budget."""
    curves = _read_json(path / "curves.json") if (path / "curves.json").exists() else {}
    acted = {key: value for key, value in curves.get("closed_loop", {}).items() if key.startswith("episodes@")}
    return {key.partition("@")[2]: ActedEpisodes(**value) for key, value in acted.items()}


def _with_heads(run: FinishedRun) -> FinishedRun:
    """Add the numbers of the controllers on top of a run; their keys end in the label budget, so none meet.

    ``val/...`` of a controller's pass over the data is not taken over: the world model is the run's, and so is the number.
    """
    for path in sorted(path for path in run.path.glob("control/*") if _is_finished(path)):
        about, heads = _read_json(path / "run.json"), _read_run(path)
        own = {field: getattr(run, field) for field in SHARED_WITH_RUN}
        wrong = [f"{field} {about[field]!r} instead of {value!r}" for field, value in own.items() if about[field] != value]
        if wrong:
            raise ValueError(f"{path} was made for another run than the one it is in: {', '.join(wrong)}. Remove {path}.")
        metrics = {key: value for key, value in heads.metrics.items() if key.startswith("eval/")}
        twice = sorted(metrics.keys() & run.metrics.keys())
        if twice:
            raise ValueError(f"{path} has {twice[0]}, which {run.path} has from elsewhere. Remove {path} and make it again.")
        sources = pd.concat([one for one in (run.sources, heads.sources) if len(one)] or [run.sources])
        sources = sources[~sources.index.duplicated()].sort_index()
        clips = run.clips.join(heads.clips, how="outer")
        declarations = Declarations.union([run.declarations, heads.declarations])
        run = replace(run, metrics=run.metrics | metrics, clips=clips, sources=sources)
        run = replace(run, declarations=declarations, skipped=run.skipped | heads.skipped)
        run = replace(run, episodes=run.episodes | heads.episodes)
    return run


@cache
def built_in_declarations(controllers: bool) -> Declarations:
    """Return the columns that our own evaluations declare, for runs made before runs came with a columns.json.

    This imports the evaluations, and with them torch, which the report needs for nothing else.

    Args:
        controllers: Whether to return those of controllers and plans instead of those of models.
    """
    if controllers:
        from lam.control.closed_loop import ClosedLoop
        from lam.control.controller_error import ControllerError
        from lam.control.planning import Planning

        return declared([ControllerError, Planning, ClosedLoop])
    import lam.evals
    from lam.evals.base import Evaluation

    exported = (getattr(lam.evals, name) for name in lam.evals.__all__)
    return declared(one for one in exported if isinstance(one, type) and issubclass(one, Evaluation) and one is not Evaluation)


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a file cut off while it was written is named."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return content
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}). Remove it and validate the run again.") from error


def _read_clips(path: Path) -> tuple[pd.DataFrame, pd.Series[str]]:
    """Read values by position and key, and the source of each position; empty where a run has none."""
    if not path.exists():
        return pd.DataFrame(), pd.Series(dtype=object)
    # pandas would hand Arrow a Python file, which its threads may still hold while the interpreter ends
    lines = pq.ParquetFile(str(path)).read(["position", "source", "metric", "value"], use_threads=False).to_pandas()
    repeated = lines.duplicated(["position", "metric"])
    if repeated.any():
        raise ValueError(f"{path} has {repeated.sum()} repeated (position, metric) pairs. Validate the run again.")
    clips = lines.pivot(index="position", columns="metric", values="value")
    return clips, lines.drop_duplicates("position").set_index("position")["source"].sort_index()


def _check_same_data(runs: list[FinishedRun]) -> None:
    """Refuse runs on different data or with different settings around the bottleneck."""
    first = next((run for run in runs if run.family not in OWN_HEADS), runs[0])
    for run in runs:
        if run.data_hash != first.data_hash:
            raise ValueError(
                f"{run.path} was made from data {run.data_hash}, {first.path} from data {first.data_hash}. "
                "Run the older one again, or give the new data a setting of its own."
            )
        if run.shared_hash != first.shared_hash:
            raise ValueError(
                f"{run.path} and {first.path} differ in more than the bottleneck (settings {run.shared_hash} and "
                f"{first.shared_hash}): steps, encoder, distance or optimizer. Remove the older run, or make it again."
            )
        heads = [name for name in {**first.heads, **run.heads} if name not in OWN_HEADS.get(run.family, ())]
        differ = [name for name in heads if run.heads.get(name) != first.heads.get(name)]
        if differ:
            raise ValueError(
                f"{run.path} and {first.path} differ in more than the bottleneck: {', '.join(differ)}. Rows of one table share "
                "heads; a published combination is a system (experiments/systems). Remove the older run, or make it again."
            )
