"""Probes find in two processes what they find in one, though one process sees no clips and so no recorded state."""

import dataclasses

import pytest
import torch

from lam.distributed import rank, world_size
from lam.evals import Probe
from tests.evals.toy import ToyModel, clips, evaluate, part
from tests.processes import run_processes

COUNT = 64
SHARES = {"uneven": [(0, 40), (24, COUNT)], "one is empty": [(0, COUNT), (0, 0)]}


def find_all():
    """Gains given the recorded place, and scores on another body, of all clips or of the share of this process."""
    generator = torch.Generator().manual_seed(0)
    dx, place = torch.randn(2, COUNT, 2, generator=generator)
    model = ToyModel()
    clip = clips(COUNT, factors={"dx": dx, "place": place, "body": (torch.arange(COUNT) % 2)[:, None].expand(-1, 2)})
    found = {}
    for name, shares in SHARES.items():
        start, stop = shares[rank()] if world_size() > 1 else (0, COUNT)
        seen = []
        if stop > start:
            how = {"aggregations": {"dx": "sum", "place": "first"}}
            seen = [model.validation_step(dataclasses.replace(part(clip, start, stop), **how))]
        found[name] = evaluate(Probe(components=4, budgets=(16,), domains=["body"]), *seen, model=model)
    return found


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path):
    alone = find_all()
    for found in run_processes(find_all, folder=tmp_path, timeout=180):
        for name, results in alone.items():
            assert {"gain_oracle/dx", "gain@16/dx", "gain_transferred/dx"} <= results.metrics.keys()
            assert "gain_oracle/place" not in results.metrics
            assert found[name].metrics == results.metrics, name
            assert found[name].clips.keys() == results.clips.keys()
