"""Models trained elsewhere, evaluated like our own: an adapter turns frames into latents and latents into frames."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from lam.bottlenecks.base import Bottleneck, BottleneckOutput, draw_normal
from lam.encoders import Encoder, Patches
from lam.models.base import WorldModel

COPY_ERROR_CLIPS = 1024


class Adapter(nn.Module, ABC):
    """Interface to a latent action model trained elsewhere; frames are plain pictures, the adapter resizes and normalizes.

    Attributes:
        latent_dim: Numbers A of a latent, all of a transition's tokens joined.
        num_codes: Number of values that a latent's code tuple can have; None where latents are not discrete.
    """

    latent_dim: int
    num_codes: int | None = None

    @abstractmethod
    def infer(self, frames: Tensor) -> Tensor:
        """Infer latents (B, F-1, A) from frames (B, F, 3, H, W) in [0, 1]; latent t may see frames up to t + 1."""

    @abstractmethod
    def predict(self, frames: Tensor, z: Tensor) -> Tensor:
        """Predict frames 1..F-1, (B, F-1, 3, H, W) in [0, 1]; prediction t may see frames and latents up to t.

        Args:
            frames: Frames 0..F-2, (B, F-1, 3, H, W) in [0, 1].
            z: Latents, (B, F-1, A).
        """

    def codes(self, z: Tensor) -> Tensor:
        """Return the codes (B, F-1, C) int64 of latents (B, F-1, A); needed where ``num_codes`` is set."""
        raise NotImplementedError(f"{type(self).__name__} sets num_codes, so it must implement codes(z).")

    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw latents (n, A) from the model's prior; N(0, I) unless replaced."""
        device = torch.device("cpu") if generator is None else generator.device
        return draw_normal((n, self.latent_dim), device, generator)


class ExternalBottleneck(Bottleneck):
    """Passes latents of an adapter on as they are, with their codes.

    Args:
        adapter: The model.
    """

    def __init__(self, adapter: Adapter) -> None:
        super().__init__(adapter.latent_dim, 1)
        self.adapter = adapter
        self.has_prior = type(adapter).sample_prior is not Adapter.sample_prior

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        if self.adapter.num_codes is None:
            return BottleneckOutput(z, z.new_zeros(()))
        bits = torch.full(z.shape[:2], float(self.adapter.num_codes), device=z.device).log2()
        return BottleneckOutput(z, z.new_zeros(()), self.adapter.codes(z[:, :, 0]), bits)

    @override
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        return self.adapter.sample_prior(n, generator)[:, None]


class ExternalModel(WorldModel):
    """World model around an adapter; its errors are measured in the setting's own states and unit.

    Args:
        adapter: The model.
        encoder: The setting's encoder, whose states are pixels.
        distance: The setting's distance.
    """

    encoder: Patches

    def __init__(self, adapter: Adapter, encoder: Encoder, distance: nn.Module) -> None:
        if not isinstance(encoder, Patches):
            raise ValueError(
                f"The setting's states come from {type(encoder).__name__}. A model that predicts frames can be evaluated "
                "only where states are pixels: choose a setting whose model.encoder is Patches."
            )
        super().__init__(encoder, distance)
        self.adapter = adapter.requires_grad_(False).eval()
        self.bottleneck = ExternalBottleneck(adapter)

    @override
    def on_validation_start(self) -> None:
        # as training would have
        self.measure_copy_error(COPY_ERROR_CLIPS)

    @override
    def infer(self, states: Tensor) -> Tensor:
        frames = self.encoder.to_image(states)
        z = self.adapter.infer(frames)
        self._check("infer", z, (*frames.shape[:1], frames.shape[1] - 1, self.adapter.latent_dim))
        return z[:, :, None]

    @override
    def predict(self, states: Tensor, z: Tensor) -> Tensor:
        frames = self.encoder.to_image(states)
        predicted = self.adapter.predict(frames, z[:, :, 0])
        self._check("predict", predicted, tuple(frames.shape))
        predicted_states: Tensor = self.encoder(255 * predicted)
        return predicted_states

    def _check(self, method: str, found: Tensor, expected: tuple[int, ...]) -> None:
        """Check the shape that a method of the adapter returned."""
        if found.shape != expected:
            name = type(self.adapter).__name__
            raise ValueError(f"{name}.{method} returned shape {tuple(found.shape)}, expected {expected}. Change the adapter.")
