"""Sparse latent actions: few active entries, guarded against collapse (Garrido et al., arXiv 2601.05230, section 4)."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from lam.bottlenecks.base import BottleneckOutput, StandardizedBottleneck, draw_normal
from lam.distributed import gather_rows

_LAMBDA_MEAN = 0.1
_LANGEVIN_STEPS = 200
_RAMP_LENGTH = 4  # in warm-ups of the learning rate


class Sparse(StandardizedBottleneck):
    """Charges the L1 norm of each latent action; hinges on norm, variance, covariance and mean keep it from dying.

    With D = L A and N transitions over batch, time and all processes:

        loss = mean_i E(z_i) + VCM(Z)
        E(z) = lambda_l2 max(sqrt(D) - |z|^2, 0) + lambda_l1 |z|_1
        VCM  = lambda_variance mean_d max(1 - std_d, 0) + lambda_covariance mean_{i != j} cov_ij^2 + 0.1 |mean(Z)|

    Printed is a signed mean(Z), which has no lower bound (it diverges for lambda_l1 < 0.1 / D); its absolute value has the
    same optimum otherwise. At the printed hinge |z|^2 settles near sqrt(D), so a standard deviation of 1 is never reached;
    the other reading, |z| against sqrt(D), allows it. Latents start at the norm that the hinge asks for: started small, the
    L1 term kills them for good.

    lambda_l1 is held back, which is not in the paper: it is 0 while the learning rate rises to its peak and then rises
    linearly to its value over four times as many steps (half of a training with a warm-up of a tenth). Charged from the start
    it makes all latents one vector within 25 steps, before the forward model has learned to listen: a single large entry,
    the same for all clips, meets the norm hinge for the least L1, and the variance hinge is too weak to object
    (lambda_variance / D an entry). A constant learning rate rises for one step, so then lambda_l1 is at its value after five.
    What clips differ in still rides on that entry, in about a thousandth of z's variance: no noise makes an amplitude too small
    to be heard. On the world ``arm`` (D = 32, small heads) 0.1 closes 78 % of the gap, 0.4 33 % and 1.0 nothing, so the family
    is above ``none`` over the published weights but does not level off beyond them.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition.
        lambda_l1: Weight of the L1 norm. Capacity knob: larger passes less. Paper: 0.4 to 0.01 at D = 128 beside an L1 loss
            in units of the encoder's features; here that loss is in units of the copy-last-state error. For another D or gap G
            between the identity and the none bottleneck, sweep lambda_l1 (D^(3/4) - D^(1/4)) from about 0.03 G to 30 G.
        lambda_l2: Weight of the norm hinge; lambda_l2 D^(1/4) must exceed lambda_l1, or z = 0 is the cheapest.
        lambda_variance: Weight of the variance hinge.
        lambda_covariance: Weight of the covariances.
        hinge_on_squared_norm: Compare |z|^2 with sqrt(D), as printed; else |z|.
    """

    knob = "lambda_l1"
    charged: Tensor

    def __init__(
        self,
        dim: int,
        num_latents: int,
        lambda_l1: float = 0.01,
        lambda_l2: float = 1.0,
        lambda_variance: float = 0.1,
        lambda_covariance: float = 0.001,
        hinge_on_squared_norm: bool = True,
    ) -> None:
        size = dim * num_latents
        squared_norm = math.sqrt(size) if hinge_on_squared_norm else size  # where the hinge ends
        limit = lambda_l2 * math.sqrt(size / squared_norm)
        if not 0 < lambda_l1 < limit:
            raise ValueError(
                f"lambda_l1 is {lambda_l1}, expected more than 0 and less than {limit:.3g}, above which {size} entries are "
                "cheapest at 0. For no limit use the identity bottleneck, for no latent the none bottleneck."
            )
        entry_std = math.sqrt(squared_norm / size)
        super().__init__(dim, num_latents, std=entry_std)
        self.lambda_l1 = lambda_l1
        self.lambda_l2 = lambda_l2
        self.lambda_variance = lambda_variance
        self.lambda_covariance = lambda_covariance
        self.hinge_on_squared_norm = hinge_on_squared_norm
        self.entry_std = entry_std
        self.register_buffer("charged", torch.ones(()))  # share of lambda_l1; 1 outside training
        self.ramp = Ramp()

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        self.keep(z)
        latent = self.standardize(z)
        rows = latent.flatten(2).flatten(0, 1)  # (B * (T-1), L * A)
        if self.training:  # validation batches may differ in length between processes, so they stay apart
            rows = gather_rows(rows)
        with torch.autocast(z.device.type, enabled=False):
            loss = energy(rows, self.lambda_l1 * self.charged, self.lambda_l2, self.hinge_on_squared_norm).mean()
            loss = loss + vcm(rows, self.lambda_variance, self.lambda_covariance, _LAMBDA_MEAN)
        return BottleneckOutput(latent.to(z.dtype), loss, stats=_stats(rows.detach()))

    @override
    def on_optimizer_step(self, optimizer: Optimizer) -> None:
        super().on_optimizer_step(optimizer)
        if self.training:
            self.charged.fill_(self.ramp.step(optimizer.param_groups[0]["lr"]))

    @override
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw by Langevin dynamics on E: z <- z - (a / 2) dE/dz / temperature + N(0, a), 200 steps (Garrido et al., app. B).

        At temperature 1 samples would spread to entries of size 1 / lambda_l1, far beyond any latent. The temperature,
        lambda_l1 times the entry size the hinge asks for / sqrt(2), makes the Laplace distribution of the L1 term alone have
        the squared norm that the hinge asks for. The step a is a twentieth of the squared entry size, less where the
        hinge is steep.
        """
        temperature = self.lambda_l1 * self.entry_std / math.sqrt(2)
        step = min(0.05 * self.entry_std**2, 0.5 * temperature / self.lambda_l2)
        shape, device = (n, self.num_latents * self.dim), self.standardize.scale.device
        z = self.entry_std * draw_normal(shape, device, generator)
        for _ in range(_LANGEVIN_STEPS):
            gradient = energy_gradient(z, self.lambda_l1, self.lambda_l2, self.hinge_on_squared_norm)
            z = z - 0.5 * step / temperature * gradient + math.sqrt(step) * draw_normal(shape, device, generator)
        drawn: Tensor = z.unflatten(-1, (self.num_latents, self.dim))
        return drawn


