"""How a run ended, in the lines that a person needs: its error beside that of doing nothing, where it lies, what comes next."""

from __future__ import annotations

import shlex
from pathlib import Path

import lightning.pytorch as pl
from typing_extensions import override

ERROR, COPY_ERROR = "val/prediction", "eval/capacity/copy_error"


class LastPass(pl.Callback):
    """Remembers the step of the last whole pass over validation clips, so that none is made twice of the same weights."""

    def __init__(self) -> None:
        self.step = -1

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.step = trainer.global_step


def error_line(metrics: dict[str, float], clips: dict[int, tuple[str, str]]) -> str:
    """Say what the error is of, and what predicting that nothing changes would have.

    Args:
        metrics: Metrics of a pass by key.
        clips: Name and source of the clip at each position.
    """
    error, copy_error = metrics[ERROR], metrics.get(COPY_ERROR, 1.0)  # the unit of errors
    sources = len({source for _, source in clips.values()})
    verdict = "" if error < copy_error else " It has learned nothing that helps."
    return (
        f"Held-out error {error:.3f}, where predicting that nothing changes has {copy_error:.3f} "
        f"({_counted(len(clips), 'clip')} of {_counted(sources, 'source')}).{verdict}"
    )


def where_it_lies(folder: Path) -> list[str]:
    """Say what is in a run's folder, how to look at it and what comes next.

    Args:
        folder: The run's folder, with its numbers and pictures.
    """
    quoted = shlex.quote(str(folder))
    pictures = sorted(path.name for path in (folder / "boards").glob("*.*"))
    shown = f", pictures in boards/ ({', '.join(pictures)})" if pictures else ""
    return [
        f"Run folder: {folder} has config.yaml, checkpoints/last.ckpt, all numbers in metrics.json{shown}.",
        f"Curves and pictures: tensorboard --logdir {quoted}",
        "Next, a latent action for every transition: "
        f"lam predict --config {quoted}/config.yaml --ckpt_path {quoted}/checkpoints/last.ckpt",
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
