"""Resuming: a run goes on as what it is, or not at all, and its records are written when everything has been loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from typing_extensions import override

from lam.runs.configs import read_yaml
from lam.runs.errors import SettingsError
from lam.runs.recovery.places import CONFIG
from lam.runs.upgrade import upgrade

DEFAULT = "at its default"
"""What is said of a setting that was not given."""


class Beginning(pl.Callback):
    """Writes what a run is when its first step begins: no setting that failed to load can have left a trace before.

    Args:
        write: Writes the records; called on the first process alone.

    Attributes:
        begun: Whether there was anything left to train.
        loaded_step: Optimizer steps that loaded weights had taken; 0 where none were loaded.
    """

    def __init__(self, write: Callable[[], None]) -> None:
        self._write = write
        self.begun = False
        self.loaded_step = 0

    @override
    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.loaded_step = checkpoint["global_step"]

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begun = True
        if trainer.is_global_zero:
            self._write()


def check_resumed(
    folder: Path,
    checkpoint: Path,
    places: list[Path],
    today: dict[str, Any],
    shaping: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """Refuse to go on with a run from another one's checkpoint, or with settings that would make it another run.

    Args:
        folder: The run's folder.
        checkpoint: What is gone on from.
        places: Folders that the run's checkpoints are written to.
        today: All settings that were given.
        shaping: Picks those that shape what is trained.

    Raises:
        SettingsError: The checkpoint is not this run's, or the settings are not.
    """
    if checkpoint.resolve().parent not in [place.resolve() for place in places] or not (folder / CONFIG).exists():
        owner = owner_of(checkpoint)
        config = f" (--config {owner / CONFIG})" if owner else ""
        raise SettingsError(
            f"{checkpoint} is no checkpoint of {folder}, and a run goes on from its own alone. Give the settings of the run "
            f"that it is of{config}, or begin a new run from its weights: --init_from {owner or checkpoint} instead of "
            "--ckpt_path."
        )
    different = differences(shaping(upgrade(read_yaml(folder / CONFIG))), shaping(today))
    if different:
        raise SettingsError(
            f"{folder} was begun with {', '.join(different)}. A run goes on with its own settings, as its learning rate and "
            f"its row follow from them: leave that out, or begin a new run from its weights with --init_from {folder} and "
            "another --name."
        )


def owner_of(checkpoint: Path) -> Path | None:
    """Return the folder of the run that a checkpoint lies in, where it lies in one."""
    folder = checkpoint.resolve().parents[1]
    return folder if (folder / CONFIG).exists() else None


def differences(before: dict[str, Any], today: dict[str, Any]) -> list[str]:
    """Return in words which settings differ: ``trainer.max_steps 250, not 100``."""
    one, other = _flat(before), _flat(today)
    pairs = {key: (one.get(key, DEFAULT), other.get(key, DEFAULT)) for key in sorted(one.keys() | other.keys())}
    return [f"{key} {was}, not {given}" for key, (was, given) in pairs.items() if was != given]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by their keys in full; a class with arguments has the key of what it is given for."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = prefix.rstrip(".") if key == "class" else f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