class Ramp(nn.Module):
    """Counts steps while the learning rate rises, and rises from 0 to 1 itself over four times as many steps after them."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.rising_steps = 0
        self.peak = 0.0

    def step(self, lr: float) -> float:
        """Count an optimizer step that was taken at a learning rate, and return the height for the next."""
        self.steps += 1
        if lr > self.peak:
            self.peak, self.rising_steps = lr, self.steps
        return min(1.0, (self.steps - self.rising_steps) / (_RAMP_LENGTH * max(1, self.rising_steps)))

    @override
    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.steps, self.rising_steps, self.peak], dtype=torch.float64)

    @override
    def set_extra_state(self, state: Tensor) -> None:
        self.steps, self.rising_steps, self.peak = int(state[0]), int(state[1]), float(state[2])


def energy(rows: Tensor, lambda_l1: float | Tensor, lambda_l2: float, squared: bool) -> Tensor:
    """Compute E(z) of each row, (N,), of rows (N, D)."""
    norm: Tensor = rows.square().sum(dim=1) if squared else torch.linalg.vector_norm(rows, dim=1)
    return lambda_l2 * (math.sqrt(rows.shape[1]) - norm).clamp_min(0) + lambda_l1 * rows.abs().sum(dim=1)


def energy_gradient(rows: Tensor, lambda_l1: float, lambda_l2: float, squared: bool) -> Tensor:
    """Compute dE/dz of each row, (N, D), written out because validation runs without autograd."""
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    below = (norm.square() if squared else norm) < math.sqrt(rows.shape[1])
    outward: Tensor = 2 * rows if squared else rows / norm.clamp_min(1e-12)
    return lambda_l1 * rows.sign() - lambda_l2 * below * outward


def vcm(rows: Tensor, lambda_variance: float, lambda_covariance: float, lambda_mean: float) -> Tensor:
    """Compute the variance, covariance and mean terms of rows (N, D); statistics divide by N, so that one row is no error."""
    mean = rows.mean(dim=0)
    centered = rows - mean
    covariance = centered.T @ centered / len(rows)  # (D, D)
    variance = covariance.diagonal()
    dim = len(variance)
    hinge = (1 - (variance + 1e-8).sqrt()).clamp_min(0).mean()
    off_diagonal = (covariance.square().sum() - variance.square().sum()) / max(dim * (dim - 1), 1)
    return lambda_variance * hinge + lambda_covariance * off_diagonal + lambda_mean * mean.mean().abs()


def participation_ratio(rows: Tensor) -> Tensor:
    """Compute the participation ratio of each row, (N,): how many entries share its squared norm, from 1 to D."""
    squares = rows.square()
    return squares.sum(dim=1).square() / squares.square().sum(dim=1).clamp_min(1e-12)


def _stats(rows: Tensor) -> dict[str, Tensor]:
    return {
        "squared_norm": rows.square().sum(dim=1).mean(),
        "l1": rows.abs().sum(dim=1).mean(),
        "active_entries": participation_ratio(rows).mean(),
        "dead": (rows.square().sum(dim=1) < 0.01 * math.sqrt(rows.shape[1])).float().mean(),
    }
