"""Several processes: the same number of batches for all, whatever the shards, and resuming with another number of them."""

import itertools
import multiprocessing
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist

from lam.data.datamodule import ClipDataModule
from tests.data.shards import frame_of, write_set
from tests.processes import run_processes


def as_one_of(data, world=1, rank=0, step=0):
    """The data module as Lightning would attach it to one of several processes."""
    data.trainer = SimpleNamespace(world_size=world, global_rank=rank, global_step=step)
    vars(data.trainer).update(accumulate_grad_batches=1, limit_train_batches=1.0, overfit_batches=0.0)
    return data


def rows(clips):
    """(position, sample, first frame) of every window."""
    found = []
    for clip in clips:
        frames = frame_of(clip.frames.numpy())
        found += [(int(p), *f[0].tolist()) for p, f in zip(clip.position, frames, strict=True)]
    return found


def in_step(clips):
    """Batches of a process that meets the others after each, as training does; a process without one would hang them."""
    for clip in clips:
        dist.all_reduce(torch.ones(1))
        yield clip


def share(folder, num_workers, batches, state=None):
    multiprocessing.set_start_method("fork", force=True)  # a process of a fork server would start a server for its workers
    data = ClipDataModule(folder, frames=3, batch_size=4, num_workers=num_workers)
    stream = as_one_of(data, dist.get_world_size(), dist.get_rank()).train_dataloader()
    if state is not None:
        stream.load_state_dict(state)
    train = rows(in_step(itertools.islice(stream, batches)))
    data.trainer.global_step = batches
    return train, rows(in_step(data.val_dataloader())), stream.state_dict()


@pytest.mark.parametrize(("train", "num_workers"), [([9, 12, 7], 2), ([9, 12, 7, 20, 15, 8, 11], 1)], ids=["one", "uneven"])
def test_all_processes_get_equally_many_batches(tmp_path, train, num_workers):
    folder = write_set(tmp_path / "shards", train=train, val=[10, 13])  # one shard, or three of 3, 3 and 1 samples
    shares = run_processes(share, folder, num_workers, 8, folder=tmp_path)
    alone = ClipDataModule(folder, frames=3, batch_size=4, num_workers=0)
    assert sorted(shares[0][0] + shares[1][0]) == rows(itertools.islice(alone.train_dataloader(), 8))
    assert len(shares[0][0]) == len(shares[1][0]) == 16
    found = [*shares[0][1], *shares[1][1]]
    assert set(found) == set(rows(alone.val_dataloader())) and len(found) <= len(set(found)) + 1


def test_resuming_on_another_number_of_processes(tmp_path):
    folder = write_set(tmp_path / "shards", train=[9, 12, 7, 20, 15, 8, 11], val=[10])
    shares = run_processes(share, folder, 1, 5, folder=tmp_path)
    assert shares[0][2] == shares[1][2] == {"position": 20}
    alone = as_one_of(ClipDataModule(folder, frames=3, batch_size=4, num_workers=0))
    whole = rows(itertools.islice(alone.train_dataloader(), 9))
    stream = alone.train_dataloader()
    stream.load_state_dict(shares[0][2])
    after = rows(itertools.islice(stream, 4))
    assert sorted(shares[0][0] + shares[1][0]) + after == whole
    again = run_processes(share, folder, 0, 4, {"position": 20}, folder=tmp_path)
    assert sorted(again[0][0] + again[1][0]) == after
    assert [row[0] for row in whole] == np.arange(36).tolist()
