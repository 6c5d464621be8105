"""Loading what a run left behind."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from jsonargparse import ArgumentParser

import lam.bottlenecks
import lam.encoders
import lam.optimizers  # noqa: F401  parts are imported so that a run's config finds them by their short names
from lam.data.datamodule import ClipDataModule
from lam.models.latent_action import LatentActionModel
from lam.runs.upgrade import upgrade


def load_run(folder: Path, shards: Path | None = None) -> tuple[LatentActionModel, ClipDataModule]:
    """The trained world model of a run's folder and the data it was trained on, or the same windows of another set.

    Raises:
        FileNotFoundError: There is no run, or its training has not ended.
    """
    config, weights = folder / "config.yaml", folder / "checkpoints" / "last.ckpt"
    for path in (config, weights, folder / "trained.json"):
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: {folder} is not the folder of a finished run. Train it with lam fit.")
    settings = upgrade(yaml.safe_load(config.read_text()))
    if shards is not None:
        settings["data"]["shards"] = str(shards)
    parser = ArgumentParser()
    parser.add_class_arguments(LatentActionModel, "model")
    parser.add_class_arguments(ClipDataModule, "data")
    parsed = parser.parse_object({"model": settings["model"], "data": settings["data"]})
    built = parser.instantiate_classes(parsed)
    checkpoint = torch.load(weights, map_location="cpu", weights_only=True)
    built.model.on_load_checkpoint(checkpoint)
    built.model.load_state_dict(checkpoint["state_dict"])
    return built.model, built.data
