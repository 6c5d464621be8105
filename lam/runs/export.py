"""Exporting a trained model into a folder that can be given away: ``lam export RUN OUT``; ``lam.load`` reads it."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file

import lam
from lam.data.index import DataIndex
from lam.data.mixture import open_index
from lam.encoders.cached import Cached
from lam.io import hash_file, write_json, write_text
from lam.runs.load import (
    EXPORT,
    EXPORTED_WEIGHTS,
    load,
    read_checkpoint,
    read_settings,
)
from lam.runs.recovery.locks import lock_run
from lam.runs.recovery.places import find_folder, find_shards, search_places
from lam.runs.recovery.stale import STALE, kept_in, move_aside
from lam.runs.results import SHOWN
from lam.runs.trained import TrainedModel

STATISTICS = ("fps", "pixel_mean", "pixel_std", "actions", "action_statistics", "settings")
"""What an export keeps of the index of the training data."""
PLACES = ("shards", "plain_stream", "cache", "cache_gib", "num_workers")
"""Settings of the data that say where they are on this machine; the hash in export.json says which they are."""
SAFE = (".json", ".safetensors", ".txt")
"""Endings of an encoder's files that an export takes along; none of them is unpickled."""


def export_run(run: Path, out: Path) -> None:
    """Write the model of a finished run into a folder, in which nothing is pickled.

    An export that is there is replaced; where anything in it was added or changed since, it is kept as it is in ``.stale``
    beside the folder.

    It holds model.safetensors (the weights; statistics of the training data that the model uses are among them), config.yaml
    (the settings of model and data), export.json (SHA-256 of the weights, and what made them), data.json (statistics of the
    training data, where it is still there), metrics.json (where the run was validated), README.md (a model card), and the
    frozen encoder's own files if they came from a folder; an encoder from the hub is named only.

    Args:
        run: Folder of the run.
        out: Folder to write.

    Raises:
        FileExistsError: The folder holds something else, or another process exports to it.
        ValueError: The model cannot be used without its cached features.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / EXPORT).exists())):
        raise FileExistsError(f"{out} is there and is no export. Choose another folder, or remove it.")
    settings, model = read_settings(run), load(run)
    if isinstance(model.world.encoder, Cached):
        raise ValueError(
            f"{run} was trained on cached states and cannot see pictures, so an export of it would be of no use. Train on the "
            "pictures themselves, with the encoder that made the cache as model.encoder."
        )
    with lock_run(out):
        part = out.with_name(f".{out.name}.part")  # whole or not at all
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        part.mkdir(parents=True)
        _write(run, settings, model, part)
        if out.exists():
            move_aside(out, out.parent / STALE)
        part.rename(out)
        for old in kept_in(out.parent / STALE, out.name):
            if _is_as_written(old):
                shutil.rmtree(old)
            else:
                print(f"The export before it had been changed, or is of an earlier release; it is kept in {old}.")
        with contextlib.suppress(OSError):
            (out.parent / STALE).rmdir()


def _write(run: Path, settings: dict[str, Any], model: TrainedModel, part: Path) -> None:
    """Write all files of an export."""
    save_file({name: value.contiguous() for name, value in read_checkpoint(run).items()}, part / EXPORTED_WEIGHTS)
    provenance = json.loads((run / "trained.json").read_text())
    exported = {
        "name": settings["name"],
        "seed_everything": settings["seed_everything"],
        "model": settings["model"] | {"encoder": _take_encoder_along(settings["model"]["encoder"], run, part)},
        "data": {key: value for key, value in settings["data"].items() if key not in PLACES},
    }
    write_text(part / "config.yaml", yaml.safe_dump(exported, sort_keys=False))
    index = _training_data(find_shards(settings["data"]["shards"], search_places(run)))
    if index is not None:
        write_json(part / "data.json", {key: value for key, value in asdict(index).items() if key in STATISTICS}, indent=1)
    if (run / "metrics.json").exists():
        shutil.copyfile(run / "metrics.json", part / "metrics.json")
    write_text(part / "README.md", model_card(model, exported, provenance, index, _metrics(run)))
    files = _hashes(part)
    about = {"lam": lam.__version__, "sha256": files[EXPORTED_WEIGHTS], "provenance": provenance, "files": files}
    write_json(part / EXPORT, about, indent=1)


def _hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files in a folder but for export.json, by their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / EXPORT)
    return {str(path.relative_to(folder)): hash_file(path) for path in files}


def _is_as_written(export: Path) -> bool:
    """Tell whether an export holds what was written and nothing else; that of an earlier release cannot be told."""
    if not (export / EXPORT).exists():
        return not any(export.iterdir())
    return bool(json.loads((export / EXPORT).read_text()).get("files") == _hashes(export))


def model_card(
    model: TrainedModel,
    settings: dict[str, Any],
    provenance: dict[str, Any],
    index: DataIndex | None,
    metrics: dict[str, float],
) -> str:
    """Return the text of a model card: what the model is, what it was trained on, how good it is, how to load it."""
    world, knob = model.world, provenance["knob"]
    bottleneck = f"{type(world.bottleneck).__name__} ({provenance['family']}{f', {_knob(model)} {knob}' if knob else ''})"
    rate = "unknown" if index is None else f"{index.fps / model.stride:g} a second"
    lines = [
        *("---", "library_name: lam", "tags: [latent-action-model, world-model]", "---", ""),
        *(f"# {settings['name']}", ""),
        "A latent action model: it was trained on video alone to say what happens between two states, and to predict the",
        "second state from the first and that latent action. Trained with `lam`.",
        *("", "| | |", "| --- | --- |"),
        f"| setting | {provenance['setting']}, seed {provenance['seed']} |",
        f"| bottleneck | {bottleneck} |",
        f"| latent action | {world.bottleneck.num_latents} x {world.bottleneck.dim} numbers a transition |",
        f"| encoder | {type(world.encoder).__name__}, {' x '.join(map(str, world.encoder.grid))} tokens a state |",
        f"| video | {model.image_size} x {model.image_size} pixels, {model.frames_per_state} frames a state, "
        f"{model.frames} frames a window |",
        f"| frame rate | {rate} |",
        f"| parameters | {sum(parameter.numel() for parameter in world.parameters()):,} |",
        f"| training data | hash {provenance['data_hash']} |",
        f"| code revision | {provenance['code_revision']} |",
        *("", "## How to load it", "", "```python", "import lam", ""),
        'model = lam.load("this folder")',
        "z, codes, bits = model.label(video)  # video (F, H, W, 3) uint8 at the frame rate above",
        "frames, states = model.imagine(video[:2], z)  # predicted pictures and states",
        *("```", "", "Nothing in this folder is unpickled; the weights are checked by the SHA-256 in export.json."),
    ]
    if metrics:
        lines += ["", "## Metrics", "", "On the validation clips of its setting; metrics.json has all.", ""]
        lines += ["| metric | value |", "| --- | --- |", *(f"| `{key}` | {value:.4g} |" for key, value in metrics.items())]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Run ``lam export``."""
    parser = argparse.ArgumentParser(
        prog="lam export",
        description="Write a trained model into a folder that can be given away: weights as safetensors, settings, statistics "
        "of the data and a model card. lam.load reads it.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a finished run, runs/<setting>/<row>/seed<k>")
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="folder to write; an export that is there is replaced, and kept in .stale beside it if it was changed",
    )
    options = parser.parse_args(arguments)
    export_run(options.run, options.out)
    print(f'The model is in {options.out}. Load it: lam.load("{options.out}")')


