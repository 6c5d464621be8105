"""Improved cross-entropy method: colored noise, elites that are kept, a falling population (https://arxiv.org/abs/2008.06389)."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lam.control.planners.base import Plan, Planner, Problem

# Letters of this file: E episodes, K candidates, H steps, U numbers of an action.


class ICEM(Planner):
    """Cross-entropy method with the improvements of Pinneri et al. (https://arxiv.org/abs/2008.06389, algorithm 1).

    Noise is correlated along the steps, the population falls by a factor an iteration, a share of the elites stays among the
    candidates, that of an earlier plan too, the mean joins them at last, and the plan is the cheapest sequence ever met. Costs
    of kept elites are remembered, where the paper evaluates them again.

    Args:
        num_samples: Sequences of the first iteration.
        num_elites: Cheapest ones that the Gaussian is refitted to; 10 there.
        num_iterations: Refits.
        color: Exponent of the noise: its power falls with frequency to that power. 0 is white noise, there it is 0.25 to 4.
        decay: Factor by which the samples become fewer with each iteration, down to twice the elites; 1.25 there.
        kept: Share of the elites that stay among the candidates; 0.3 there.
        momentum: Share of the former mean and standard deviation in the new ones; 0.1 there.
    """

    def __init__(
        self,
        num_samples: int = 300,
        num_elites: int = 10,
        num_iterations: int = 15,
        color: float = 1.0,
        decay: float = 1.25,
        kept: float = 0.3,
        momentum: float = 0.1,
    ) -> None:
        if not 2 <= num_elites <= num_samples or num_iterations < 1:
            raise ValueError(
                f"num_elites is {num_elites}, num_samples {num_samples}, num_iterations {num_iterations}; ICEM needs "
                "2 <= num_elites <= num_samples and at least 1 iteration."
            )
        if color < 0 or decay < 1 or not 0 < kept <= 1 or not 0 <= momentum < 1:
            raise ValueError(
                f"color is {color}, decay {decay}, kept {kept}, momentum {momentum}; ICEM needs a color of at least 0, a decay "
                "of at least 1, a kept share in (0, 1] and a momentum in [0, 1)."
            )
        self.num_elites, self.color, self.momentum = num_elites, color, momentum
        self.num_kept = max(1, round(kept * num_elites))
        least = min(2 * num_elites, num_samples)
        self.populations = [max(int(num_samples * decay**-iteration), least) for iteration in range(num_iterations)]

    @property
    @override
    def evaluations(self) -> int:
        """Candidates that are evaluated for an episode; the elites of an earlier plan come on top."""
        return sum(self.populations) + 1

    @override
    def plan(self, problem: Problem) -> Plan:
        mean = problem.initial_mean()
        std = problem.std.expand_as(mean)
        color = color_matrix(problem.horizon, self.color).to(mean)
        elites, costs = mean[:, None][:, :0], mean.new_zeros(len(mean), 0)
        trace = []
        for iteration, num_samples in enumerate(self.populations):
            noise = torch.einsum("ts,eksu->ektu", color, problem.noise(iteration, num_samples))
            candidates = problem.clip_actions(mean[:, None] + std[:, None] * noise)
            if iteration == 0 and problem.elites is not None:
                candidates = torch.cat([candidates, problem.clip_actions(problem.elites[:, : self.num_kept])], dim=1)
            if iteration == len(self.populations) - 1:
                candidates = torch.cat([candidates, mean[:, None]], dim=1)
            costs = torch.cat([costs[:, : self.num_kept], problem.cost(candidates)], dim=1)
            candidates = torch.cat([elites[:, : self.num_kept], candidates], dim=1)
            best = costs.topk(self.num_elites, dim=1, largest=False)
            costs = best.values
            elites = candidates.gather(1, best.indices[:, :, None, None].expand(-1, -1, *mean.shape[1:]))
            mean = elites.mean(dim=1).lerp(mean, self.momentum)
            std = elites.std(dim=1, correction=0).lerp(std, self.momentum)
            trace.append(costs[:, 0])
        return Plan(elites[:, 0], costs[:, 0], torch.stack(trace), elites)


def color_matrix(horizon: int, exponent: float) -> Tensor:
    """Return the matrix (H, H) that turns white noise along the steps into noise whose power falls as 1 / frequency^exponent.

    Timmer and König (1995), on whose method the paper's noise rests: each Fourier component has its own normal amplitude. The
    constant component is as strong as the lowest frequency. Every step has variance 1, the constant component included; the
    package colorednoise, which the authors use, leaves it out of the sum, so that there noise is wider than its name says.

    Args:
        horizon: Steps H.
        exponent: 0 for white noise.
    """
    steps = torch.arange(horizon, dtype=torch.float64)
    columns = []
    for number in range(horizon // 2 + 1):
        amplitude = (max(number, 1) / horizon) ** (-exponent / 2)
        angle = 2 * torch.pi * number * steps / horizon
        if 2 * number in (0, horizon):  # the constant and the highest frequency of an even number of steps have no sine
            columns.append(amplitude * angle.cos())
        else:
            columns += [amplitude * 2**0.5 * angle.cos(), amplitude * 2**0.5 * angle.sin()]
    matrix = torch.stack(columns, dim=1)
    return matrix / matrix.square().sum(dim=1, keepdim=True).sqrt()
