"""Gathering over processes: the same result as one process that holds everything."""

import torch

from lam.distributed import gather, gather_rows, rank, sum_over_processes, world_size
from tests.processes import run_processes


def test_alone_nothing_changes():
    rows = torch.randn(3, 2)
    assert (world_size(), rank()) == (1, 0)
    assert gather_rows(rows) is rows
    assert torch.equal(sum_over_processes(rows), rows)


def test_gather_sorts_by_position_and_drops_repeats():
    positions, values = gather(torch.tensor([4, 1, 4, 0]), torch.tensor([40.0, 10.0, 41.0, 0.0]))
    assert positions.tolist() == [0, 1, 4]
    assert values.tolist() == [0.0, 10.0, 40.0]


def share():
    positions = torch.tensor([0, 2, 4]) if rank() == 0 else torch.tensor([1, 0])  # uneven, and 0 twice
    gathered = gather(positions, positions * 10.0, torch.stack([positions, positions], dim=1))
    x = torch.full((2, 3), float(rank() + 1), requires_grad=True)
    joined = gather_rows(x)
    joined.var(dim=0).sum().backward()
    return gathered, joined.detach(), x.grad, sum_over_processes(torch.tensor(rank() + 1.0))


def test_two_processes(tmp_path):
    results = run_processes(share, folder=tmp_path)
    whole = torch.tensor([[1.0] * 3, [1.0] * 3, [2.0] * 3, [2.0] * 3], requires_grad=True)
    whole.var(dim=0).sum().backward()
    for number, (gathered, joined, gradient, total) in enumerate(results):
        assert gathered[0].tolist() == [0, 1, 2, 4]
        assert gathered[1].tolist() == [0.0, 10.0, 20.0, 40.0]
        assert gathered[2].shape == (4, 2)
        assert torch.equal(joined, whole.detach())
        # DistributedDataParallel averages over processes, so each must hold the whole gradient times their number
        torch.testing.assert_close(gradient, 2 * whole.grad[2 * number : 2 * number + 2])
        assert total == 3.0
