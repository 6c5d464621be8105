"""Warm starts: a new run that begins with the weights of another one, and says which it took."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lam.io import hash_file
from lam.runs.errors import SettingsError
from lam.runs.load import EXPORT, EXPORTED_WEIGHTS, download
from lam.runs.recovery.checkpoints import read_tensors

LAST = Path("checkpoints", "last.ckpt")
OWN = ("encoder.", "copy_error")
"""Begin the names of what a new run has of its own: its encoder is what its settings say, its unit is that of its data."""


def find_weights(source: str) -> Path:
    """Return the file of weights that a source names.

    Args:
        source: Folder of a run or of what ``lam export`` wrote, the name of such an export on the hub (``hub:owner/name`` or
            ``owner/name``, where there is no such folder), or a checkpoint.

    Raises:
        SettingsError: There is nothing of the kind.
    """
    path = Path(source)
    if path.is_file():
        return path
    if source.startswith("hub:") or (not path.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", source)):
        path = download(source.removeprefix("hub:"))
    found = next((path / name for name in (EXPORTED_WEIGHTS, LAST) if (path / name).is_file()), None)
    if found is None:
        raise SettingsError(
            f"--init_from {source} names no weights: expected the folder of a run (with {LAST}), one that lam export wrote, or "
            "a checkpoint."
        )
    return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read weights after a look whether they are those that training left; nothing is unpickled but tensors.

    Raises:
        DamagedCheckpointError: A checkpoint is not the file that training left.
        ValueError: Exported weights are not those that export.json describes.
    """
    if path.name != EXPORTED_WEIGHTS:
        weights: dict[str, Tensor] = read_tensors(path)["state_dict"]
        return weights
    from safetensors.torch import load_file

    about = path.with_name(EXPORT)
    if about.exists() and json.loads(about.read_text())["sha256"] != hash_file(path):
        raise ValueError(f"{path} is not the file that {EXPORT} describes. Copy the whole folder again.")
    return load_file(path)


def take_weights(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Any]:
    """Give a model those of some weights that it has a place of the same shape for.

    Args:
        model: The model, as it was drawn.
        weights: What another model had learned, by name.

    Returns:
        Names of what was taken, and by name in words why something was left: on either side, or of another shape.

    Raises:
        SettingsError: Nothing fits.
    """
    here = {name: value for name, value in model.state_dict().items() if not name.startswith(OWN)}
    there = {name: value for name, value in weights.items() if not name.startswith(OWN)}
    taken = {name: value for name, value in there.items() if name in here and here[name].shape == value.shape}
    left = {
        name: f"{_shape(there[name])} there, {_shape(here[name])} here" for name in here.keys() & there.keys() - taken.keys()
    }
    left |= {name: f"{_shape(here[name])} here alone, as drawn" for name in here.keys() - there.keys()}
    left |= {name: f"{_shape(there[name])} there alone" for name in there.keys() - here.keys()}
    if not taken:
        raise SettingsError(
            f"Nothing of {len(there)} weights fits this model: {_lines(left)}. Give the model the sizes of that run."
        )
    model.load_state_dict(taken, strict=False)
    return {"taken": sorted(taken), "left": dict(sorted(left.items()))}


def summary(source: str, digest: str, found: dict[str, Any]) -> str:
    """Say what was taken from where, and what was left and why."""
    taken, left = found["taken"], found["left"]
    text = f"lam: took {len(taken)} of {len(taken) + len(left)} weights from {source} (SHA-256 {digest[:12]}...)"
    return f"{text}; left: {_lines(left)}." if left else f"{text}."


def _lines(left: dict[str, str]) -> str:
    return "".join(f"\n  {name}: {why}" for name, why in sorted(left.items()))


def _shape(value: Tensor) -> str:
    return f"({', '.join(map(str, value.shape))})"
