"""Nonlinear probes: many small networks fitted at once.

One batched product a layer serves all probes, and each draws its own minibatches, so the cost does not grow with the
number of labels. Labels held back do not train a probe, they choose for each factor when it should have stopped.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

HIDDEN_DIM = 64
NUM_STEPS = 150
BATCH_SIZE = 128
LEARNING_RATE = 2e-2
CHECK_EVERY = 25


class LabelSplit(NamedTuple):
    """Labels that a probe may use.

    Attributes:
        train: Indices of the labels it trains on.
        held_back: Indices of the labels that stop it early.
    """

    train: Tensor
    held_back: Tensor


class FittedProbes(NamedTuple):
    """Predictions of fitted probes, and their losses.

    Attributes:
        predicted: Predictions of the test rows, (P, m, Q).
        loss: Mean square error of each factor on the labels held back, by which settings may be chosen, (P, G).
    """

    predicted: Tensor
    loss: Tensor


def fit_mlps(inputs: Tensor, targets: Tensor, labels: list[LabelSplit], factor: Tensor, test: Tensor) -> FittedProbes:
    """Fit P networks with one hidden layer, each to all Q target columns, by least squares.

    Args:
        inputs: Inputs of each probe, (P, n, d), about standardized, zero where a probe has fewer than d inputs.
        targets: Targets of each probe, (P, n, Q), about standardized; an untrained network predicts 0.
        labels: Labels that each probe may use, P of them.
        factor: Factor that each column belongs to, (Q,), each number from 0 to G-1 at least once.
        test: Indices of the rows to predict, (m,).
    """
    with torch.inference_mode(False), torch.enable_grad():  # validation passes run in inference mode
        inputs, targets, factor = inputs.clone(), targets.clone(), factor.clone()
        generator = Generator().manual_seed(0)
        batches = torch.stack([_batches(own.train, generator) for own in labels], dim=1)  # (steps, P, batch)
        networks = _Networks(inputs, targets.shape[2], generator)
        optimizer = torch.optim.Adam(networks.parameters, lr=LEARNING_RATE, fused=True)
        schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=NUM_STEPS, pct_start=0.1)
        best = FittedProbes(
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
    """Weights of all P networks."""

    def __init__(self, inputs: Tensor, outputs: int, generator: Generator) -> None:
        p, _, d = inputs.shape
        used = (inputs != 0).any(dim=1).sum(dim=1).clamp(min=1)
        self.first = torch.randn(p, d, HIDDEN_DIM, generator=generator) / used.sqrt()[:, None, None]
        self.bias = 0.5 * torch.randn(p, 1, HIDDEN_DIM, generator=generator)
        self.second, self.offset = torch.zeros(p, HIDDEN_DIM, outputs), torch.zeros(p, 1, outputs)
        self.parameters = [x.requires_grad_() for x in (self.first, self.bias, self.second, self.offset)]

    def __call__(self, x: Tensor, probes: slice = slice(None)) -> Tensor:
        """Compute outputs (p, b, Q) of some probes for their inputs (p, b, d)."""
        hidden = F.gelu(torch.baddbmm(self.bias[probes], x, self.first[probes]), approximate="tanh")
        return torch.baddbmm(self.offset[probes], hidden, self.second[probes])


@torch.no_grad()
def _keep_better(
    best: FittedProbes,
    networks: _Networks,
    inputs: Tensor,
    targets: Tensor,
    labels: list[LabelSplit],
    factor: Tensor,
    test: Tensor,
) -> None:
    """Update the best predictions so far where the networks as they are now are better on the labels held back."""
    for p, (_, held) in enumerate(labels):
        probe = slice(p, p + 1)
        columns = (networks(inputs[probe, held], probe)[0] - targets[p, held]).square().mean(dim=0)
        loss = F.one_hot(factor).to(columns).T @ columns / torch.bincount(factor)
        better = loss < best.loss[p]
        if better.any():
            best.loss[p] = torch.where(better, loss, best.loss[p])
            best.predicted[p] = torch.where(better[factor], networks(inputs[probe, test], probe)[0], best.predicted[p])


def _batches(rows: Tensor, generator: Generator) -> Tensor:
    """Draw indices of the labels of each step, (steps, batch), pass by pass, each in an order of its own."""
    passes = -(-NUM_STEPS * BATCH_SIZE // len(rows))
    order = torch.rand(passes, len(rows), generator=generator).argsort(dim=1)
    return rows[order.flatten()[: NUM_STEPS * BATCH_SIZE]].view(NUM_STEPS, BATCH_SIZE)
