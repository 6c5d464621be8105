"""Muon with AdamW as one optimizer, parameter groups and the schedule."""

import copy
import math

import pytest
import torch
from torch import nn

from lam.optimizers import MuonAdamW, orthogonalize, parameter_groups, warmup_cosine


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.input = nn.Linear(3, 8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.LayerNorm(8)])
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, x):
        x = self.input(x)
        for block in self.blocks:
            x = block(x)
        return x


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Tiny()

    def forward(self, x):
        return self.part(x)


def tiny() -> Wrapped:
    torch.manual_seed(0)
    return Wrapped()


def train(model, optimizer, steps):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(16, 3, generator=generator)
        optimizer.zero_grad()
        (model(x)[:, :3] - x).square().mean().backward()
        optimizer.step()


def test_groups_hold_every_trainable_parameter_once_and_know_hidden_matrices():
    model = tiny()
    groups = parameter_groups(model)
    by_hidden = {id(p): g["hidden"] for g in groups for p in g["params"]}
    assert set(by_hidden) == {id(p) for p in model.parameters() if p.requires_grad}
    assert by_hidden[id(model.part.blocks[0].weight)]
    assert not by_hidden[id(model.part.input.weight)]
    assert not by_hidden[id(model.part.blocks[0].bias)]
    assert all(p.ndim == 1 for g in groups if g.get("weight_decay") == 0.0 for p in g["params"])


def test_each_half_moves_like_the_optimizer_it_is_made_of():
    torch.manual_seed(0)
    starts = [torch.randn(shape) for shape in ((8, 8), (8, 8), (6, 12), (12, 6), (5, 5))]
    gradients = [[torch.randn_like(start) for start in starts] for _ in range(3)]
    ours, theirs = ([nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    groups = [{"params": ours[:4], "hidden": True}, {"params": ours[4:], "hidden": False}]
    together = MuonAdamW(groups, lr=0.02, adamw_lr=1e-2, weight_decay=0.04)
    muon = torch.optim.Muon(theirs[:4], lr=0.02, weight_decay=0.04, momentum=0.95)
    adamw = torch.optim.AdamW(theirs[4:], lr=1e-2, weight_decay=0.04)
    for step in gradients:
        for one, other, gradient in zip(ours, theirs, step, strict=True):
            one.grad, other.grad = gradient.clone(), gradient.clone()
        for optimizer in (together, muon, adamw):
            optimizer.step()
    for one, other, start in zip(ours[:4], theirs[:4], starts, strict=False):
        assert (one - other).norm() < 0.03 * (other - start).norm()  # torch orthogonalizes in bfloat16
    assert torch.equal(ours[4], theirs[4])


@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 4, 9), (2, 9, 4)])
def test_orthogonalized_matrices_keep_their_directions_and_have_singular_values_near_one(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    result = orthogonalize(matrices)
    values = left.mT @ result @ right.mT
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.5 and diagonal.max() < 1.25
    torch.testing.assert_close(values, torch.diag_embed(diagonal), atol=1e-4, rtol=0)


def test_saved_and_restored_it_continues_bit_for_bit():
    straight, resumed = tiny(), tiny()
    optimizer = MuonAdamW(parameter_groups(straight))
    train(straight, optimizer, 6)
    saved_model = {k: v.clone() for k, v in straight.state_dict().items()}
    saved = copy.deepcopy(optimizer.state_dict())
    train(straight, optimizer, 4)
    resumed.load_state_dict(saved_model)
    fresh = MuonAdamW(parameter_groups(resumed))
    fresh.load_state_dict(saved)
    train(resumed, fresh, 4)
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_schedule_reaches_both_halves():
    model = tiny()
    optimizer = MuonAdamW(parameter_groups(model), lr=0.02, adamw_lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    train(model, optimizer, 1)
    schedule.step()
    assert {g["lr"] for g in optimizer.param_groups if g["hidden"]} == {0.01}
    assert {g["lr"] for g in optimizer.adamw.param_groups} == {5e-4}


def test_warmup_rises_linearly_then_falls_to_zero():
    factor = warmup_cosine(100, 0.1)
    assert [factor(s) for s in range(10)] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert factor(10) == 1.0
    assert factor(55) == pytest.approx(0.5 * (1 + math.cos(math.pi * 45 / 90)))
    assert factor(100) == pytest.approx(0.0, abs=1e-12)
