"""Places: the folder of a run, wherever it was moved, what its relative paths mean there, and where its loggers write."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

Settings = dict[str, Any] | Namespace
"""Settings, as a file or a parser has them."""

CONFIG = "config.yaml"
"""Name of the file with all settings in a run's folder."""
RECORDS = ("started.json", "run.json", "checkpoints", "encoder.safetensors")
"""What beside a config.yaml makes a folder that of a run."""
RUNS = "runs"
"""Folder of runs, where neither a logger nor the trainer names one."""


def given_run(words: list[str]) -> Path | None:
    """Return the folder of the run whose own config is the last among some arguments; None where none is a run's."""
    folder: Path | None = None
    for word in words:
        name, _, value = word.partition("=")
        if name == "--config" and Path(value).name == CONFIG and any((Path(value).parent / one).exists() for one in RECORDS):
            folder = Path(value).parent
    return folder


def search_places(folder: Path) -> list[Path]:
    """Return what a run's relative paths may start from: the working directory, or a folder above the run, if it was moved."""
    return [Path(), *folder.resolve().parents]


def find_folder(value: str, places: list[Path]) -> str:
    """Return the folder that a setting names relative to one of some places; the setting as it is where there is none."""
    return next((str(place / value) for place in places if value and (place / value).is_dir()), value)


def find_shards(shards: Any, places: list[Path]) -> Any:
    """Return a set of shards, or several with their weights, with relative folders found from one of some places."""
    if isinstance(shards, dict):
        return {find_folder(str(name), places): weight for name, weight in shards.items()}
    return find_folder(str(shards), places)


def runs_folder(trainer: Settings) -> Path:
    """Return the folder of runs: where the first logger that names one writes, else what the trainer names, else runs.

    Args:
        trainer: Settings of the trainer.
    """
    for logger in loggers_of(trainer):
        own, given = _parameters(logger).get("save_dir"), logger["init_args"].get("save_dir")
        if own is not None and given and given != own.default:
            return Path(given)
    return Path(trainer.get("default_root_dir") or RUNS)


def loggers_of(trainer: Settings) -> list[Any]:
    """Return the settings of loggers, each a class and its arguments; none where they are switched off."""
    return [one for one in _as_list(trainer.get("logger")) if one not in (None, True, False)]


def place(settings: Settings, folder: Path, places: list[Path]) -> None:
    """Let all that a command writes lie in its run's folder.

    Args:
        settings: All settings, which are changed.
        folder: The run's folder.
        places: Where folders are looked for that the run reads; nowhere but as they are given if empty.
    """
    trainer = settings["trainer"]
    runs, name = runs_folder(trainer), f"{settings.get('name') or folder.parent.name}/{folder.name}"
    for logger in loggers_of(trainer):
        _place_logger(logger, folder, runs, name)
    trainer["default_root_dir"] = str(folder)
    callbacks = [one for one in _as_list(trainer.get("callbacks")) if one]
    saving = [one["init_args"] for one in callbacks if one["class_path"].endswith(".ModelCheckpoint")]
    for one in [*saving, *([settings["checkpoint"]] if "checkpoint" in settings else [])]:
        one["dirpath"] = one["dirpath"] or str(folder / "checkpoints")
    if "latents" in settings:
        settings["latents"]["path"] = settings["latents"]["path"] or folder / "latents.parquet"
    if "data" in settings and places:
        settings["data"]["shards"] = find_shards(settings["data"]["shards"], places)
    encoder = settings["model"].get("encoder.init_args") or {}
    for key, value in encoder.items():
        if isinstance(value, str | Path) and places:
            encoder[key] = find_folder(str(value), places)


def _place_logger(logger: Any, folder: Path, runs: Path, name: str) -> None:
    """Let a logger write into a run's folder, or, where it keeps many runs in one place, know the run by its name."""
    arguments, parameters = logger["init_args"], _parameters(logger)
    if "run_name" in parameters:  # MLflow: one store for all runs
        values = {"run_name": arguments.get("run_name") or name, "save_dir": str(runs / "mlruns")}
    elif "project" in parameters:  # Weights & Biases, whose version is a run's id, the same in no two
        values = {"name": name, "save_dir": str(folder)}
    else:
        values = {"save_dir": str(folder.parent), "name": "", "version": folder.name}
    for key, value in values.items():
        if key in parameters:
            arguments[key] = value


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _parameters(settings: Any) -> Mapping[str, inspect.Parameter]:
    """Return the arguments of the class that settings name."""
    module, _, name = settings["class_path"].rpartition(".")
    return inspect.signature(getattr(importlib.import_module(module), name)).parameters
