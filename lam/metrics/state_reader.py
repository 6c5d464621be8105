"""A small convolutional network that learns what of a state matters, and its features of single states.

It is trained to predict the labels of a transition from its two states, as a sum of what is read from each. So it has to learn
where things are to say how they move, though nobody tells it, and a single state gives nothing away that two states do not
explain: trained on single states it would learn noise by heart. Each of its channels says where in the picture it is strongest
(spatial softmax, https://arxiv.org/abs/1504.00702) and how strong, so a few hundred labels suffice.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from lam.metrics.memo import remember
from lam.metrics.mlp import LabelSplit

NUM_FEATURES = 16
CHANNELS = (16, 32)
NUM_STEPS, BATCH_SIZE, CHECK_EVERY = 150, 32, 30
LEARNING_RATE, WEIGHT_DECAY = 1e-2, 0.05
SMALL = 8
"""Pictures up to this size are not made smaller by the first layers."""


@remember(results=4)
def read_states(pictures: Tensor, targets: Tensor, labels: LabelSplit, factor: Tensor) -> Tensor:
    """Learn features of states, (n, T, K), of which those before and after a transition linearly give its labels.

    Training stops where the mean error of the factors on the labels held back is lowest, each counted as at most that of a
    constant: one that cannot be read at all does not end it.

    Args:
        pictures: States as pictures of any number of channels, (n, T, C, h, w), half precision or better.
        targets: Target columns of the transitions, (n * (T-1), Q), about standardized.
        labels: Labels to learn from; the index of one is clip * (T-1) + transition.
        factor: Factor that each column belongs to, (Q,).
    """
    n, t = pictures.shape[:2]
    with torch.inference_mode(False), torch.enable_grad():  # validation passes run in inference mode
        pictures, targets, factor = pictures.clone(), targets.clone(), factor.clone()
        train, held = labels.train.clone(), labels.held_back.clone()
        generator = Generator().manual_seed(0)
        rows = train[torch.randint(len(train), (NUM_STEPS, BATCH_SIZE), generator=generator)]
        network = _Reader(pictures, targets.shape[1], train // (t - 1), generator)
        optimizer = torch.optim.AdamW(network.parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
        schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=NUM_STEPS, pct_start=0.2)
        best, kept = math.inf, network.copied()
        for step in range(NUM_STEPS + 1):
            if step % CHECK_EVERY == 0:
                with torch.no_grad():
                    columns = (network.predict(pictures, held) - targets[held]).square().mean(dim=0)
                own = torch.zeros(int(factor.max()) + 1).index_add(0, factor, columns) / torch.bincount(factor)
                if (score := own.clamp(max=1).mean().item()) < best:
                    best, kept = score, network.copied()
            if step == NUM_STEPS:
                break
            loss = (network.predict(pictures, rows[step]) - targets[rows[step]]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        network.parameters = kept
        with torch.no_grad():
            flat = pictures.flatten(0, 1)
            features = torch.cat([network.features(batch) for batch in flat.split(1024)])
    of_clips: Tensor = features.unflatten(0, (n, t))
    return of_clips


class _Reader:
    """Weights of the network: convolutions, features from places and strengths of channels, a linear answer from two states."""

    def __init__(self, pictures: Tensor, outputs: int, clips: Tensor, generator: Generator) -> None:
        known = pictures[clips.unique()].float()
        self.mean = known.mean(dim=(0, 1, 3, 4))[:, None, None]
        self.scale = (known - self.mean).square().mean().sqrt().clamp(min=1e-6)
        self.stride = 2 if max(pictures.shape[-2:]) > SMALL else 1
        first, second = CHANNELS
        shapes = [
            (first, pictures.shape[2], 5, 5),
            (second, first, 3, 3),
            (NUM_FEATURES, 3 * second),
            (outputs, 2 * NUM_FEATURES),
        ]
        self.parameters: list[Tensor] = []
        for shape in shapes:  # a third of the variance that would keep that of the input: larger weights learn by heart
            weight = torch.randn(shape, generator=generator) / math.sqrt(3 * math.prod(shape[1:]))
            self.parameters += [weight.requires_grad_(), torch.zeros(shape[0]).requires_grad_()]

    def copied(self) -> list[Tensor]:
        """Return copies of the weights."""
        return [parameter.detach().clone() for parameter in self.parameters]

    def features(self, pictures: Tensor) -> Tensor:
        """Compute features (b, K) of pictures (b, C, h, w)."""
        x = (pictures.float() - self.mean) / self.scale
        first, first_bias, second, second_bias, last, last_bias, _, _ = self.parameters
        x = F.gelu(F.conv2d(x, first, first_bias, stride=self.stride, padding=2), approximate="tanh")
        x = F.conv2d(x, second, second_bias, stride=self.stride, padding=1)
        weights, (rows, columns) = x.flatten(2).softmax(dim=2), x.shape[-2:]
        down, right = torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns)
        places = [weights @ down.repeat_interleave(columns), weights @ right.repeat(rows)]
        return F.linear(torch.cat([*places, F.gelu(x).flatten(2).mean(dim=2)], dim=1), last, last_bias)

    def predict(self, pictures: Tensor, rows: Tensor) -> Tensor:
        """Predict targets (b, Q) of transitions (b,) from both of their states."""
        clips, steps = rows // (pictures.shape[1] - 1), rows % (pictures.shape[1] - 1)
        both = torch.stack([pictures[clips, steps], pictures[clips, steps + 1]], dim=1)
        features = self.features(both.flatten(0, 1)).view(len(rows), -1)
        return F.linear(features, *self.parameters[-2:])
