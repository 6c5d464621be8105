"""Provenance of a run: its settings, data and code, as hashes that tell whether it is what one would make today."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lam.io import write_json
from lam.io.trust import check_import
from lam.runs.configs import read_yaml
from lam.runs.upgrade import upgrade

HASH_VERSION = 3
"""How settings are hashed: since 2 those that differ from their defaults, classes by their names without modules; since 3
heads and the layout of the latent apart from the rest that rows share."""

HASHED_TRAINER_KEYS = (
    *("precision", "max_steps", "max_epochs", "max_time", "accumulate_grad_batches"),
    *("gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches", "overfit_batches"),
)
"""Trainer settings that change what a run learns; the rest changes only how fast, where and how loudly."""

FAMILY_KEY = "bottleneck"
"""The setting of the model that a family's overlay sets; all others must be equal in the rows of a bottleneck table."""

HEADS_KEYS = ("inverse_model", "forward_model", "latent_dim", "num_latents")
"""Settings of the model that a published system brings beside its bottleneck: its heads, and the latent between them."""

UNHASHED_DATA_KEYS = (
    *("shards", "seed", "num_workers", "predict_split", "damaged_share", "decoder", "cache", "cache_gib", "labels"),
    "val_windows",
)
"""Settings of the data that other hashes stand for (the data's own, the seed, the inverse model), or that change no weight."""

FAMILY_DATA_KEYS = ("cuts",)
"""Settings of the data that a family's overlay may set, as the positive control of leakage does."""


@dataclass(frozen=True)
class Provenance:
    """Settings, data and code that made a run, as hashes; a run whose hashes differ from today's settings is stale.

    Attributes:
        setting: First part of the run's name.
        family: Bottleneck family, from the run's name.
        knob: The knob's value as it was typed, empty where there is none.
        seed: Seed of weights, order of data and noise.
        config_hash: Hash of the settings that shape the weights.
        shared_hash: Hash of those that all runs of a setting share: all but the seed, the bottleneck and the heads, and whether
            they begin with weights of other runs.
        evaluation_hash: Hash of the evaluations' settings; when only this changed, a run is validated again, not trained.
        data_hash: Hash of the training data's index.
        code_revision: Revision of the checkout; recorded, never a reason to train again.
        hash_version: How the settings were hashed.
        heads: Hashes of the heads and of the latent between them, by the names of these settings (``HEADS_KEYS``): equal in
            all rows of a bottleneck table.
        steps: Optimizer steps that the weights have taken; None before the training has ended, and where none were recorded.
    """

    setting: str
    family: str
    knob: str
    seed: int
    config_hash: str
    shared_hash: str
    evaluation_hash: str
    data_hash: str
    code_revision: str
    hash_version: int = 1
    heads: dict[str, str] = field(default_factory=dict)
    steps: int | None = None

    def same_weights(self, other: Provenance) -> bool:
        """Return whether both would train to the same weights, as far as settings and data tell."""
        return (self.config_hash, self.data_hash) == (other.config_hash, other.data_hash)

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, asdict(self))


def provenance_of(settings: dict[str, Any], data_hash: str, revision: str) -> Provenance:
    """Return the provenance of a run of a world model.

    Args:
        settings: All settings of the run, as config.yaml holds them.
        data_hash: Hash of the data's index.
        revision: Revision of the code.
    """
    from lam.data.datamodule import ClipDataModule
    from lam.models.latent_action import LatentActionModel

    setting, family, knob = split_name(settings["name"])
    shaping = shaping_settings(settings, LatentActionModel, ClipDataModule)
    model, data, trainer = shaping["model"], shaping["data"], shaping["trainer"]
    shared = {key: value for key, value in model.items() if key not in (FAMILY_KEY, *HEADS_KEYS)}
    shared_data = {key: value for key, value in data.items() if key not in FAMILY_DATA_KEYS}
    seed = int(settings["seed_everything"])
    adapter = [short(settings["adapter"])] if "adapter" in settings else []
    warm = [{"init_sha256": settings["init_sha256"]}] if settings.get("init_sha256") else []  # the weights it began with
    return Provenance(
        setting=setting,
        family=family,
        knob=knob,
        seed=seed,
        config_hash=digest(model, data, trainer, seed, *adapter, *warm),
        shared_hash=digest(shared, shared_data, trainer, *("warm" for _ in warm)),
        evaluation_hash=digest(short(settings["trainer"]["callbacks"]), settings["data"]["val_windows"]),
        data_hash=data_hash,
        code_revision=revision,
        hash_version=HASH_VERSION,
        heads={key: digest(model.get(key)) for key in HEADS_KEYS},
    )


