"""Encoders with learned weights: checkpoints keep a digest in place of the weights, so that no others take their place."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from lam.encoders.base import Encoder


class FrozenEncoder(Encoder):
    """Knows which weights it has, and refuses checkpoints that were trained with others.

    Attributes:
        digest: SHA-256 of the frozen weights, in hexadecimal digits.
        source: Where the weights came from, as the config says it.
    """

    digest: str
    source: str

    def get_extra_state(self) -> Tensor:
        """Which weights these are; checkpoints keep it in place of the weights."""
        return torch.frombuffer(bytearray.fromhex(self.digest), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuses a checkpoint that was trained on the states of other weights.

        Raises:
            ValueError: The weights are not those that the checkpoint was trained with.
        """
        if not torch.equal(state.cpu(), self.get_extra_state()):
            raise ValueError(
                f"The checkpoint was trained with other frozen weights than {type(self).__name__} now has from {self.source}. "
                "Put the old weights back there, point model.encoder at them, or train the run again."
            )


def hash_weights(module: nn.Module, not_used: tuple[str, ...] = ()) -> str:
    """SHA-256 of what a module's state dict holds: names, types, shapes and bytes, sorted by name.

    Args:
        module: The module.
        not_used: Beginnings of the names of weights that are left out.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not name.startswith(not_used):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.cpu().flatten().view(torch.uint8).numpy())  # not copied where contiguous; any type
    return digest.hexdigest()
