"""Finished runs of a setting, read back from their folders."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

HEADS_SHARE = ("data_hash", "family", "knob", "seed")
"""What controllers must have in common with the run whose folder they are in."""


@dataclass(frozen=True)
class Run:
    """One row and seed of a comparison.

    What its controllers and plans gave, for each label budget in ``control/*/`` of its folder, is among its numbers.

    Attributes:
        path: Its folder.
        setting: Data and sizes it shares with the others.
        family: Bottleneck family.
        knob: The knob's text, empty for anchors.
        seed: Its seed.
        config_hash: Hash of its settings.
        shared_hash: Hash of the settings that all rows must share.
        data_hash: Hash of its data's index.
        code_revision: Revision of the code that made it.
        metrics: Numbers by key.
        clips: Values of single clips: one line a position, one column a key.
        sources: Source of each position; episodes of a simulator have positions of their own (``lam.report.stats.jackknife``).
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
    sources: pd.Series


def read_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """Finished runs under ``runs/<setting>``, and the names of those that did not finish.

    A run, or one of its controllers, that has settings but not both run.json and metrics.json failed or is still going; other
    folders are not runs.
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
    """Whether a folder has both files that a row needs."""
    return (path / "run.json").exists() and (path / "metrics.json").exists()


def _read_run(path: Path) -> Run:
    """Reads one run's folder."""
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
    return Run(path, **{field: about[field] for field in fields}, metrics=metrics, clips=clips, sources=sources)


def _with_heads(run: Run) -> Run:
    """The run with what controllers on top of it gave; their keys end in the label budget, so nothing meets.

    ``val/...`` of a controller's pass over the data is not taken over: the world model is the run's, and so is the number.
    """
    for path in sorted(path for path in run.path.glob("control/*") if _is_finished(path)):
        about, heads = _read_json(path / "run.json"), _read_run(path)
        own = {field: getattr(run, field) for field in HEADS_SHARE}
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
        run = replace(run, metrics=run.metrics | metrics, clips=clips, sources=sources)
    return run


def _read_json(path: Path) -> dict:
    """Reads a JSON object; a file cut off while it was written is named."""
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}). Remove it and validate the run again.") from error


def _read_clips(path: Path) -> tuple[pd.DataFrame, pd.Series]:
    """Values by position and key, and the source of each position; empty where a run has none."""
    if not path.exists():
        return pd.DataFrame(), pd.Series(dtype=object)
    # pandas would hand Arrow a Python file, which its threads may still hold while the interpreter ends
    lines = pq.ParquetFile(str(path)).read(["position", "source", "metric", "value"], use_threads=False).to_pandas()
    repeated = lines.duplicated(["position", "metric"])
    if repeated.any():
        raise ValueError(f"{path} has {repeated.sum()} repeated (position, metric) pairs. Validate the run again.")
    clips = lines.pivot(index="position", columns="metric", values="value")
    return clips, lines.drop_duplicates("position").set_index("position")["source"].sort_index()


def _check_same_data(runs: list[Run]) -> None:
    """Rows can only be compared on the same data and with the same settings around the bottleneck."""
    first = runs[0]
    for run in runs:
        if run.data_hash != first.data_hash:
            raise ValueError(
                f"{run.path} was made from data {run.data_hash}, {first.path} from data {first.data_hash}. "
                "Run the older one again, or give the new data a setting of its own."
            )
        if run.shared_hash != first.shared_hash:
            raise ValueError(
                f"{run.path} and {first.path} differ in more than the bottleneck (settings {run.shared_hash} and "
                f"{first.shared_hash}): steps, sizes, encoder or optimizer. Remove the older run, or make it again."
            )
