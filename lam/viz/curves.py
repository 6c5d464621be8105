"""TensorBoard with curves alone: of training and validation, and of evaluations that came more than once."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from typing_extensions import override

from lam.io import write_text

Number = TypeVar("Number")
EVALUATION = "eval/"
SHOWN_AS = "val_eval/"
"""Begins tags of evaluations: tags are in the order of their names, and curves of train and val are to come first."""


class CurveLogger(TensorBoardLogger):
    """Writes what makes a curve; a number of an evaluation that came once is in the HPARAMS tab and in metrics.json.

    Tags of training and validation come before those of evaluations and pictures.

    Lightning adds a chart of the epoch, which says nothing where shards are read over and over, and a run that is validated
    once would show some seventy charts of one dot.
    """

    @cached_property
    def _held(self) -> dict[str, tuple[float, int]]:
        """Return the first number of each evaluation with its step, until a second one comes."""
        return {}

    @cached_property
    def _goes_on(self) -> bool:
        """Tell whether the folder has curves of an earlier process, which first numbers of this one continue."""
        assert self.experiment is not None  # has a file there from now on
        return len(list(Path(self.log_dir).glob("events*"))) > 1

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        metrics = _of_training(metrics, step)
        shown = {key: value for key, value in metrics.items() if key != "epoch" and not key.startswith(EVALUATION)}
        for key, value in metrics.items():
            if key.startswith(EVALUATION) and step and (self._goes_on or self._is_second(key, value, step)):
                shown[_tag(key)] = value
        if shown:
            super().log_metrics(shown, step)

    def _is_second(self, key: str, value: float, step: int) -> bool:
        """Hold the first number of a key; write it before the second, at another step, is written."""
        if key not in self._held:
            self._held[key] = (value, step)
        first, at = self._held[key]
        if at == step:
            return False
        if at > 0:
            super().log_metrics({_tag(key): first}, at)
            self._held[key] = (first, -1)
        return True


def _tag(key: str) -> str:
    """Return the tag of a number of an evaluation."""
    return SHOWN_AS + key.removeprefix(EVALUATION)


class CurveTable(CSVLogger):
    """Writes curves to metrics.csv in the run's folder, and goes on where an earlier process of the run has ended.

    Lightning's own deletes that file when the run is resumed or validated. ``CSVLogger`` in settings means this one.

    Args:
        save_dir: Folder of runs.
        name: Folder in it.
        version: Folder in that.
        prefix: Begins the names of columns.
        flush_logs_every_n_steps: Rows that are kept before they are written.
    """

    def __init__(
        self,
        save_dir: str = "runs",
        name: str = "",
        version: str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
    ) -> None:
        super().__init__(save_dir, name, version, prefix, flush_logs_every_n_steps)

    @property
    @override
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            self._experiment = _GoingOn(self.log_dir)
        assert isinstance(self._experiment, ExperimentWriter)
        return self._experiment

    @override
    @rank_zero_only
    def log_metrics(  # type: ignore[override]  # its two bases differ
        self, metrics: dict[str, Tensor | float], step: int | None = None
    ) -> None:
        shown = {key: value for key, value in _of_training(metrics, step).items() if key != "epoch"}
        if shown:
            super().log_metrics(shown, step)


class _GoingOn(ExperimentWriter):
    """Rows of metrics.csv after those that are there; a line that a kill cut off is dropped."""

    @override
    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        text = path.read_text()
        if not text.endswith("\n"):
            write_text(path, text := text[: text.rfind("\n") + 1])
        self.metrics_keys = next(csv.reader(io.StringIO(text)), [])
        if not self.metrics_keys:
            path.unlink()

    @override
    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path, text = Path(self.metrics_file_path), io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=fieldnames)
        writer.writeheader()
        with path.open(newline="") as file:
            writer.writerows(csv.DictReader(file))
        write_text(path, text.getvalue())


def _of_training(metrics: Mapping[str, Number], step: int | None) -> dict[str, Number]:
    """Return what belongs to a curve: in a pass without training not what was validated, which has the step 0.

    Its dot would lie left of the curve it belongs to the right end of.
    """
    return {key: value for key, value in metrics.items() if step or not key.startswith((EVALUATION, "val/"))}
