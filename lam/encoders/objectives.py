"""What encoders are trained for: to predict the next state under a small action, and to redraw what changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import override

from lam.bottlenecks.noisy import Noisy
from lam.data.schema import ActionStatistics
from lam.encoders.autoencoder.network import to_signal

_HIDDEN = 256
_SMALLEST_STD = 1e-6


class LatentPrediction(nn.Module):
    """Predicts the next state from the present one and a latent action, which is inferred from both and passed with noise.

    Args:
        dim: Numbers S of a state.
        latent_dim: Numbers of the latent action.
        beta: Weight of its KL from N(0, 1), relative to the squared error.
    """

    def __init__(self, dim: int, latent_dim: int, beta: float) -> None:
        super().__init__()
        self.inverse_model = _mlp(2 * dim, latent_dim)
        self.bottleneck = Noisy(latent_dim, 1, beta)
        self.forward_model = _mlp(dim + latent_dim, dim)

    @override
    def forward(self, states: Tensor, noise_keys: Tensor) -> Tensor:
        """Compute the squared error of the next states of clips (B, F, S), plus what the latent action costs."""
        before, after = states[:, :-1], states[:, 1:]
        latent = self.inverse_model(torch.cat((before, after - before), dim=-1))[:, :, None]
        output = self.bottleneck(latent, noise_keys=noise_keys)
        change = self.forward_model(torch.cat((before, output.z[:, :, 0]), dim=-1))
        error: Tensor = (before + change - after).square().mean() + output.loss
        return error


class ActionPrediction(nn.Module):
    """Predicts the next state from the present one and the recorded action: what encoders with labels can reach.

    Args:
        dim: Numbers S of a state.
        statistics: Of the recorded actions, which are put on unit scale.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, statistics: ActionStatistics) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(statistics.mean))
        self.register_buffer("std", torch.tensor(statistics.std).clamp_min(_SMALLEST_STD))
        self.forward_model = _mlp(dim + len(statistics.mean), dim)

    @override
    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """Compute the squared error of the next states of clips (B, F, S), given their actions (B, F-1, U)."""
        before, after = states[:, :-1], states[:, 1:]
        change = self.forward_model(torch.cat((before, (actions - self.mean) / self.std), dim=-1))
        error: Tensor = (before + change - after).square().mean()
        return error


def change_weighted_error(
    frames: Tensor, states: Tensor, draw: Callable[[Tensor], Tensor], weight: float, threshold: float
) -> Tensor:
    """Compute the squared error of frames redrawn from their states, of colors from 0 to 1.

    A pixel that changes to the next frame (in the last frame: from the one before) weighs more, since what moves is small and
    a state that lacks it cannot be planned with.

    Args:
        frames: Clips (B, F, 3, H, W) uint8.
        states: Their states, (B, F, S).
        draw: Draws states (n, S) as a signal (n, 3, H, W), about -1 to 1.
        weight: Additional weight of a pixel that changes.
        threshold: Change of a color from 0 to 1 from which on it counts.
    """
    colors = to_signal(frames) / 2
    changes = colors.diff(dim=1).abs().amax(dim=2, keepdim=True) > threshold  # (B, F-1, 1, H, W)
    changes = torch.cat((changes, changes[:, -1:]), dim=1)
    drawn = draw(states.flatten(0, 1)) / 2
    squares = (drawn - colors.flatten(0, 1)).square() * (1 + weight * changes.flatten(0, 1))
    return squares.mean()


def _mlp(num_inputs: int, num_outputs: int) -> nn.Sequential:
    """Build an MLP of three layers."""
    return nn.Sequential(
        nn.Linear(num_inputs, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, num_outputs)
    )
