"""The files of a run that tables are made from: metrics.json, clips.parquet, curves.json and others, run.json; card.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning.pytorch as pl
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lam.io import write_bytes, write_json
from lam.models.base import WorldModel
from lam.runs.columns import PARAMETERS, Declaring, declared
from lam.runs.provenance import Provenance

TRAINING = ("train/", "z/")
"""Begin the keys of training steps."""

RECORDED = ("setting", "family", "knob", "seed")
"""What TensorBoard tells runs apart by."""

SHOWN = (
    *("eval/capacity/error", "eval/rate/bits_nominal", "eval/rate/bits_own@5", "eval/usage/codes_used"),
    *("eval/leakage/ratio", "eval/transfer/ratio", "eval/motion/slope/agent"),
)
"""Metrics beside the probes' gains that TensorBoard compares runs by."""


class Findings(Protocol):
    """Numbers of an evaluation beside its metrics, see ``lam.evals.base.Results``."""

    clips: dict[str, tuple[Tensor, Tensor]]
    curves: dict[str, Any]
    skipped: str


@runtime_checkable
class Evaluated(Declaring, Protocol):
    """An evaluation after a pass: ``lam.evals.base.Evaluation``, which stands above runs, as far as it is read here."""

    @property
    def results(self) -> Findings:
        """Numbers of the last pass."""
        ...


def write_results(folder: Path, trainer: pl.Trainer, provenance: Provenance, finished: bool) -> None:
    """Write the numbers of a validation pass into a run's folder; run.json last, so that it vouches for the others.

    Args:
        folder: The run's folder.
        trainer: The trainer after a validation pass.
        provenance: What made the run.
        finished: Whether training has ended; only then the run becomes a row.
    """
    if not trainer.is_global_zero:
        return
    model = trainer.lightning_module
    assert isinstance(model, WorldModel)
    metrics = write_numbers(folder / "metrics.json", logged(trainer) | parameter_counts(model))
    write_evaluations(folder, _evaluations(trainer), model.val_clip_sources)
    if finished:
        provenance.write(folder / "run.json")
    _log_hparams(trainer, provenance, metrics)


def write_evaluations(folder: Path, evaluations: Sequence[Evaluated], val_clip_sources: dict[int, tuple[str, str]]) -> None:
    """Write curves, values of single clips, what was skipped and why, and the columns of the report.

    Args:
        folder: The run's folder.
        evaluations: Evaluations after a pass.
        val_clip_sources: Name and source of the clip at each position.
    """
    write_json(folder / "curves.json", {evaluation.name: evaluation.results.curves for evaluation in evaluations})
    write_json(folder / "skipped.json", skipped(evaluations))
    _write_clips(folder / "clips.parquet", evaluations, val_clip_sources)
    declared(evaluations).write(folder)


def skipped(evaluations: Sequence[Evaluated]) -> dict[str, str]:
    """Return the evaluations that left something out, and why."""
    return {evaluation.name: evaluation.results.skipped for evaluation in evaluations if evaluation.results.skipped}


def skip_lines(trainer: pl.Trainer) -> list[str]:
    """Say which evaluations of the last pass left something out, a line for each reason."""
    names: dict[str, list[str]] = {}
    for name, reason in skipped(_evaluations(trainer)).items():
        names.setdefault(reason, []).append(name)
    return [f"Not measured by {', '.join(those)}: {reason}." for reason, those in names.items()]


def timing_summary(trainer: pl.Trainer) -> str:
    """Return the seconds of each evaluation of the last pass on this process, the slowest first, in one line."""
    seconds = {one.name: float(one.results.curves.get("seconds", 0.0)) for one in _evaluations(trainer)}
    slowest = sorted(seconds, key=lambda name: -seconds[name])
    return f"Evaluations took {sum(seconds.values()):.1f} s: " + ", ".join(f"{name} {seconds[name]:.1f}" for name in slowest)


def write_card(folder: Path) -> None:
    """Write card.json, which others can put beside their own rows: what a row is, what of, and its numbers with intervals.

    Intervals are over sources, clips of one source taken together (cluster-robust). ``lam report FOLDER --cards`` reads it.

    Args:
        folder: The folder of a finished run.
    """
    import pandas as pd
    import torch

    import lam
    from lam.data.manifest import hash_clips

    about, metrics, columns = (json.loads((folder / f"{name}.json").read_text()) for name in ("run", "metrics", "columns"))
    lines = pd.read_parquet(folder / "clips.parquet") if (folder / "clips.parquet").exists() else pd.DataFrame()
    numbers: dict[str, dict[str, Any]] = {key: {"value": value} for key, value in metrics.items()}
    for key, clips in lines.groupby("metric") if len(lines) else ():
        numbers.get(str(key), {}).update(_over_sources(clips["value"].to_numpy(), clips["source"].to_numpy()))
    sources = dict(zip(lines["position"].tolist(), lines["source"], strict=True)) if len(lines) else {}
    card = {
        "card": 1,
        **{name: about[name] for name in ("setting", "family", "knob", "seed")},
        "hashes": {name: about[f"{name}_hash"] for name in ("data", "shared", "config", "evaluation")}
        | {"clips": hash_clips(sources)},
        "versions": {"lam": lam.__version__, "torch": torch.__version__, "code": about["code_revision"]},
        "metrics": numbers,
        "columns": columns,
    }
    write_json(folder / "card.json", card)


