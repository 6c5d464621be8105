"""The codebook: codes placed on the data, counted per use and moved when they fall out of use.

Three things keep codebooks from collapsing, all measured in Lancucki et al., "Robust training of vector quantized bottleneck
models" (arXiv 2005.08520): codes that start on the data, at the data's scale, and learn faster than the network.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from lam.bottlenecks.base import Bottleneck
from lam.bottlenecks.prior import draw_from
from lam.bottlenecks.standardize import Standardize
from lam.distributed import gather_rows, sum_over_processes

CODEBOOK_LR_SCALE = 5.0
"""A code is this times its parameter, so that Adam moves codes five times as fast as it moves weights."""

_DEAD_SHARE = 0.1  # LAPA's threshold: a code is dead below a tenth of its fair share of assignments


class Usage(nn.Module):
    """Counts how often each code is assigned, over all processes, in periods.

    A period ends every step until 10, every 10 steps until 100, every 100 until 1000 and so on, but at least every
    ``longest`` steps: often while the latents still move, seldom later (LAPA's schedule, which starts at 10). The first
    step's assignments do not count: they were to codes, or at a scale, that the step replaces.

    Args:
        num_codes: Codes K of a codebook.
        longest: Length of the longest period, in optimizer steps.
        num_books: Codebooks.
    """

    current: Tensor
    finished: Tensor

    def __init__(self, num_codes: int, longest: int, num_books: int = 1) -> None:
        super().__init__()
        self.longest = longest
        self.steps = 0
        self.register_buffer("current", torch.zeros(num_books, num_codes, dtype=torch.int64))
        self.register_buffer("finished", torch.zeros(num_books, num_codes, dtype=torch.int64))

    @torch.no_grad()
    def count(self, codes: Tensor) -> bool:
        """Adds one step's assignments, (..., books); True if a period ended with it, its counts then in ``finished``."""
        self.steps += 1
        if self.steps == 1:
            return True
        books, size = self.current.shape
        offset = size * torch.arange(books, device=codes.device)
        counts = torch.bincount((codes + offset).flatten(), minlength=books * size)
        self.current += sum_over_processes(counts).view(books, size)
        ended = self.steps % min(10 ** int(math.log10(self.steps)), self.longest) == 0
        if ended:
            self.finished.copy_(self.current)
            self.current.zero_()
        return ended

    @property
    def dead(self) -> Tensor:
        """Codes below a tenth of their fair share in the period that just ended, (books, K) bool; all of them after step 1."""
        if self.steps == 1:
            return torch.ones_like(self.finished, dtype=torch.bool)
        share = self.finished / self.finished.sum(dim=1, keepdim=True)
        return share < _DEAD_SHARE / share.shape[1]

    def used(self, book: int = 0) -> Tensor:
        """Numbers of the codes in use lately; all codes before training."""
        recent = self.current[book] + self.finished[book]
        return torch.nonzero(recent if recent.any() else recent + 1).flatten()

    def stats(self) -> dict[str, Tensor]:
        """Perplexity and share of the codes in use lately, on all processes, mean over codebooks."""
        recent = (self.current + self.finished).float()
        share = recent / recent.sum(dim=1, keepdim=True).clamp_min(1)
        perplexity = torch.special.entr(share).sum(dim=1).exp().mean()
        return {"perplexity": perplexity, "codes_used": (recent > 0).float().mean()}

    def get_extra_state(self) -> Tensor:
        """Steps counted; not a buffer, since asking a GPU for it would stall every step."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        """Restores them from a checkpoint."""
        self.steps = int(state)


class Quantizer(Bottleneck):
    """What VQ and NSVQ share: one code a latent token out of one codebook, nearest by Euclidean distance.

    Housekeeping happens after the optimizer step, from that step's latents: the first step places all codes, ends of
    periods (``Usage``) move dead ones.

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
        self.standardize = Standardize(dim, num_latents)
        self.codebook = nn.Parameter(torch.randn(num_codes, dim) / CODEBOOK_LR_SCALE)
        self.usage = Usage(num_codes, reset_every)
        self._seen: tuple[Tensor, Tensor] | None = None

    def assign(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Standardized latents (B, T-1, L, A), their nearest codes as numbers (B, T-1, L), and as vectors (B, T-1, L, A)."""
        latent = self.standardize(z)
        codebook = CODEBOOK_LR_SCALE * self.codebook
        codes = nearest(latent, codebook)
        if self.training:
            self._seen = (z.detach(), codes)
        return latent, codes, codebook[codes]

    def bits(self, codes: Tensor) -> Tensor:
        """Capacity of each transition, L log2 K, (B, T-1)."""
        return capacity(codes, self.num_codes)

    def on_optimizer_step(self, optimizer: Optimizer) -> None:
        """Counts the step's codes and, when a period ends, moves dead ones to latents that are coded badly."""
        if self._seen is None:
            return
        z, codes = self._seen
        self._seen = None
        self.standardize.measure(z)
        ended = self.usage.count(codes.unsqueeze(-1))
        if (
            ended
            and (self.reset_until is None or self.usage.steps <= self.reset_until)
            and learning_rate_is_active(self.codebook, optimizer)
        ):
            rows = self.standardize(z).flatten(0, 2)
            reset_dead_codes(self.codebook, self.usage.dead[0], rows, self.usage.steps, optimizer)

    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        """Codes drawn evenly from those in use lately."""
        codes = draw_from(self.usage.used(), (n, self.num_latents), generator)
        return CODEBOOK_LR_SCALE * self.codebook.detach()[codes]


def learning_rate_is_active(parameter: nn.Parameter, optimizer: Optimizer) -> bool:
    """Whether the schedule leaves a parameter a tenth of its learning rate or more: a code moved later would stay untrained."""
    for group in optimizer.param_groups:
        if any(other is parameter for other in group["params"]):
            return group["lr"] >= 0.1 * group.get("initial_lr", group["lr"])
    return True


def check_codebook(num_codes: int, reset_every: int) -> None:
    """Raises where a codebook cannot work."""
    if num_codes < 2:
        raise ValueError(f"num_codes is {num_codes}, a codebook needs 2 or more; for no latent at all use the none bottleneck.")
    if reset_every < 1:
        raise ValueError(f"reset_every is {reset_every}, expected a number of steps, 1 or more.")


def nearest(rows: Tensor, codebook: Tensor) -> Tensor:
    """Numbers of the nearest codes (K, A) to rows (..., A), by Euclidean distance in float32."""
    with torch.no_grad():
        return torch.cdist(rows.float().flatten(0, -2), codebook.float()).argmin(dim=-1).view(rows.shape[:-1])


def straight_through(latent: Tensor, code: Tensor) -> Tensor:
    """The code, bit for bit, with the gradient going to the latent."""
    return code.detach() + (latent - latent.detach())


def vq_loss(latent: Tensor, code: Tensor, commitment: float) -> Tensor:
    """||sg(e) - c||^2 + commitment ||e - sg(c)||^2, each a mean over all entries (VQ-VAE, arXiv 1711.00937, equation 3)."""
    return (code - latent.detach()).square().mean() + commitment * (latent - code.detach()).square().mean()


def capacity(codes: Tensor, num_codes: int) -> Tensor:
    """log2 K for each of the C codes (B, T-1, C) of a transition, summed, (B, T-1)."""
    return torch.full(codes.shape[:-1], codes.shape[-1] * math.log2(num_codes), device=codes.device)


@torch.no_grad()
def reset_dead_codes(codebook: nn.Parameter, dead: Tensor, rows: Tensor, step: int, optimizer: Optimizer) -> None:
    """Moves dead codes to rows of all processes and forgets the optimizer's moments of the moved ones.

    Every process draws the same: same rows, same live codes, a generator on the CPU that starts from the step's number.

    Args:
        codebook: Codes divided by ``CODEBOOK_LR_SCALE``, (K, A) or (1, K, A), changed in place.
        dead: Which codes to move, (K,) bool.
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
    """New codes (count, A) on rows (n, A) that lie far from live codes and from each other, with 1 % jitter.

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
