import itertools

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lam.data.clip import Clip
from lam.data.datamodule import ClipDataModule
from lam.data.loader import BatchList, Partition, TrainingBatches, WindowBatches
from lam.data.mixture import open_mixture
from lam.data.order import list_disjoint_windows
from lam.data.split_reader import SplitReader
from lam.data.watchdog import Watchdog
from tests.data.shards import frame_of, write_set

# Lightning 2.6 still makes tree leaves in the way that torch 2.13 deprecates (lightning/pytorch/utilities/_pytree.py)
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    train = [9, 12, 7, 20, 15, 8, 11, 9, 13]
    return write_set(tmp_path_factory.mktemp("set") / "shards", train=train, val=[10, 13, 6, 8])


def seen(clip: Clip) -> list[tuple[int, ...]]:
    """Position, sample and frames of each window."""
    frames = frame_of(clip.frames.numpy())
    return [(int(p), int(f[0, 0]), *f[:, 1].tolist()) for p, f in zip(clip.position, frames, strict=True)]


def first(data: ClipDataModule, count: int) -> list[list[tuple[int, ...]]]:
    return [seen(clip) for clip in itertools.islice(data.train_dataloader(), count)]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(folder, num_workers):
    alone = first(ClipDataModule(folder, frames=3, batch_size=4, stride=2, num_workers=0), 9)
    assert first(ClipDataModule(folder, frames=3, batch_size=4, stride=2, num_workers=num_workers), 9) == alone
    assert [row[0] for batch in alone for row in batch] == list(range(36))


