"""The files of a trained autoencoder: encoder.safetensors holds the weights, encoder.json says what network they fit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from lam.encoders.autoencoder.network import ConvAutoencoder

_WEIGHTS = "encoder.safetensors"
_DESCRIPTION = "encoder.json"


@dataclass(frozen=True)
class TrainedAutoencoder:
    """A trained autoencoder, as loaded from its files.

    Attributes:
        network: The network with its weights.
        image_size: Height and width of the frames it was trained on, in pixels.
        digest: SHA-256 of the weights' file.
    """

    network: ConvAutoencoder
    image_size: int
    digest: str

    @property
    def grid(self) -> tuple[int, int]:
        """Return rows and columns of a state."""
        side = self.image_size // self.network.pixels_per_feature
        return side, side


def save_autoencoder(network: ConvAutoencoder, image_size: int, folder: Path) -> None:
    """Write both files, each whole or not at all."""
    weights = save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
    description = {
        "image_size": image_size,
        "dim": network.dim,
        "width": network.width,
        "num_halvings": network.num_halvings,
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((_WEIGHTS, weights), (_DESCRIPTION, json.dumps(description, indent=1).encode() + b"\n")):
        temporary = folder / f".{name}.tmp"
        temporary.write_bytes(content)
        temporary.replace(folder / name)


def load_autoencoder(folder: Path | str) -> TrainedAutoencoder:
    """Load both files.

    Raises:
        FileNotFoundError: One of them is missing.
        ValueError: They are damaged or do not belong together.
    """
    folder = Path(folder)
    remedy = (
        "Train one on the same shards: lam autoencoder fit --config experiments/autoencoder.yaml "
        "--data.shards DIR --name NAME, then set model.encoder.path to runs/NAME/seed0."
    )
    for name in (_DESCRIPTION, _WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"No trained autoencoder in {folder}: {name} is missing. {remedy}")
    content = (folder / _WEIGHTS).read_bytes()
    try:
        description = json.loads((folder / _DESCRIPTION).read_text())
        if description.pop("sha256") != hashlib.sha256(content).hexdigest():
            raise ValueError(f"{_WEIGHTS} is not the file that {_DESCRIPTION} describes")
        image_size = description.pop("image_size")
        network = ConvAutoencoder(**description)
        network.load_state_dict(load(content))
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"The autoencoder in {folder} is damaged ({' '.join(str(error).split())}). {remedy}") from error
    return TrainedAutoencoder(network, image_size, hashlib.sha256(content).hexdigest())
