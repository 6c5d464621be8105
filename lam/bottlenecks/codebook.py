"""Codebooks: codes are placed on the data, their use is counted, and those that fall out of use are moved.

Three things keep codebooks from collapsing, all measured in Lancucki et al., "Robust training of vector quantized bottleneck
models" (arXiv 2005.08520): codes that start on the data, at the data's scale, and learn faster than the network.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from lam.bottlenecks.base import StandardizedBottleneck, draw_choice
from lam.distributed import gather_rows, sum_over_processes

CODEBOOK_LR_SCALE = 5.0
"""A code is its parameter times this, so that Adam moves codes five times as fast as it moves weights."""

_DEAD_FRACTION = 0.1  # LAPA's threshold: a code is dead below a tenth of the assignments that even use would give it


class CodeUsage(nn.Module):
    """Counts how often each code is assigned, over all processes, in periods.

    A period ends every step until 10, every 10 steps until 100, every 100 until 1000 and so on, but at least every
    ``max_period`` steps: often while the latents still move, seldom later (LAPA's schedule, which starts at 10). The first
    step's assignments do not count: they were to codes, or at a scale, that the step replaces.

    Args:
        num_codes: Codes K of a codebook.
        max_period: Length of the longest period, in optimizer steps.
        num_codebooks: Codebooks.
    """

    current: Tensor
    finished: Tensor

    def __init__(self, num_codes: int, max_period: int, num_codebooks: int = 1) -> None:
        super().__init__()
        self.max_period = max_period
        self.steps = 0
        self.register_buffer("current", torch.zeros(num_codebooks, num_codes, dtype=torch.int64))
        self.register_buffer("finished", torch.zeros(num_codebooks, num_codes, dtype=torch.int64))

    @torch.no_grad()
    def count(self, codes: Tensor) -> bool:
        """Count one step's assignments, (..., num_codebooks).

        Returns:
            Whether a period ended with this step; its counts are then in ``finished``.
        """
        self.steps += 1
        if self.steps == 1:
            return True
        num_codebooks, num_codes = self.current.shape
        offset = num_codes * torch.arange(num_codebooks, device=codes.device)
        counts = torch.bincount((codes + offset).flatten(), minlength=num_codebooks * num_codes)
        self.current += sum_over_processes(counts).view(num_codebooks, num_codes)
        period = min(int(10 ** int(math.log10(self.steps))), self.max_period)
        ended = self.steps % period == 0
        if ended:
            self.finished.copy_(self.current)
            self.current.zero_()
        return ended

    @property
    def dead(self) -> Tensor:
        """Codes, (num_codebooks, K) bool, with few assignments in the period that just ended; all of them after step 1."""
        if self.steps == 1:
            return torch.ones_like(self.finished, dtype=torch.bool)
        share = self.finished / self.finished.sum(dim=1, keepdim=True)
        return share < _DEAD_FRACTION / share.shape[1]

    def used(self, codebook: int = 0) -> Tensor:
        """List the numbers of a codebook's codes in use lately; all codes before training."""
        recent = self.current[codebook] + self.finished[codebook]
        return torch.nonzero(recent if recent.any() else recent + 1).flatten()

    def stats(self) -> dict[str, Tensor]:
        """Compute perplexity and share of the codes in use lately, on all processes, mean over codebooks."""
        recent = (self.current + self.finished).float()
        share = recent / recent.sum(dim=1, keepdim=True).clamp_min(1)
        perplexity = torch.special.entr(share).sum(dim=1).exp().mean()
        return {"perplexity": perplexity, "codebook_used": (recent > 0).float().mean()}

    @override
    def get_extra_state(self) -> Tensor:
        # not a buffer, since asking a GPU for it would stall every step
        return torch.tensor(self.steps)

    @override
    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)