def shaping_settings(
    settings: dict[str, Any], model_type: Callable[..., Any], data_type: Callable[..., Any] | None
) -> dict[str, Any]:
    """Return the settings that shape what a run learns and differ from their defaults.

    Args:
        settings: All settings of the run, as config.yaml holds them.
        model_type: Class of the model.
        data_type: Class of the data module, where the model does not bring its own data.
    """
    from lightning.pytorch import Trainer

    data = {key: value for key, value in settings["data"].items() if key not in UNHASHED_DATA_KEYS} if data_type else {}
    return {
        "model": changed(settings["model"], model_type),
        "data": changed(data, data_type) if data_type else {},
        "trainer": changed({key: settings["trainer"][key] for key in HASHED_TRAINER_KEYS}, Trainer),
    }


def read_provenance(
    path: Path, recompute: Callable[[dict[str, Any], str, str], Provenance] = provenance_of
) -> Provenance | None:
    """Return what a run.json or started.json says, or None where there is none that can be read.

    Hashes of earlier releases are made anew from the config.yaml beside it, so that no finished run is stale for them.

    Args:
        path: The file.
        recompute: Makes provenance of settings, the data's hash and the code's revision.
    """
    try:
        found = Provenance(**json.loads(path.read_text()))
    except (FileNotFoundError, TypeError, json.JSONDecodeError):  # nothing there, other fields, or cut off while written
        return None
    config = path.parent / "config.yaml"
    if found.hash_version == HASH_VERSION or not config.exists():
        return found
    again = recompute(upgrade(read_yaml(config)), found.data_hash, found.code_revision)
    # a row may have been moved to another name
    return replace(again, **{key: getattr(found, key) for key in ("setting", "family", "knob", "seed", "steps")})


def renew_hashes(folder: Path) -> None:
    """Write files of earlier releases in a run's folder with hashes of today, for tables of old and new rows."""
    for path in (folder / name for name in ("started.json", "trained.json", "run.json")):
        if path.exists() and json.loads(path.read_text()).get("hash_version") != HASH_VERSION:
            found = read_provenance(path)
            if found is not None:
                found.write(path)


def changed(settings: dict[str, Any], owner: Callable[..., Any]) -> dict[str, Any]:
    """Return the settings of a class that differ from its defaults, so that a new argument changes no hash."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(owner).parameters.items()}
    return {
        key: short(value)
        for key, value in settings.items()
        if key not in defaults or json.dumps(value, default=str) != json.dumps(defaults[key], default=str)
    }


def short(value: Any) -> Any:
    """Return settings with classes by their names alone, so that moving a class changes no hash."""
    if isinstance(value, list):
        return [short(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not isinstance(value.get("class_path"), str):
        return {key: short(item) for key, item in value.items()}
    module, _, name = value["class_path"].rpartition(".")
    rest = {**value.get("init_args", {}), **value.get("dict_kwargs", {})}
    try:
        check_import(value["class_path"], "A run")
        owner = getattr(importlib.import_module(module), name)
    # a class from elsewhere that is not here now, or is not trusted: its defaults are unknown
    except (ImportError, AttributeError, ValueError):
        return {"class": name, **short(rest)}
    return {"class": name, **changed(rest, owner)}


def digest(*parts: Any) -> str:
    """Return a short hash of settings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def split_name(name: str) -> tuple[str, str, str]:
    """Return setting, family and knob of a run's name ``<setting>/<family>@<knob>``."""
    setting, _, row = name.rpartition("/")
    family, _, knob = row.partition("@")
    return setting, family, knob


def code_revision() -> str:
    """Return the short hash of the checked-out revision, or "unknown" outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return "unknown"
    return result.stdout.strip() or "unknown"
