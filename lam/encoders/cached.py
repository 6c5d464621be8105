"""States that were made beforehand: ``python -m data_prep features`` runs a frozen encoder once over a set of shards."""

from __future__ import annotations

import torch
from torch import Tensor

from lam.data.index import DataIndex
from lam.data.mixture import open_index
from lam.data.schema import FeatureInfo
from lam.encoders.base import Encoder
from lam.encoders.features import color_features


class Cached(Encoder):
    """Reads states from a feature cache, so that training computes the heads only.

    In the cache one frame is one state, whatever the encoder that made it takes. Checkpoints keep its fingerprint (class,
    settings and weights) and work with states of no other. That the encoder saw no later frames was checked when the cache
    was made; the evaluation Future cannot see it here.

    Args:
        path: Folder of a feature cache, as in data.shards; or of another one that the same encoder made.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        index = open_index(path)
        self.features = features_of(index)
        self.path = path
        self.dim = self.features.dim
        self.grid = (index.height, index.width)
        self.image_size = max(self.grid)
        self.eval()

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """States (B, T, N, D), float, of stored states (B, F, N, D) bfloat16, with F = T."""
        return frames.float()

    def check_index(self, index: DataIndex) -> None:
        """Checks that a set holds states of the same encoder.

        Raises:
            ValueError: It holds pictures, or states of another encoder.
        """
        found = features_of(index)
        if found.fingerprint != self.features.fingerprint:
            raise ValueError(
                f"{index.path} holds states of {_name(found)}, model.encoder reads {self.path}: {_name(self.features)}. Set "
                "model.encoder.path to the folder of data.shards, or make its features with the same encoder."
            )

    def get_extra_state(self) -> Tensor:
        """Which encoder made the states; checkpoints keep it."""
        return torch.frombuffer(bytearray.fromhex(self.features.fingerprint), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuses a checkpoint that was trained on states of another encoder.

        Raises:
            ValueError: It was.
        """
        if not torch.equal(state.cpu(), self.get_extra_state()):
            trained = bytes(state.cpu().tolist()).hex()
            raise ValueError(
                f"The checkpoint was trained on states of an encoder with fingerprint {trained[:8]}, {self.path} holds those "
                f"of {_name(self.features)}. Point model.encoder.path and data.shards at features that the same encoder made, "
                "or train the run again."
            )

    @torch.no_grad()
    def to_image(self, states: Tensor) -> Tensor:
        """Three fixed directions of the features as red, green and blue, a pixel a token, (B, T, 3, h, w) in [0, 1]."""
        return color_features(states, self.grid, self.image_size)


def features_of(index: DataIndex) -> FeatureInfo:
    """What a set says of the encoder of its states.

    Raises:
        ValueError: It holds pictures.
    """
    if index.features is None:
        raise ValueError(
            f"{index.path} holds pictures, encoder Cached reads states. Make them: python -m data_prep features "
            f"{index.path} OUT --encoder CLASS, and set data.shards and model.encoder.path to OUT."
        )
    return index.features


def _name(info: FeatureInfo) -> str:
    """An encoder, for people."""
    return f"{info.encoder['class_path'].rpartition('.')[2]} with fingerprint {info.fingerprint[:8]}"
