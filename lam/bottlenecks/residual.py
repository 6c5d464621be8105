"""A narrow passage: the bottleneck of residual latent actions (RLA), which is their width."""

from __future__ import annotations

from torch import Generator, Tensor, nn
from typing_extensions import override

from lam.bottlenecks.base import Bottleneck, BottleneckOutput, draw_normal


class Residual(Bottleneck):
    """Projects the latent of a transition to a few numbers and back; nothing else limits it.

    The published residual latent action also sees only the difference of two states and joins its tokens to those of the state,
    which the system ``experiments/systems/rla.yaml`` adds; here is its width alone, so that the two can be told apart.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition.
        num_floats: Numbers that pass. Capacity knob: larger passes more, up to L A, its rank. Published: 2048, 32 tokens of 64.
    """

    knob = "num_floats"
    has_prior = False

    def __init__(self, dim: int, num_latents: int, num_floats: int = 16) -> None:
        super().__init__(dim, num_latents)
        if not 1 <= num_floats <= num_latents * dim:
            raise ValueError(
                f"num_floats is {num_floats}, expected 1 to {num_latents * dim}: no more numbers than num_latents * latent_dim "
                "pass, however wide the passage. Raise those; for no latent at all use the none bottleneck."
            )
        self.num_floats = num_floats
        self.narrow = nn.Linear(num_latents * dim, num_floats)
        self.widen = nn.Linear(num_floats, num_latents * dim)
        nn.init.orthogonal_(self.narrow.weight)  # keeps the scale of what passes
        nn.init.orthogonal_(self.widen.weight)

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        narrow: Tensor = self.narrow(z.flatten(2))  # (B, T-1, num_floats)
        wide: Tensor = self.widen(narrow).unflatten(-1, z.shape[2:])
        return BottleneckOutput(wide.to(z.dtype), wide.new_zeros((), dtype=self.narrow.weight.dtype))

    @override
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        # N(0, I) of the narrow numbers, for want of a learned prior
        narrow = draw_normal((n, self.num_floats), self.narrow.weight.device, generator)
        wide: Tensor = self.widen(narrow).detach().unflatten(-1, (self.num_latents, self.dim))
        return wide
