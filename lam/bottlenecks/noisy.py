"""Gaussian latent actions: a VAE bottleneck, arXiv 1312.6114, as AdaWorld and Garrido et al. use it."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from lam.bottlenecks.base import BottleneckOutput, StandardizedBottleneck, draw_normal
from lam.noise import normal_like

_START_LOG_VAR = -4.0  # noise of std 0.14 beside a signal of std 1: heard from the first step, 2 nats an entry to pay
_LOG_VAR_RANGE = (-20.0, 8.0)  # exp() stays finite in float32; the prior is at 0, and std 4.5e-5 is noiseless


class Noisy(StandardizedBottleneck):
    """Samples each latent action from a Gaussian that pays for leaving N(0, 1); evaluates with its mean.

    The KL is summed over the entries of a transition and averaged over transitions, as in AdaWorld; Garrido et al. (arXiv
    2601.05230, section 4) do not say how they reduce it. Their beta stands beside an L1 in units of the encoder's features,
    ours beside one in units of the copy-last-state error.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition.
        beta: Weight of the KL term. Capacity knob: larger passes less. Garrido et al. sweep 5e-3 to 1e-6; AdaWorld has 2e-4.
    """

    knob = "beta"

    def __init__(self, dim: int, num_latents: int, beta: float = 1e-4) -> None:
        super().__init__(dim, num_latents)
        if beta < 0:
            raise ValueError(f"beta is {beta}, expected 0 or more: a negative weight would reward a large KL.")
        self.beta = beta
        self.to_moments = nn.Linear(dim, 2 * dim)
        with torch.no_grad():  # the mean starts as the latent itself, the variance equal for all
            self.to_moments.weight.copy_(torch.cat([torch.eye(dim), torch.zeros(dim, dim)]))
            self.to_moments.bias.copy_(torch.cat([torch.zeros(dim), torch.full((dim,), _START_LOG_VAR)]))

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        self.keep(z)
        with torch.autocast(z.device.type, enabled=False):
            mean, log_var = self.to_moments(self.standardize(z)).chunk(2, dim=-1)
        log_var = log_var.clamp(*_LOG_VAR_RANGE)
        each = kl_to_standard_normal(mean, log_var)  # (B, T-1, L, A)
        kl = each.sum(dim=(-2, -1))
        noisy = self.training or sample
        drawn = mean + (0.5 * log_var).exp() * normal_like(mean, noise_keys) if noisy else mean
        bits = each.detach() / math.log(2)
        stats = {"noise_std": (0.5 * log_var).exp().mean().detach(), "mean_std": mean.detach().std(correction=0)}
        return BottleneckOutput(
            drawn.to(z.dtype), self.beta * kl.mean(), rate_bits=bits.sum(dim=(-2, -1)), stats=stats, rate_bits_each=bits
        )

    @override
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        return draw_normal((n, self.num_latents, self.dim), self.to_moments.weight.device, generator)


def kl_to_standard_normal(mean: Tensor, log_var: Tensor) -> Tensor:
    """Compute KL(N(mean, exp(log_var)) || N(0, 1)) of each number, in nats and float32."""
    mean, log_var = mean.float(), log_var.float()
    return 0.5 * (mean.square() + log_var.exp() - log_var - 1)
