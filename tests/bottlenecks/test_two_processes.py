"""Two processes end where one process with the same clips ends, and hold the same state where gradients accumulate."""

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import lam.bottlenecks
from lam.distributed import rank, world_size
from tests.processes import run_processes

CLIPS, STEPS = 16, 21  # resets after steps 1 to 10 and 20
NAMES = ["VQ", "NSVQ", "DiVeQ", "RVQ", "FSQ", "Sparse", "Noisy", "Nested", "NestedRVQ"]
ACCUMULATING = ["VQ", "RVQ", "FSQ", "Sparse"]


class LinearAutoencoder(nn.Module):
    def __init__(self, name):
        super().__init__()
        torch.manual_seed(0)
        self.encode = nn.Linear(3, 8)
        self.bottleneck = getattr(lam.bottlenecks, name)(8, 2)
        self.decode = nn.Linear(8, 3)

    def forward(self, x, keys):
        limited = self.bottleneck(self.encode(x), noise_keys=keys)
        return self.decode(limited.z), limited.loss


def train(name, micro_batches=1):
    """Losses of every step and the weights at the end, on this process's share of the clips, in so many micro-batches."""
    net = LinearAutoencoder(name)
    model = DistributedDataParallel(net) if world_size() > 1 else net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    torch.manual_seed(1000 + rank())  # the global state differs, as in real runs
    losses = []
    for step in range(STEPS):
        whole = torch.randn(CLIPS, 2, 2, 3, generator=torch.Generator().manual_seed(step))
        own = torch.arange(CLIPS).chunk(world_size())[rank()]
        optimizer.zero_grad()
        for part in own.chunk(micro_batches):
            decoded, loss = model(whole[part], part + CLIPS * step)
            total = (decoded - whole[part]).square().mean() + loss
            (total / micro_batches).backward()
        optimizer.step()
        net.bottleneck.on_optimizer_step(optimizer)
        losses.append((total.detach(), loss.detach()))
    return torch.tensor(losses), {name: value.clone() for name, value in net.state_dict().items()}


def train_all():
    return {name: train(name) for name in NAMES} | {name + "-4": train(name, 4) for name in ACCUMULATING}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return run_processes(train_all, folder=tmp_path_factory.mktemp("two"), timeout=170), train_all()


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_equal_one(results, name):
    (first, second), alone = results
    for key, value in first[name][1].items():
        assert torch.equal(value, second[name][1][key]), key  # codebooks too, bit for bit
        torch.testing.assert_close(value, alone[name][1][key], rtol=1e-3, atol=1e-4)
    mean = (first[name][0] + second[name][0]) / 2
    torch.testing.assert_close(mean, alone[name][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ACCUMULATING)
def test_micro_batches_leave_equal_state(results, name):
    """All assignments since the last step count, and statistics are those of all its latents, on both processes."""
    (first, second), alone = (results[0][0][name + "-4"][1], results[0][1][name + "-4"][1]), results[1][name + "-4"][1]
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    if "bottleneck.usage.finished" in first:
        counts = first["bottleneck.usage.finished"] + first["bottleneck.usage.current"]
        assert (counts.sum(dim=1) == 11 * CLIPS * 2 * 2).all()  # steps 11 to 20, which ended a period, and step 21
    # statistics of the first step, whatever its parts
    torch.testing.assert_close(first["bottleneck.standardize.shift"], alone["bottleneck.standardize.shift"])
    torch.testing.assert_close(first["bottleneck.standardize.scale"], alone["bottleneck.standardize.scale"])


def test_sparse_statistics_do_not_depend_on_the_share(results):
    (first, second), _ = results
    torch.testing.assert_close(first["Sparse"][0][:, 1], second["Sparse"][0][:, 1], rtol=0, atol=0)


def test_codes_were_moved(results):
    for name in ("VQ", "NSVQ", "DiVeQ"):
        steps = results[1][name][1]["bottleneck.usage._extra_state"]
        assert steps == STEPS
        start = LinearAutoencoder(name).bottleneck.codebook
        assert (results[1][name][1]["bottleneck.codebook"] - start).abs().sum(dim=1).min() > 0.1