def test_starting_loaders_leaves_the_random_state_alone(folder):
    state = torch.get_rng_state()
    data = ClipDataModule(folder, frames=3, batch_size=4, num_workers=1)
    first(data, 2)
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_changes_the_order_but_not_the_training_sample(folder):
    one, two = (ClipDataModule(folder, frames=3, batch_size=4, num_workers=0, seed=seed) for seed in (1, 2))
    assert first(one, 2) != first(two, 2)
    samples = [[seen(clip) for clip in data.training_sample(10)] for data in (one, two)]
    assert samples[0] == samples[1]
    assert [len(batch) for batch in samples[0]] == [4, 4, 2]
    assert sum(len(batch) for batch in one.training_sample(1000)) == sum(n // 3 for n in [9, 12, 7, 20, 15, 8, 11, 9, 13])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_any_number_of_processes_sees_the_same_global_batches(folder, world):
    data = ClipDataModule(folder, frames=3, batch_size=6, num_workers=0)
    reader = SplitReader(data.mixture, "train")
    order = data.training_order(reader)
    shares = [TrainingBatches(reader, order, windows_per_process=6 // world, rank=rank) for rank in range(world)]
    alone = first(data, 5)
    together = [[row for share in shares for row in seen(share[6 * batch][0])] for batch in range(5)]
    assert together == alone


@pytest.mark.parametrize(("world", "limit"), [(1, None), (2, None), (3, None), (16, None), (2, 3), (4, 3)])
def test_validation_sees_every_window_once_and_equally_many_batches_a_process(folder, world, limit):
    reader = SplitReader(open_mixture(folder), "val")
    parts = [(reader, list_disjoint_windows(reader.histogram, 3, 1, limit))]
    shares = [
        list(BatchList(WindowBatches(parts, 4, within_batches=Partition(world, rank)), 0, Watchdog(world, rank)))
        for rank in range(world)
    ]
    assert len({tuple(len(clip) for clip in share) for share in shares}) == 1
    rows = {row for share in shares for clip in share for row in seen(clip)}
    expected = {(s, 3 * i) for s, length in enumerate([10, 13, 6, 8], start=9) for i in range(length // 3)}
    places = {(sample, start) for _, sample, start, *_ in rows}
    assert len(rows) == len({row[0] for row in rows}) == len(places)
    assert places == expected if limit is None else places < expected and len(places) == limit


def test_validation_has_labels_and_training_has_none(folder):
    data = ClipDataModule(folder, frames=3, batch_size=4, num_workers=0)
    train, val = next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))
    assert train.actions is None and not train.factors
    assert val.actions.shape == (4, 2, 2) and set(val.factors) == {"dx", "enters"}


def test_prediction_covers_both_splits_in_time(folder):
    data = ClipDataModule(folder, frames=4, batch_size=4, num_workers=0)
    rows = sorted(row for clip in data.predict_dataloader() for row in seen(clip))
    assert [row[0] for row in rows] == list(range(len(rows)))
    found = [(sample, a, b) for _, sample, *frames in rows for a, b in itertools.pairwise(frames)]
    lengths = [9, 12, 7, 20, 15, 8, 11, 9, 13, 10, 13, 6, 8]
    assert found == [(sample, i, i + 1) for sample, length in enumerate(lengths) for i in range(length - 1)]


def test_clips_that_are_too_short_are_left_out_with_a_warning(folder):
    data = ClipDataModule(folder, frames=12, batch_size=2, num_workers=0)
    with pytest.warns(UserWarning, match="5 of 9 train clips are shorter than 12 frames"):
        rows = first(data, 4)
    assert {row[1] for batch in rows for row in batch} == {1, 3, 4, 8}


def test_clips_all_too_short(folder):
    with pytest.raises(ValueError, match=r"needs clips of 40 frames, the longest train clip has 20\. Lower them"):
        ClipDataModule(folder, frames=14, batch_size=2, stride=3).train_dataloader()


def test_arguments_out_of_range(folder):
    with pytest.raises(ValueError, match=r"data\.frames is 1, it must be at least 2"):
        ClipDataModule(folder, frames=1, batch_size=2)
    with pytest.raises(ValueError, match=r"data\.num_workers is -1"):
        ClipDataModule(folder, frames=2, batch_size=2, num_workers=-1)


def test_batch_size_must_divide_by_processes(folder):
    class FourProcesses:
        world_size, global_rank = 4, 0

    data = ClipDataModule(folder, frames=2, batch_size=6)
    data.trainer = FourProcesses()
    with pytest.raises(ValueError, match=r"data\.batch_size is 6 .*Set a multiple of 4"):
        data.train_dataloader()


class Recorder(pl.LightningModule):
    """Notes what it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.rows = []

    def training_step(self, clip, batch_idx):
        self.rows.append(seen(clip))
        return self.weight * clip.frames.float().mean()

    def validation_step(self, clip, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, root, max_steps, num_workers, ckpt_path=None, batch_size=4, **trainer):
    module = Recorder()
    checkpoint = ModelCheckpoint(dirpath=root, save_last=True, every_n_train_steps=1, save_top_k=0)
    pl.Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        logger=False,
        callbacks=[checkpoint],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        check_val_every_n_epoch=None,
        **trainer,
    ).fit(
        module,
        datamodule=ClipDataModule(folder, frames=3, batch_size=batch_size, num_workers=num_workers),
        ckpt_path=ckpt_path,
        weights_only=True if ckpt_path else None,
    )
    return module


@pytest.mark.parametrize(
    ("num_workers", "trainer"),
    [
        (0, {"val_check_interval": 3}),
        (2, {"val_check_interval": 3}),
        (0, {"val_check_interval": 100, "accumulate_grad_batches": 3}),
        (0, {"val_check_interval": 3, "limit_train_batches": 5}),
    ],
)
def test_resuming_in_mid_stream_sees_what_an_undisturbed_run_sees(folder, tmp_path, num_workers, trainer):
    straight = fit(folder, tmp_path / "a", 9, num_workers, **trainer)
    before = fit(folder, tmp_path / "b", 4, num_workers, **trainer)
    after = fit(folder, tmp_path / "b", 9, num_workers, ckpt_path=tmp_path / "b" / "last.ckpt", **trainer)
    assert before.rows + after.rows == straight.rows
    assert [row[0] for batch in straight.rows for row in batch] == list(range(4 * len(straight.rows)))


def test_checkpoint_keeps_the_position_when_the_batch_size_changes(folder, tmp_path):
    fit(folder, tmp_path, 4, 0, val_check_interval=100)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["loops"]["fit_loop"]["state_dict"]["combined_loader"] == [{"position": 16}]
    after = fit(folder, tmp_path, 6, 0, ckpt_path=tmp_path / "last.ckpt", batch_size=2, val_check_interval=100)
    assert [row[0] for batch in after.rows for row in batch] == [16, 17, 18, 19]


@pytest.mark.shared_data
def test_real_videos_become_clips(shared_data, tmp_path):
    from data_prep.cli import main

    for name in ("intel_store_aisle.gif", "intel_asl_walk.mkv", "pysot_bag.avi", "torchcodec_nasa.mp4"):
        (tmp_path / "clips").mkdir(exist_ok=True)
        (tmp_path / "clips" / name).symlink_to(shared_data / "natural" / name)
    assert main(["videos", str(tmp_path / "clips"), str(tmp_path / "shards"), "--size", "32", "--jobs", "1"]) == 0
    data = ClipDataModule(tmp_path / "shards", frames=3, batch_size=4, num_workers=0)
    clip = next(iter(data.train_dataloader()))
    gaps = np.diff(clip.times.numpy(), axis=1)
    assert (gaps > 0.1).all() and (gaps < 0.4).all()
    assert clip.frames.float().std() > 10
    assert sum(len(batch) for batch in data.val_dataloader()) > 0


def test_windows_with_cuts_go_on_as_their_neighbors_on_any_number_of_processes(folder):
    plain, cut = (ClipDataModule(folder, frames=4, batch_size=6, num_workers=0, cuts=share) for share in (0.0, 0.5))
    whole = {row[0]: row for batch in first(plain, 20) for row in batch}
    spliced = [row for batch in first(cut, 20) for row in batch]
    halves = 0
    for row in spliced:
        own, other = whole[row[0]], whole.get(row[0] ^ 1)
        assert row[:4] == own[:4]  # position, sample and the first two frames
        if row[4:] != own[4:]:
            assert other is not None and row[4:] == other[4:]
            halves += 1
    assert 0.3 < halves / len(spliced) < 0.6  # a neighbor may show the same frames
    reader = SplitReader(cut.mixture, "train")
    shares = [TrainingBatches(reader, cut.training_order(reader), 3, rank, cuts=cut.cuts) for rank in range(2)]
    together = [[row for share in shares for row in seen(share[6 * batch][0])] for batch in range(20)]
    assert [row for batch in together for row in batch] == spliced


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_of_cuts_is_a_share(folder, share):
    with pytest.raises(ValueError, match="share of the windows"):
        ClipDataModule(folder, frames=4, batch_size=6, cuts=share)
