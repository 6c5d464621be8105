"""Codes are placed on the data, counted, and moved while the learning rate lets them learn."""

import math

import pytest
import torch
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from lam.bottlenecks import NSVQ, RVQ, VQ, DiVeQ
from lam.bottlenecks.codebook import (
    CODEBOOK_LR_SCALE,
    CodeUsage,
    kmeans_plus_plus,
    learning_rate_is_active,
    nearest,
    reset_dead_codes,
)
from lam.optimizers import MuonAdamW, parameter_groups, warmup_cosine


def test_every_assignment_counts():
    usage = CodeUsage(3, max_period=100, num_codebooks=2)
    codes = torch.tensor([[0, 2], [0, 2], [1, 2]])
    ended = [step for step in range(1, 1001) if usage.count(codes)]
    assert ended == [*range(1, 10), *range(10, 100, 10), *range(100, 1001, 100)]
    assert usage.finished.tolist() == [[200, 100, 0], [0, 0, 300]]
    assert usage.dead.tolist() == [[False, False, True], [True, True, False]]
    assert usage.used(1).tolist() == [2]


def test_reset_moves_dead_codes_onto_latents_and_clears_their_moments():
    torch.manual_seed(0)
    codebook = torch.nn.Parameter(torch.randn(4, 3))
    optimizer = Adam([codebook])
    codebook.square().sum().backward()
    optimizer.step()
    before = codebook.detach().clone()
    rows = 10 + torch.randn(20, 3)
    dead = torch.tensor([False, True, False, True])
    reset_dead_codes(codebook, dead, rows, 7, optimizer)
    moved = CODEBOOK_LR_SCALE * codebook.detach()[dead]
    distance = torch.cdist(moved, rows).amin(dim=1)
    assert (distance > 0).all()  # with jitter, so that no latent hits a code exactly
    assert (distance < 0.1).all()
    assert not torch.equal(moved[0], moved[1])
    assert torch.equal(codebook[~dead], before[~dead])
    for moment in (optimizer.state[codebook]["exp_avg"], optimizer.state[codebook]["exp_avg_sq"]):
        assert (moment[dead] == 0).all()
        assert (moment[~dead] != 0).all()


def test_kmeans_plus_plus_finds_every_cluster():
    centers = 100 * torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    rows = centers.repeat(10, 1) + 0.1 * torch.randn(120, 4)
    live = centers[:3]
    new = kmeans_plus_plus(rows, live, 9, torch.Generator().manual_seed(1))
    owner = torch.cdist(new, centers).argmin(dim=1)
    assert sorted(owner.tolist()) == list(range(3, 12))
    assert kmeans_plus_plus(rows[:5], live[:0], 200, torch.Generator()).shape == (200, 4)  # more codes than rows


@pytest.mark.parametrize("cls", [VQ, NSVQ, DiVeQ, RVQ])
@pytest.mark.parametrize("warmup", [0.1, 0.0])
def test_codes_start_on_the_data_at_the_first_step(cls, warmup):
    """With the schedule of 30,000 steps, whose warm-up lasts 3,000: the first step's rate is a 3,000th of the highest."""
    torch.manual_seed(0)
    bottleneck = cls(6, 2, num_codes=8) if cls is not RVQ else RVQ(6, 2, num_quantizers=2, num_codes=8)
    model = torch.nn.ModuleDict({"inverse": torch.nn.Linear(3, 12), "bottleneck": bottleneck})
    optimizer = MuonAdamW(parameter_groups(model), adamw_lr=3e-3)
    LambdaLR(optimizer, warmup_cosine(30_000, warmup))
    z = 2 + 0.1 * model["inverse"](torch.randn(64, 1, 3)).unflatten(-1, (2, 6))
    out = bottleneck(z)
    (out.z.square().mean() + out.loss).backward()
    optimizer.step()
    bottleneck.on_optimizer_step(optimizer)
    rows = bottleneck.standardize(z.detach()).flatten(0, 2)
    for codebook in bottleneck.parameters():  # the second one of RVQ on what the first one leaves over
        codes = CODEBOOK_LR_SCALE * codebook.detach().view(-1, 6)
        distance = torch.cdist(codes, rows).amin(dim=1)
        assert distance.max() < 0.1 * rows.std()
        rows = rows - codes[nearest(rows, codes)]


@pytest.mark.parametrize(("steps", "warmup"), [(30_000, 0.1), (400, 0.1), (400, 0.0)])
def test_codes_stop_moving_when_the_learning_rate_has_decayed(steps, warmup):
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = Adam([parameter], lr=1e-3)
    schedule = warmup_cosine(steps, warmup)
    active = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * schedule(step)
        active.append(learning_rate_is_active(parameter, optimizer))
    warm = max(1, round(steps * warmup))
    # the cosine falls below 0.1 where cos(pi x) = -0.8
    last = warm + math.acos(-0.8) / math.pi * (steps - warm)
    assert active == [step <= last for step in range(steps)]


def test_the_highest_learning_rate_is_in_checkpoints():
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer, resumed = Adam([parameter], lr=1.0), Adam([parameter], lr=1.0)
    assert learning_rate_is_active(parameter, optimizer)
    optimizer.param_groups[0]["lr"] = 0.05
    resumed.load_state_dict(optimizer.state_dict())
    assert not learning_rate_is_active(parameter, resumed)


@pytest.mark.parametrize("cls", [VQ, NSVQ, DiVeQ, RVQ])
def test_codes_follow_the_data_at_any_scale(cls):
    """Latents far from 0, hardly varying, in 8 clusters: after one step every code serves."""
    torch.manual_seed(0)
    centers = 5 + 0.05 * torch.randn(8, 6)
    bottleneck = cls(6, 1, num_codes=8) if cls is not RVQ else RVQ(6, 1, num_quantizers=1, num_codes=8)
    optimizer = Adam(bottleneck.parameters(), lr=0.0)
    z = (centers.repeat(16, 1) + 1e-4 * torch.randn(128, 6)).view(64, 2, 1, 6)
    out = bottleneck(z)
    (out.z.sum() + out.loss).backward()
    optimizer.step()
    bottleneck.on_optimizer_step(optimizer)
    out = bottleneck.eval()(z)
    assert len(out.codes.unique()) == 8
    assert out.stats["distance"] < 0.01
    assert len(bottleneck.sample_prior(200, torch.Generator().manual_seed(0)).flatten(1).unique(dim=0)) == 8


def test_nsvq_stops_moving_codes():
    bottleneck = NSVQ(4, 1, num_codes=4, reset_until=15)
    optimizer = Adam(bottleneck.parameters(), lr=0.0)
    history = []
    for _ in range(30):
        bottleneck(0.01 * torch.randn(8, 1, 1, 4) + (torch.rand(8, 1, 1, 1) > 0.5))
        bottleneck.on_optimizer_step(optimizer)
        history.append(bottleneck.codebook.detach().clone())
        bottleneck.usage.current.zero_()  # so that every code looks dead at the end of a period
        bottleneck.usage.current[0, 0] = 1000
    changed = [step + 1 for step in range(1, 30) if not torch.equal(history[step], history[step - 1])]
    assert changed == [*range(2, 11)]  # ends of periods up to step 15