def _over_sources(values: NDArray[np.float64], sources: NDArray[np.object_]) -> dict[str, Any]:
    """Return half the 95 % interval of a mean and of how many sources it is; no interval of one source."""
    from scipy.special import stdtrit

    _, member = np.unique(sources, return_inverse=True)
    known = np.isfinite(values)
    sums = np.bincount(member[known], values[known] - values[known].mean())
    count = len(np.unique(member[known]))
    if count < 2:
        return {"sources": count}
    error = np.sqrt(np.square(sums).sum() * count / (count - 1)) / known.sum()
    return {"half": float(stdtrit(count - 1, 0.975) * error), "sources": count}


def source_warning(val_clip_sources: dict[int, tuple[str, str]]) -> list[str]:
    """Say that there is but one validation source, if so: the report shows neither intervals nor tests then."""
    sources = {source for _, source in val_clip_sources.values()}
    if len(sources) != 1:
        return []
    return [
        f"All validation clips are of one source, {sources.pop()}: the report will show neither intervals nor tests, "
        "which would say nothing of other sources. Add recordings to the validation split."
    ]


def write_metrics(path: Path, trainer: pl.Trainer) -> dict[str, float]:
    """Write the metrics that the last pass logged, by key, and return them."""
    return write_numbers(path, logged(trainer))


def parameter_counts(model: WorldModel) -> dict[str, float]:
    """Return how many parameters a model has without its encoder: those of its bottleneck, and all others, its heads."""
    bottleneck = sum(parameter.numel() for parameter in model.bottleneck.parameters())
    encoder = sum(parameter.numel() for parameter in model.encoder.parameters())
    heads = sum(parameter.numel() for parameter in model.parameters()) - encoder - bottleneck
    return {f"{PARAMETERS}bottleneck": float(bottleneck), f"{PARAMETERS}heads": float(heads)}


def write_numbers(path: Path, metrics: dict[str, float]) -> dict[str, float]:
    """Write metrics by key, and return them."""
    write_json(path, metrics)
    return metrics


def logged(trainer: pl.Trainer) -> dict[str, float]:
    """Return the metrics that the last pass over clips logged, without those of training steps before it."""
    return {key: value.item() for key, value in trainer.callback_metrics.items() if not key.startswith(TRAINING)}


def _evaluations(trainer: pl.Trainer) -> list[Evaluated]:
    """Return the evaluations among the callbacks of a trainer."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it in a connector
    return [callback for callback in callbacks if isinstance(callback, Evaluated)]


def _write_clips(path: Path, evaluations: Sequence[Evaluated], val_clip_sources: dict[int, tuple[str, str]]) -> None:
    """Write one line a clip and metric: position, clip, source, metric, value."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = []
    for evaluation in evaluations:
        for key, (positions, values) in evaluation.results.clips.items():
            part = pd.DataFrame({"position": positions.numpy(), "value": values.double().numpy()})
            part["metric"] = f"eval/{evaluation.name}/{key}"
            parts.append(part)
    if not parts:
        return
    table = pd.concat(parts, ignore_index=True)
    names = table["position"].map(val_clip_sources)
    table["clip"], table["source"] = names.str[0], names.str[1]
    columns = ["position", "clip", "source", "metric", "value"]
    # pandas would hand Arrow a Python file, which its threads may still hold while the interpreter ends
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(table[columns], preserve_index=False), sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def _log_hparams(trainer: pl.Trainer, provenance: Provenance, metrics: dict[str, float]) -> None:
    """Log a flat record that TensorBoard's HPARAMS tab compares runs by.

    Numbers stand in it beside the settings. As its metrics they would have to be charts of one dot each too.
    """
    from torch.utils.tensorboard.summary import hparams

    for logger in trainer.loggers:
        if isinstance(logger, pl.loggers.TensorBoardLogger):
            record: dict[str, str | float] = {name: str(getattr(provenance, name)) for name in RECORDED}
            shown = [key for key in metrics if key in SHOWN or key.startswith("eval/probe/gain/")]
            record |= {key.removeprefix("eval/"): metrics[key] for key in shown}
            writer = logger.experiment._get_file_writer()
            for summary in hparams(record, {}):
                writer.add_summary(summary)
            logger.experiment.flush()