def _take_encoder_along(encoder: dict[str, Any], run: Path, out: Path) -> dict[str, Any]:
    """Copy the folders of weights that an encoder's settings name into ``out/encoder``; return the settings that name those.

    Raises:
        ValueError: A folder has no weights in a form that needs no unpickling.
    """
    arguments = dict(encoder.get("init_args") or {})
    places = search_places(run)
    for name, value in arguments.items():
        if not isinstance(value, str) or not Path(folder := find_folder(value, places)).is_dir():
            continue
        files = [path for path in sorted(Path(folder).iterdir()) if path.suffix in SAFE and path.is_file()]
        if not any(path.suffix == ".safetensors" for path in files):
            raise ValueError(
                f"{folder}, which the encoder reads, has no .safetensors file. Save its weights so: an export holds no pickles."
            )
        (out / "encoder" / name).mkdir(parents=True)
        for path in files:
            shutil.copyfile(path, out / "encoder" / name / path.name)
        arguments[name] = f"encoder/{name}"
    return encoder | {"init_args": arguments}


def _training_data(shards: Mapping[str, float] | Path | str) -> DataIndex | None:
    """Return the index of the training data; None where the data are not there any more."""
    try:
        return open_index(shards)
    except OSError:
        return None


def _metrics(run: Path) -> dict[str, float]:
    """Return the metrics that a card shows, of those that a run has."""
    if not (run / "metrics.json").exists():
        return {}
    metrics: dict[str, float] = json.loads((run / "metrics.json").read_text())
    shown = ("val/prediction", *SHOWN)
    return {key: value for key, value in metrics.items() if key in shown or key.startswith("eval/probe/gain/")}


def _knob(model: TrainedModel) -> str:
    """Return the name of the bottleneck's capacity knob."""
    return type(model.world.bottleneck).knob or "knob"
