"""TensorBoard with curves alone: of training and validation, and of evaluations that came more than once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

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
        validated = {key for key in metrics if key.startswith((EVALUATION, "val/"))}
        if not step:  # a pass without training: its dot would lie left of the curve it belongs to the right end of
            metrics = {key: value for key, value in metrics.items() if key not in validated}
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
