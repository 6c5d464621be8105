"""States from a feature cache: ``data_prep features`` runs a frozen encoder once over a set of shards."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lam.data.index import DataIndex
from lam.data.mixture import open_index
from lam.data.schema import FeatureInfo
from lam.encoders.base import Encoder
from lam.encoders.frozen import FrozenEncoder, color_features


class Cached(Encoder):
    """Passes on states from a feature cache, so that training computes the heads only.

    In the cache one frame is one state, whatever the encoder that made it takes. Checkpoints keep the encoder's fingerprint
    (class, settings and weights) and load only beside states of the same. That the encoder saw no later frames was checked
    when the cache was made; the evaluation Future cannot check it here.

    Args:
        path: Folder of a feature cache, as in data.shards; or of another one that the same encoder made.
        pictures: The encoder that made it, for whoever acts in a simulator, where frames are pictures; its pictures of states
            are shown, too.
    """

    backbone: FrozenEncoder | None
    """Named so that checkpoints leave it out."""

    def __init__(self, path: str, pictures: FrozenEncoder | None = None) -> None:
        super().__init__()
        index = open_index(path)
        self.features = features_of(index)
        self.path = path
        self.dim = self.features.dim
        self.grid = (index.height, index.width)
        self.image_size = max(self.grid)
        self.backbone = pictures
        if pictures is not None:
            self._check_maker(pictures)
            self.image_size, self.shows_pixels = pictures.image_size, pictures.shows_pixels
        self.requires_grad_(False).eval()

    def _check_maker(self, encoder: FrozenEncoder) -> None:
        """Check that an encoder made the states.

        Raises:
            ValueError: Another one did.
        """
        kind = f"{type(encoder).__module__}.{type(encoder).__qualname__}"
        if (kind, encoder.digest) != (self.features.encoder["class_path"], self.features.encoder.get("digest")):
            raise ValueError(
                f"{self.path} holds states of {_name(self.features)}, model.encoder.pictures is {type(encoder).__name__} from "
                f"{encoder.source}. Name the encoder that data_prep features was given, or make the features again."
            )

    @override
    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """Convert stored states (B, F, N, D) bfloat16 to states (B, T, N, D), float, with F = T.

        Pictures (B, F, 3, H, W) uint8 become the states that would be stored of them.

        Raises:
            ValueError: Pictures come, and no encoder was given for them.
        """
        if frames.dtype != torch.uint8:
            return frames.float()
        if self.backbone is None:
            raise ValueError(
                "A simulator shows pictures, and model.encoder reads stored states. Set model.encoder.pictures to the encoder "
                "that made them."
            )
        states: Tensor = self.backbone(frames)
        return states.bfloat16().float()

    @override
    def check_index(self, index: DataIndex) -> None:
        """Check that a set holds states of the same encoder.

        Raises:
            ValueError: It holds pictures, or states of another encoder.
        """
        found = features_of(index)
        if found.fingerprint != self.features.fingerprint:
            raise ValueError(
                f"{index.path} holds states of {_name(found)}, model.encoder reads {self.path}: {_name(self.features)}. Set "
                "model.encoder.path to the folder of data.shards, or make its features with the same encoder."
            )

    @override
    def get_extra_state(self) -> Tensor:
        return torch.frombuffer(bytearray.fromhex(self.features.fingerprint), dtype=torch.uint8)

    @override
    def set_extra_state(self, state: Tensor) -> None:
        """Check that a checkpoint was trained on states of the same encoder.

        Raises:
            ValueError: It was trained on those of another.
        """
        if not torch.equal(state.cpu(), self.get_extra_state()):
            trained = bytes(state.cpu().tolist()).hex()
            raise ValueError(
                f"The checkpoint was trained on states of an encoder with fingerprint {trained[:8]}, {self.path} holds those "
                f"of {_name(self.features)}. Point model.encoder.path and data.shards at features that the same encoder made, "
                "or train the run again."
            )

    @override
    @torch.no_grad()
    def to_image(self, states: Tensor) -> Tensor:
        if self.backbone is not None:
            return self.backbone.to_image(states)
        return color_features(states, self.grid, self.image_size)


def features_of(index: DataIndex) -> FeatureInfo:
    """Return a set's record of the encoder of its states.

    Raises:
        ValueError: It holds pictures.
    """
    if index.features is None:
        raise ValueError(
            f"{index.path} holds pictures, encoder Cached reads states. Make them: data_prep features "
            f"{index.path} OUT --encoder CLASS, and set data.shards and model.encoder.path to OUT."
        )
    return index.features


def _name(info: FeatureInfo) -> str:
    """Name an encoder in a message."""
    return f"{info.encoder['class_path'].rpartition('.')[2]} with fingerprint {info.fingerprint[:8]}"
