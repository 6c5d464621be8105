"""The encoder interface: frames become states, and no state depends on later frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn
from typing_extensions import Self, override

from lam.data.index import DataIndex


class StateShape(NamedTuple):
    """Layout of one state: a grid of tokens.

    Attributes:
        rows: Rows of the grid.
        columns: Columns of the grid; N = rows * columns.
        dim: Width D of a token.
    """

    rows: int
    columns: int
    dim: int

    @property
    def tokens(self) -> int:
        """Return the number of tokens N of a state."""
        return self.rows * self.columns


class Encoder(nn.Module, ABC):
    """Turns frames into states.

    State t depends on frames of state t and before, never on later ones. An encoder is frozen: it stays in eval mode and
    has no gradients. Learned weights live in a sub-module called ``backbone``, which checkpoints leave out (the config says
    where they came from, ``FrozenEncoder`` checks that they are the same); small statistics of the training data are buffers
    outside it and are saved.

    Attributes:
        dim: Width D of a token.
        grid: Rows and columns of a state; N = rows * columns.
        frames_per_state: Frames that make one state (2 for tubelets of two frames).
        image_size: Height and width the frames must have, in pixels.
        shows_pixels: Whether ``to_image`` gives pixels; evaluations measure pixels only where it does.
    """

    dim: int
    grid: tuple[int, int]
    frames_per_state: int = 1
    image_size: int
    shows_pixels: bool = False

    @property
    def shape(self) -> StateShape:
        """Return the layout of the states."""
        return StateShape(*self.grid, self.dim)

    @abstractmethod
    def forward(self, frames: Tensor) -> Tensor:
        """Encode frames (B, F, 3, H, W) uint8 into states (B, T, N, D), float, with F = T * frames_per_state."""

    @override
    def train(self, mode: bool = True) -> Self:
        # a model in training puts all its modules into training mode; the encoder stays in eval mode
        return super().train(False)

    def use_index(self, index: DataIndex) -> None:
        """Take statistics from the training set's index, once, before the first step of a fresh run."""

    def check_index(self, index: DataIndex) -> None:
        """Check that the frames of a set fit, before anything is computed from them.

        Raises:
            ValueError: They are no pictures, or do not have the size the encoder was built for.
        """
        if index.features is not None:
            raise ValueError(
                f"{index.path} holds states of an encoder, {type(self).__name__} reads pictures. Set model.encoder to Cached "
                "(experiments/encoders/cached.yaml), or data.shards to the pictures."
            )
        if (index.height, index.width) != (self.image_size, self.image_size):
            raise ValueError(
                f"{index.path} holds frames of {index.height} x {index.width} pixels, the encoder is set to image_size "
                f"{self.image_size}. Set model.encoder.image_size or prepare the data with --size {self.image_size}."
            )

    @abstractmethod
    def to_image(self, states: Tensor) -> Tensor:
        """Render states (B, T, N, D) as images (B, T, 3, h, w), float in [0, 1].

        Pixels where the encoder can be inverted; else three fixed directions of the features as red, green and blue.
        """