class Quantizer(StandardizedBottleneck):
    """Base of VQ, NSVQ and DiVeQ: one code a latent token out of one codebook, nearest by Euclidean distance.

    Codes move after the optimizer step, to that step's latents: the first step places all codes, ends of periods
    (``CodeUsage``) move dead ones.

    Args:
        dim: Width A of a latent token, and of a code.
        num_latents: Latent tokens L of a transition.
        num_codes: Codes K.
        reset_every: Longest time between moves of dead codes, in steps.
        reset_until: Last step at which dead codes are moved; None for no end.
    """

    def __init__(self, dim: int, num_latents: int, num_codes: int, reset_every: int, reset_until: int | None) -> None:
        super().__init__(dim, num_latents)
        check_codebook(num_codes, reset_every)
        self.num_codes = num_codes
        self.reset_until = reset_until
        self.codebook = nn.Parameter(torch.randn(num_codes, dim) / CODEBOOK_LR_SCALE)
        self.usage = CodeUsage(num_codes, reset_every)

    def assign(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the nearest codes of latents z (B, T-1, L, A).

        Returns:
            Standardized latents (B, T-1, L, A), their codes as numbers (B, T-1, L), and as vectors (B, T-1, L, A).
        """
        latent: Tensor = self.standardize(z)
        codebook = CODEBOOK_LR_SCALE * self.codebook
        codes = nearest(latent, codebook)
        self.keep(z, codes)
        return latent, codes, codebook[codes]

    @override
    def update_codes(self, z: Tensor, codes: Tensor, optimizer: Optimizer) -> None:
        period_ended, active = self.usage.count(codes.unsqueeze(-1)), learning_rate_is_active(self.codebook, optimizer)
        if period_ended and active and (self.reset_until is None or self.usage.steps <= self.reset_until):
            rows = self.standardize(z).flatten(0, 1)
            reset_dead_codes(self.codebook, self.usage.dead[0], rows, self.usage.steps, optimizer)

    @override
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        # evenly from the codes in use lately
        return self.decode_codes(draw_choice(self.usage.used(), (n, self.num_latents), generator))

    @override
    def used_codes(self) -> list[Tensor]:
        return [self.usage.used()] * self.num_latents

    @override
    def decode_codes(self, codes: Tensor) -> Tensor:
        return CODEBOOK_LR_SCALE * self.codebook.detach()[codes]


def learning_rate_is_active(parameter: nn.Parameter, optimizer: Optimizer) -> bool:
    """Tell whether a parameter's learning rate has not decayed: is a tenth or more of the highest it has had.

    A code that is moved later would stay untrained. A rate that is low because it still rises is the highest so far, so the
    first steps of a warm-up count as active. To be called after every step; the highest rate is kept in the optimizer's
    group, where checkpoints carry it.
    """
    for group in optimizer.param_groups:
        if any(other is parameter for other in group["params"]):
            group["peak_lr"] = max(group["lr"], group.get("peak_lr", 0.0))
            return bool(group["lr"] >= 0.1 * group["peak_lr"])
    return True


def check_codebook(num_codes: int, reset_every: int) -> None:
    """Check the settings of a codebook.

    Raises:
        ValueError: There are fewer than two codes, or no period.
    """
    if num_codes < 2:
        raise ValueError(f"num_codes is {num_codes}, a codebook needs 2 or more; for no latent at all use the none bottleneck.")
    if reset_every < 1:
        raise ValueError(f"reset_every is {reset_every}, expected a number of steps, 1 or more.")


def nearest(rows: Tensor, codebook: Tensor) -> Tensor:
    """Find the nearest of codes (K, A) to rows (..., A) by Euclidean distance in float32; their numbers, (...)."""
    with torch.no_grad():
        return torch.cdist(rows.float().flatten(0, -2), codebook.float()).argmin(dim=-1).view(rows.shape[:-1])


def straight_through(latent: Tensor, code: Tensor) -> Tensor:
    """Return the code, bit for bit, with the gradient going to the latent (Bengio et al., arXiv 1308.3432)."""
    return code.detach() + (latent - latent.detach())


def vq_loss(latent: Tensor, code: Tensor, commitment: float) -> Tensor:
    """Compute ||sg(e) - c||^2 + commitment ||e - sg(c)||^2, means over all entries (VQ-VAE, arXiv 1711.00937, equation 3)."""
    return (code - latent.detach()).square().mean() + commitment * (latent - code.detach()).square().mean()


def capacity_bits(codes: Tensor, num_codes: int) -> Tensor:
    """Compute the capacity of each transition, (B, T-1): log2 K for each of its C codes (B, T-1, C)."""
    return torch.full(codes.shape[:-1], codes.shape[-1] * math.log2(num_codes), device=codes.device)


@torch.no_grad()
def reset_dead_codes(codebook: nn.Parameter, dead: Tensor, rows: Tensor, step: int, optimizer: Optimizer) -> None:
    """Move dead codes to rows of all processes and clear the optimizer's moments of the moved ones.

    Codebooks stay synchronized: every process draws from the same gathered rows and the same live codes with a generator on
    the CPU that is seeded by the step's number.

    Args:
        codebook: Codes divided by ``CODEBOOK_LR_SCALE``, (K, A) or (1, K, A), changed in place.
        dead: Codes to move, (K,) bool.
        rows: Latents of this process, (n, A), as many on every process.
        step: Number of the optimizer step.
        optimizer: Holds moments of the codebook, tensors of its shape.
    """
    rows = gather_rows(rows).cpu()
    codes = codebook.detach().view(-1, rows.shape[1])
    live = CODEBOOK_LR_SCALE * codes[~dead].cpu()
    moved = kmeans_plus_plus(rows, live, int(dead.sum()), torch.Generator().manual_seed(step))
    codes[dead] = (moved / CODEBOOK_LR_SCALE).to(codes)
    for moment in optimizer.state.get(codebook, {}).values():
        if isinstance(moment, Tensor) and moment.shape == codebook.shape:
            moment.view_as(codes)[dead] = 0


def kmeans_plus_plus(rows: Tensor, live: Tensor, count: int, generator: Generator) -> Tensor:
    """Choose new codes (count, A) on rows (n, A) that lie far from live codes and from each other, with 1 % jitter.

    k-means++ seeding (Arthur and Vassilvitskii, SODA 2007) continued from the live codes: a row is drawn with probability
    proportional to its squared distance from the nearest code; one at a time, or a 64th of the count where there are many.
    """
    jitter = 0.01 * rows.std(correction=0)
    distance = torch.cdist(rows, live).square().amin(dim=1) if len(live) else torch.full((len(rows),), torch.inf)
    chosen = [rows[:0]]
    while (missing := count - sum(map(len, chosen))) > 0:
        size = min(max(1, count // 64), missing, len(rows))
        index = torch.multinomial(distance.clamp(1e-12, 1e12), size, generator=generator)
        new = rows[index] + jitter * torch.randn(size, rows.shape[1], generator=generator)
        distance = torch.minimum(distance, torch.cdist(rows, new).square().amin(dim=1))
        chosen.append(new)
    return torch.cat(chosen)
