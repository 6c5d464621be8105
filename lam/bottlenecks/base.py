"""The bottleneck interface: the only part that differs between the rows of a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from lam.distributed import gather_rows

SMALLEST_STD = 0.01  # a latent that hardly varies at the start is amplified a hundred times at most
_FOLLOW_RATE = 0.1  # how far a step moves followed statistics toward those of its batch
_MOST_TRANSITIONS = 2**16  # latents of so many transitions are remembered until the optimizer steps, evenly chosen of more


class BottleneckOutput(NamedTuple):
    """The latents that the forward model may see, and their cost.

    Attributes:
        z: The latents after the bottleneck, (B, T-1, L, A), of the same shape as before it.
        loss: Scalar, already weighted, in units of the prediction loss; the same formula in train and eval mode.
        codes: Integers (B, T-1, C) where the latent is discrete.
        rate_bits: Bits of each transition, (B, T-1), where a finite rate exists: log2 K a code (capacity), KL / ln 2 for a
            Gaussian.
        stats: Scalars worth logging, by short name.
        rate_bits_each: Contribution of each number of z to ``rate_bits``, (B, T-1, L, A), where the rate is such a sum.
    """

    z: Tensor
    loss: Tensor
    codes: Tensor | None = None
    rate_bits: Tensor | None = None
    stats: Mapping[str, Tensor] = {}
    rate_bits_each: Tensor | None = None


class Bottleneck(nn.Module, ABC):
    """Limits the information in a latent action.

    Subclasses are built as ``X(dim, num_latents, knob=the paper's value)``, keep the shape of their input, own everything
    they need (heads, projections, codebooks, resets, loss weights), are deterministic in eval mode and have exactly one
    capacity knob, named by ``knob``.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition.
    """

    knob: ClassVar[str | None] = None
    """Name of the constructor argument that sets the capacity; None for the reference rows, which have nothing to sweep."""

    has_prior: bool = True
    """Whether ``sample_prior`` draws from a prior that latents are held to; else from N(0, I) for want of one."""

    def __init__(self, dim: int, num_latents: int) -> None:
        super().__init__()
        self.dim = dim
        self.num_latents = num_latents

    @abstractmethod
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        """Limit latents.

        Args:
            z: Latents from the inverse model, (B, T-1, L, A).
            sample: Draw from the posterior in eval mode too, where there is one; training always draws.
            noise_keys: One integer a clip, (B,) int64: noise is a function of it alone, whatever the batch or the rank. Noise
                comes from the global generator where it is None.
        """

    @abstractmethod
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n latents (n, L, A) from the prior, on the device of the bottleneck."""

    def used_codes(self) -> list[Tensor]:
        """List the numbers in use lately of each of the C codes of a transition; nothing where latents are not codes."""
        return []

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Return the latents (n, L, A) that codes (n, C) stand for, numbered as in ``BottleneckOutput``.

        Raises:
            TypeError: Latents are not codes.
        """
        raise TypeError(f"Latents of {type(self).__name__} are not codes that could be decoded. Check used_codes() first.")

    def truncations(self, z: Tensor) -> dict[int, BottleneckOutput]:
        """Limit latents (B, T-1, L, A) further, in eval mode, to shorter lengths that the bottleneck was trained for too.

        Returns:
            The output of each length, in parts of a latent, by ascending length; nothing where a latent has but one.
        """
        return {}

    def on_optimizer_step(self, optimizer: Optimizer) -> None:
        """Reset dead codes and update statistics after each optimizer step.

        Called on all ranks; must leave equal state on all.
        """


class StandardizedBottleneck(Bottleneck):
    """Base of bottlenecks that need latents at a known scale.

    ``forward`` calls ``self.standardize`` and ``self.keep``; after the optimizer step the statistics are measured on the
    latents that were kept, those of all micro-batches where gradients accumulate.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition.
        std: Standard deviation that latents start with.
    """

    def __init__(self, dim: int, num_latents: int, std: float = 1.0) -> None:
        super().__init__(dim, num_latents)
        self.standardize = Standardize(dim, num_latents, std)
        self._seen = StepLatents()

    def keep(self, z: Tensor, codes: Tensor | None = None) -> None:
        """Keep a micro-batch's latents (B, T-1, L, A) and codes (B, T-1, C) until the optimizer has stepped."""
        if self.training:
            self._seen.add(z, codes)

    @override
    def on_optimizer_step(self, optimizer: Optimizer) -> None:
        if not self._seen.latents:
            return
        z, codes = self._seen.take()
        self.standardize.update(z)
        if codes is not None:
            self.update_codes(z, codes, optimizer)

    def update_codes(self, z: Tensor, codes: Tensor, optimizer: Optimizer) -> None:
        """Count the codes (n, C) of an optimizer step and reset dead ones.

        Args:
            z: Latents of the step's transitions, (m, L, A); m is less than n where there were too many to remember.
            codes: Codes of all of them.
            optimizer: The optimizer that has stepped.
        """


class StepLatents:
    """Collects what a bottleneck saw since the last optimizer step: all codes, latents of a bounded number of transitions.

    Where latents are too many, every second one is dropped, again and again, so that those left are spread evenly over the
    micro-batches. Which ones depends on numbers alone, so processes with equal batches keep equally many.
    """

    def __init__(self) -> None:
        self.latents: list[Tensor] = []  # each (n, L, A)
        self.codes: list[Tensor] = []  # each (n, C)
        self.stride = 1

    def add(self, z: Tensor, codes: Tensor | None) -> None:
        """Add a micro-batch's latents (B, T-1, L, A) and codes (B, T-1, C)."""
        self.latents.append(z.detach().flatten(0, 1)[:: self.stride])
        if codes is not None:
            self.codes.append(codes.flatten(0, 1))
        while len(self.latents) > 1 and sum(map(len, self.latents)) > _MOST_TRANSITIONS:
            self.latents = [latents[::2] for latents in self.latents]
            self.stride *= 2

    def take(self) -> tuple[Tensor, Tensor | None]:
        """Return the latents (m, L, A) and codes (n, C), None where there are none, and forget them."""
        z, codes = torch.cat(self.latents), torch.cat(self.codes) if self.codes else None
        self.latents, self.codes, self.stride = [], [], 1
        return z, codes


class Standardize(nn.Module):
    """Moves latents to mean 0 and a chosen standard deviation, as they were at the first training step.

    Inverse models start at any scale, and every bottleneck has one: distances between codes, the unit variance of a prior,
    the radius below which sparse latents die. Data-dependent initialization (Salimans and Kingma, arXiv 1602.07868) with
    one mean an entry and one scale for all. Unless ``follow`` is set it stays there, so that training moves the scale if it
    pays: in a toy that made quantizers with codebooks learn faster than statistics that follow the batches.

    A grid that cannot move, FSQ's, needs statistics that follow, of each entry for itself. The mean of all latents moves by
    several standard deviations a step at the start, so in training each batch has its own statistics, those of all processes
    (batch normalization, arXiv 1502.03167, without its parameters), and evaluation a running average. By a running average
    alone latents left the grid for good: 20 to 35 standard deviations after 100 steps.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition.
        std: Standard deviation to start with.
        follow: Take each batch's own statistics in training, with a scale for each entry, and their running average after it.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, dim: int, num_latents: int, std: float = 1.0, follow: bool = False) -> None:
        super().__init__()
        self.std = std
        self.follow = follow
        self.measured = False
        self.register_buffer("shift", torch.zeros(num_latents, dim))
        self.register_buffer("scale", torch.ones((num_latents, dim) if follow else ()))

    def forward(self, z: Tensor) -> Tensor:
        """Standardize latents (B, T-1, L, A); float32."""
        if self.follow and self.training:
            rows = gather_rows(z.float().flatten(0, 1))
            centered = z.float() - rows.mean(dim=0)
            return centered * self.std / rows.std(dim=0, correction=0).clamp_min(SMALLEST_STD)
        return (z.float() - self.shift) * self.scale

    @torch.no_grad()
    def update(self, z: Tensor) -> None:
        """Measure shift and scale on the latents (n, L, A) of all processes, once or again and again (``follow``)."""
        if self.measured and not self.follow:
            return
        rate = _FOLLOW_RATE if self.measured else 1.0
        rows = gather_rows(z.float())
        mean = rows.mean(dim=0)
        self.shift.lerp_(mean, rate)
        variance = (rows - mean).square().mean(dim=0 if self.follow else None)
        self.scale.lerp_(self.std / variance.sqrt().clamp_min(SMALLEST_STD), rate)
        self.measured = True

    @override
    def get_extra_state(self) -> Tensor:
        # not a buffer, since asking a GPU for it would stall every step
        return torch.tensor(self.measured)

    @override
    def set_extra_state(self, state: Tensor) -> None:
        self.measured = bool(state)


def draw_normal(shape: tuple[int, ...], device: torch.device, generator: Generator | None) -> Tensor:
    """Draw standard normal numbers of a shape where the generator lives and move them to a device."""
    source = device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=source).to(device)


def draw_choice(options: Tensor, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
    """Draw entries of a vector of options in a shape, each as likely as the others, on the device of the options."""
    source = options.device if generator is None else generator.device
    index = torch.randint(len(options), shape, generator=generator, device=source)
    return options[index.to(options.device)]
