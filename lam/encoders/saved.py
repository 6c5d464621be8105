"""Encoders that are trained first: two files in a run's folder, from which the frozen encoder is built.

encoder.safetensors holds the weights, encoder.json the settings of the network they fit and the weights' SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from lightning.pytorch.utilities import rank_zero_info
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from lam.encoders.frozen import FrozenEncoder
from lam.io import write_bytes

WEIGHTS = "encoder.safetensors"
_DESCRIPTION = "encoder.json"


class EncoderNetwork(nn.Module, ABC):
    """Network of an encoder that is trained first.

    Attributes:
        settings: Arguments that build it.
        dim: Width D of a token.
        num_halvings: Layers that halve the resolution.
    """

    settings: Mapping[str, int | float | str]
    dim: int
    num_halvings: int

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (n, 3, H, W) uint8 as states, (n, ...)."""

    @property
    def pixels_per_feature(self) -> int:
        """Return the pixels a side that a feature covers; frames are a multiple of it."""
        return int(2**self.num_halvings)


_Network = TypeVar("_Network", bound=EncoderNetwork)


@dataclass(frozen=True)
class SavedEncoder(Generic[_Network]):
    """A trained network, as loaded from its files.

    Attributes:
        network: The network with its weights.
        image_size: Height and width of the frames it was trained on, in pixels.
        digest: SHA-256 of the weights' file.
        labels: Whether recorded actions trained it.
    """

    network: _Network
    image_size: int
    digest: str
    labels: bool


def save_encoder(kind: str, network: EncoderNetwork, image_size: int, folder: Path, labels: bool = False) -> None:
    """Write both files, each whole or not at all.

    Args:
        kind: Kind of encoder, as messages name it.
        network: The network.
        image_size: Height and width of the frames it was trained on, in pixels.
        folder: Where to.
        labels: Whether recorded actions trained it.
    """
    weights = save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
    about = {"kind": kind, "image_size": image_size, "labels": labels}
    description = {**about, **network.settings, "sha256": hashlib.sha256(weights).hexdigest()}
    # the weights last: where they are, training has ended and both files are there
    write_bytes(folder / _DESCRIPTION, json.dumps(description, indent=1).encode() + b"\n")
    write_bytes(folder / WEIGHTS, weights)


def load_encoder(kind: str, build: Callable[..., _Network], folder: Path | str) -> SavedEncoder[_Network]:
    """Load both files.

    Args:
        kind: Kind of encoder that is expected.
        build: Builds its network from the settings.
        folder: Where from.

    Raises:
        FileNotFoundError: One of them is missing.
        ValueError: They are damaged, do not belong together, or are of another kind of encoder.
    """
    folder = Path(folder)
    remedy = (
        f"Train one on the same shards: lam encoder fit --config experiments/{kind}.yaml "
        "--data.shards DIR --name NAME, then set model.encoder.path to runs/NAME/seed0."
    )
    for name in (_DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"No trained {kind} in {folder}: {name} is missing. {remedy}")
    content = (folder / WEIGHTS).read_bytes()
    try:
        description = json.loads((folder / _DESCRIPTION).read_text())
        found = description.pop("kind", "autoencoder")  # the only one there was before kinds were written down
        if found != kind:
            raise ValueError(f"it holds one of kind {found}")
        digest = hashlib.sha256(content).hexdigest()
        if description.pop("sha256") != digest:
            raise ValueError(f"{WEIGHTS} is not the file that {_DESCRIPTION} describes")
        image_size, labels = description.pop("image_size"), description.pop("labels", False)
        network = build(**description)
        network.load_state_dict(load(content))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"The {kind} in {folder} cannot be used ({' '.join(str(error).split())}). {remedy}") from error
    return SavedEncoder(network, image_size, digest, labels)


class TrainedEncoder(FrozenEncoder, Generic[_Network]):
    """Frozen encoder whose network was trained first, by ``lam encoder fit``; pictures of states are those that it draws.

    Args:
        kind: Kind of encoder, as its files say.
        build: Builds the network from its settings.
        path: Folder of its files.
    """

    backbone: _Network
    shows_pixels = True

    def __init__(self, kind: str, build: Callable[..., _Network], path: str) -> None:
        super().__init__()
        trained = load_encoder(kind, build, path)
        self.source = path
        self.image_size = trained.image_size
        self.dim = trained.network.dim
        self.backbone = trained.network
        self.digest = trained.digest
        if trained.labels:
            rank_zero_info(f"lam: recorded actions trained the {kind} in {path}: what is built on it is a labeled upper bound.")
        self.requires_grad_(False).eval()
