"""Many small networks fitted at once: the nonlinear probes of an evaluation.

One batched product a layer serves all probes, and each draws its own minibatches, so the cost does not grow with the
number of labels. Labels held back do not train a probe, they choose for each factor when it should have stopped.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

HIDDEN = 64
STEPS = 200
BATCH = 128
LEARNING_RATE = 2e-2
CHECK_EVERY = 20


class Labels(NamedTuple):
    """Which labels a probe may use.

    Attributes:
        train: Places of the labels it trains on.
        held_back: Places of the labels by which it stops.
    """

    train: Tensor
    held_back: Tensor


class Fitted(NamedTuple):
    """What the probes found.

    Attributes:
        predicted: Predictions of the test rows, (P, m, Q).
        loss: Mean square error of each factor on the labels held back, by which settings may be chosen, (P, G).
    """

    predicted: Tensor
    loss: Tensor


def fit_mlps(inputs: Tensor, targets: Tensor, labels: list[Labels], factor: Tensor, test: Tensor) -> Fitted:
    """Fits P networks with one hidden layer, each to all Q target columns, by least squares.

    Args:
        inputs: What each probe sees, (P, n, d), about standardized, zero where a probe has fewer than d inputs.
        targets: What each probe should say, (P, n, Q), about standardized; a network starts out saying 0.
        labels: Which labels each probe may use, P of them.
        factor: Which of G factors each column belongs to, (Q,), each number from 0 to G-1 at least once.
        test: Places of the rows to predict, (m,).
    """
    with torch.inference_mode(False), torch.enable_grad():  # validation passes run in inference mode
        inputs, targets, factor = inputs.clone(), targets.clone(), factor.clone()
        generator = Generator().manual_seed(0)
        batches = torch.stack([_batches(own.train, generator) for own in labels], dim=1)  # (steps, P, batch)
        networks = _Networks(inputs, targets.shape[2], generator)
        optimizer = torch.optim.Adam(networks.parameters, lr=LEARNING_RATE, fused=True)
        schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS, pct_start=0.1)
        best = Fitted(
            torch.zeros(len(inputs), len(test), targets.shape[2]),
            torch.full((len(inputs), int(factor.max()) + 1), torch.inf),
        )
        probe = torch.arange(len(inputs))[:, None]
        for step, rows in enumerate(batches):
            if step % CHECK_EVERY == 0:
                _keep_better(best, networks, inputs, targets, labels, factor, test)
            loss = (networks(inputs[probe, rows]) - targets[probe, rows]).square().mean(dim=1).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        _keep_better(best, networks, inputs, targets, labels, factor, test)
    return best


class _Networks:
    """The weights of all P networks."""

    def __init__(self, inputs: Tensor, outputs: int, generator: Generator) -> None:
        p, _, d = inputs.shape
        used = (inputs != 0).any(dim=1).sum(dim=1).clamp(min=1)
        self.first = torch.randn(p, d, HIDDEN, generator=generator) / used.sqrt()[:, None, None]
        self.bias = 0.5 * torch.randn(p, 1, HIDDEN, generator=generator)
        self.second, self.offset = torch.zeros(p, HIDDEN, outputs), torch.zeros(p, 1, outputs)
        self.parameters = [x.requires_grad_() for x in (self.first, self.bias, self.second, self.offset)]

    def __call__(self, x: Tensor, probes: slice = slice(None)) -> Tensor:
        """Outputs (p, b, Q) of some probes for their inputs (p, b, d)."""
        hidden = F.gelu(torch.baddbmm(self.bias[probes], x, self.first[probes]), approximate="tanh")
        return torch.baddbmm(self.offset[probes], hidden, self.second[probes])


@torch.no_grad()
def _keep_better(
    best: Fitted,
    networks: _Networks,
    inputs: Tensor,
    targets: Tensor,
    labels: list[Labels],
    factor: Tensor,
    test: Tensor,
) -> None:
    """Updates the best predictions so far where the labels held back favor the networks as they are now."""
    for p, (_, held) in enumerate(labels):
        probe = slice(p, p + 1)
        columns = (networks(inputs[probe, held], probe)[0] - targets[p, held]).square().mean(dim=0)
        loss = F.one_hot(factor).to(columns).T @ columns / torch.bincount(factor)
        better = loss < best.loss[p]
        if better.any():
            best.loss[p] = torch.where(better, loss, best.loss[p])
            best.predicted[p] = torch.where(better[factor], networks(inputs[probe, test], probe)[0], best.predicted[p])


def _batches(rows: Tensor, generator: Generator) -> Tensor:
    """Places of the labels of each step, (steps, batch), passing through all of them in ever new orders."""
    passes = -(-STEPS * BATCH // len(rows))
    order = torch.rand(passes, len(rows), generator=generator).argsort(dim=1)
    return rows[order.flatten()[: STEPS * BATCH]].view(STEPS, BATCH)
