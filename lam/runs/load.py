"""Loading what a run left behind, from the run's own folder or from one that ``lam export`` wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor

import lam.bottlenecks
import lam.encoders
import lam.optimizers  # noqa: F401  parts are imported so that a run's config finds them by their short names
from lam.data.datamodule import ClipDataModule
from lam.io import hash_file
from lam.io.trust import UntrustedError, explain_refusal, only_trusted_imports
from lam.models.latent_action import LatentActionModel
from lam.runs.configs import read_yaml
from lam.runs.recovery.checkpoints import read_tensors
from lam.runs.recovery.places import find_folder, find_shards, search_places
from lam.runs.trained import TrainedModel
from lam.runs.upgrade import upgrade

EXPORT = "export.json"
"""The file that makes a folder an export: which weights belong to it and what made them."""
EXPORTED_WEIGHTS = "model.safetensors"


def load(path: Path | str, device: torch.device | str = "cpu") -> TrainedModel:
    """Load a trained model for use: in eval mode, without the data it was trained on.

    Args:
        path: Folder of a finished run, wherever it was moved, or one that ``lam export`` wrote; or the name of such an export
            on the Hugging Face hub, ``hub:owner/name`` or ``owner/name``, where there is no such folder.
        device: Where the model computes.

    Raises:
        FileNotFoundError: There is no such folder, or files are missing in it.
        ValueError: Its weights are not those that training left, or its settings cannot be understood.
    """
    name, folder = str(path), Path(path)
    if name.startswith("hub:") or (not folder.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", name)):
        folder = download(name.removeprefix("hub:"))
    elif not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. Give the folder of a run, runs/<setting>/<row>/seed<k>.")
    with torch.random.fork_rng(devices=[]):  # building a model draws weights, which are replaced; callers' draws stay theirs
        return (_load_export if (folder / EXPORT).exists() else _load_trained)(folder).to(device)


def load_run(folder: Path, shards: Path | None = None) -> tuple[LatentActionModel, ClipDataModule]:
    """Load the trained world model of a run's folder and the data it was trained on, or the same windows of another set.

    Raises:
        FileNotFoundError: There is no run, or its training has not ended.
    """
    settings = read_settings(folder)
    model = build(settings["model"], search_places(folder))
    fill(model, read_checkpoint(folder))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ClipDataModule, "data")
    where = find_shards(settings["data"]["shards"], search_places(folder)) if shards is None else str(shards)
    given = {"data": settings["data"] | {"shards": where}}
    with only_trusted_imports():
        data: ClipDataModule = parser.instantiate_classes(parser.parse_object(given)).data
    return model, data


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the settings of a finished run.

    Raises:
        FileNotFoundError: There is no run, or its training has not ended.
    """
    for path in (folder / "config.yaml", folder / "checkpoints" / "last.ckpt", folder / "trained.json"):
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: {folder} is not the folder of a finished run. Train it with lam fit.")
    return read_config(folder)


def build(settings: dict[str, Any], places: list[Path]) -> LatentActionModel:
    """Build a model from its settings, with weights that are still to be filled in.

    Args:
        settings: What the config says under ``model``.
        places: Folders relative to which folders of the encoder are looked for, the first that has them.

    Raises:
        UntrustedError: The settings name classes of a package that is neither known nor trusted (``lam.io.trust``).
        ValueError: The settings do not fit the classes they name.
    """
    encoder = settings["encoder"]
    arguments = {
        name: find_folder(value, places) if isinstance(value, str) else value
        for name, value in (encoder.get("init_args") or {}).items()
    }
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(LatentActionModel, "model")
    try:
        with only_trusted_imports():
            parsed = parser.parse_object({"model": settings | {"encoder": encoder | {"init_args": arguments}}})
            model: LatentActionModel = parser.instantiate_classes(parsed).model
    except ArgumentError as error:
        if (refusal := explain_refusal(str(error))) is not None:
            raise UntrustedError(refusal) from error
        raise ValueError(
            f"The settings of the model do not fit the classes they name: {' '.join(str(error).split())} If one of them is "
            "your own, see that Python finds its module (PYTHONPATH)."
        ) from error
    return model


def fill(model: LatentActionModel, weights: dict[str, Tensor]) -> None:
    """Give a model its weights, all but those of its frozen encoder, which it has already."""
    checkpoint = {"state_dict": dict(weights)}
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])


def read_checkpoint(folder: Path) -> dict[str, Tensor]:
    """Read the weights of a run, after a look whether they are those that training left; nothing is unpickled but tensors.

    Raises:
        DamagedCheckpointError: They are not.
    """
    weights: dict[str, Tensor] = read_tensors(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return weights


def _load_trained(folder: Path) -> TrainedModel:
    """Load the model of a run's folder."""
    settings = read_settings(folder)
    model = build(settings["model"], search_places(folder))
    fill(model, read_checkpoint(folder))
    return TrainedModel(model, settings["data"]["frames"], settings["data"]["stride"])


def _load_export(folder: Path) -> TrainedModel:
    """Load the model of an exported folder."""
    from safetensors.torch import load_file

    for name in ("config.yaml", EXPORTED_WEIGHTS):
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder / name} is missing. Export the run again, or copy the whole folder.")
    if json.loads((folder / EXPORT).read_text())["sha256"] != hash_file(folder / EXPORTED_WEIGHTS):
        raise ValueError(f"{folder / EXPORTED_WEIGHTS} is not the file that {EXPORT} describes. Copy the whole folder again.")
    settings = read_config(folder)
    model = build(settings["model"], [folder])
    fill(model, load_file(folder / EXPORTED_WEIGHTS))
    return TrainedModel(model, settings["data"]["frames"], settings["data"]["stride"])


def read_config(folder: Path) -> dict[str, Any]:
    """Read the settings in a folder, of this or an earlier release."""
    settings: dict[str, Any] = upgrade(read_yaml(folder / "config.yaml"))
    return settings


def download(name: str) -> Path:
    """Download an export from the hub.

    Raises:
        FileNotFoundError: There is none, or the hub cannot be reached.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise FileNotFoundError(
            f"There is no folder {name}, and the hub cannot be asked without huggingface_hub: pip install 'lam[hub]'."
        ) from error
    try:
        # no other file of an export is needed, and none of these is unpickled
        folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.yaml", "*.safetensors", "*.txt", "*.md"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"There is no folder {name}, and the hub gives no such model ({' '.join(str(error).split())})."
        ) from error
    if not (folder / EXPORT).exists():
        raise FileNotFoundError(f"{name} on the hub has no {EXPORT}: it was not written by lam export.")
    return folder
