"""Encoders with learned weights: a digest of the weights in checkpoints, normalized features, and colors to show them."""

from __future__ import annotations

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lam.encoders.base import Encoder


class FrozenEncoder(Encoder):
    """Encoder whose checkpoints keep a digest in place of its weights, and load only beside the weights they were trained with.

    Attributes:
        digest: SHA-256 of the frozen weights, in hexadecimal digits.
        source: Folder or name that the weights came from, as in the config.
    """

    digest: str
    source: str

    @override
    def get_extra_state(self) -> Tensor:
        return torch.frombuffer(bytearray.fromhex(self.digest), dtype=torch.uint8)

    @override
    def set_extra_state(self, state: Tensor) -> None:
        """Check that a checkpoint was trained with the same weights.

        Raises:
            ValueError: The weights are not those that the checkpoint was trained with.
        """
        if not torch.equal(state.cpu(), self.get_extra_state()):
            raise ValueError(
                f"The checkpoint was trained with other frozen weights than {type(self).__name__} now has from {self.source}. "
                "Put the old weights back there, point model.encoder at them, or train the run again."
            )


def hash_weights(module: nn.Module, not_used: tuple[str, ...] = ()) -> str:
    """Hash a module's state dict by SHA-256: names, types, shapes and bytes, sorted by name.

    Args:
        module: The module.
        not_used: Prefixes of the names of weights that are left out.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not name.startswith(not_used):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.cpu().flatten().view(torch.uint8).numpy())  # not copied where contiguous; any type
    return digest.hexdigest()


def normalize_channels(features: Tensor) -> Tensor:
    """Normalize the last axis by a LayerNorm without parameters, in float32: every token has mean 0 and variance 1.

    V-JEPA 2-AC normalizes its targets this way (https://arxiv.org/abs/2506.09985).
    """
    return F.layer_norm(features.float(), features.shape[-1:])


def color_features(states: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    """Render three fixed directions of the features as red, green and blue.

    The directions are the first three waves of a cosine basis over the channels: orthonormal, and the same for every state
    and run. A token of normalized features has components about N(0, 1) along them; two standard
    deviations to either side span black to full color, so equal features have equal color in every picture.

    Args:
        states: Normalized features (B, T, N, D).
        grid: Rows and columns; N = rows * columns.
        size: Height and width of the images, at least those of the grid.

    Returns:
        Images (B, T, 3, size, size) in [0, 1].
    """
    dim = states.shape[-1]
    channel = (torch.arange(dim, device=states.device, dtype=torch.float32) + 0.5) * math.pi / dim
    waves = torch.stack([(k * channel).cos() for k in (1, 2, 3)], dim=-1) * math.sqrt(2 / dim)  # (D, 3)
    colors = (0.5 + states.float() @ waves / 4).clamp(0, 1)  # (B, T, N, 3)
    images = colors.unflatten(2, grid).movedim(-1, 2)  # (B, T, 3, rows, columns)
    enlarged: Tensor = F.interpolate(images.flatten(0, 1), size=(size, size), mode="nearest")
    result: Tensor = enlarged.unflatten(0, states.shape[:2])
    return result
