"""Faults: what reading does with shards that are not what was written."""

import itertools
import shutil
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest

from lam.data.corruption import Corruption, CorruptionCounter, CorruptionError
from lam.data.datamodule import ClipDataModule
from lam.data.loader import TrainingBatches
from lam.data.schema import Storage
from lam.data.split_reader import SplitReader
from tests.data.shards import frame_of, write_set, write_states
from tests.processes import run_processes

TRAIN = [9, 12, 11, 20, 15, 10]


@pytest.fixture(scope="module", params=[Storage.jpeg, Storage.mp4], ids=["jpeg", "mp4"])
def original(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("set") / "shards"
    return write_set(out, train=TRAIN, val=[10, 13, 8], storage=request.param)


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy")


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def flip_member(folder, split, row, member, at=0.5):
    """Flips a bit of a member of a sample of the first shard, so far into it."""
    index = pq.read_table(folder / f"{split}-000000-000.parquet").to_pylist()[row]
    flip(folder / f"{split}-000000-000.tar", index[f"{member}_offset"] + int(at * (index[f"{member}_bytes"] - 1)))


def data(folder, **settings):
    return ClipDataModule(folder, **{"frames": 8, "batch_size": 4, "num_workers": 0, **settings})


def seen(clip):
    frames = frame_of(clip.frames.numpy())
    return [(int(p), int(f[0, 0]), *f[:, 1].tolist()) for p, f in zip(clip.position, frames, strict=True)]


def train(module, batches=6):
    return [row for clip in itertools.islice(module.train_dataloader(), batches) for row in seen(clip)]


def lose_second_sample(folder):
    flip_member(folder, "train", 1, "video")


def truncate(folder):
    shard = folder / "train-000000-000.tar"
    shard.write_bytes(shard.read_bytes()[:5000])


def flip_side_index(folder):
    flip(folder / "train-000000-000.parquet", 700)


def empty_side_index(folder):
    (folder / "train-000000-000.parquet").write_bytes(b"")


FAULTS = {
    truncate: (r"train-000000-000\.tar: the tar has 5000 bytes, \d+ were written", {0, 1, 2}),
    flip_side_index: (r"its side index train-000000-000\.parquet is not the one that was written", {0, 1, 2}),
    empty_side_index: (r"its side index train-000000-000\.parquet is not the one that was written", {0, 1, 2}),
    lose_second_sample: (r"train-000000-000\.tar, sample clip/001: .*has changed since it was written", {1}),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_training_replaces_what_is_damaged(folder, fault):
    whole = train(data(folder))
    fault(folder)
    message, lost = FAULTS[fault]
    with pytest.warns(UserWarning, match=message) as caught:
        found = train(data(folder, damaged_share=0.5))
    assert len([warning for warning in caught if "Another window" in str(warning.message)]) == 1
    assert not {row[1] for row in found} & lost and lost <= {row[1] for row in whole}
    # what was not damaged is where it was
    assert [row for row in whole if row[1] not in lost] == [a for a, b in zip(found, whole, strict=True) if b[1] not in lost]
    assert all(np.diff(row[2:]).tolist() == [1] * 7 for row in found)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_training_stops_at_the_first_of_few_samples(folder, fault):
    fault(folder)
    message = r"of 6 training samples are damaged, data\.damaged_share 0\.001 allows 0\. .*[Cc]opy it again or re-run data_prep"
    with pytest.warns(UserWarning, match="Another window"), pytest.raises(CorruptionError, match=message):
        train(data(folder))


def test_a_fault_in_mid_run_that_nothing_can_replace(folder):
    stream = iter(data(folder, batch_size=1, damaged_share=0.5, shuffle_buffer=1).train_dataloader())
    first = {seen(next(stream))[0][1] // 3 for _ in range(3)}  # samples of one shard
    absent = 1 - first.pop()
    (folder / f"train-000000-{absent:03d}.tar").unlink()
    with pytest.raises(CorruptionError, match=rf"train-000000-{absent:03d}\.tar: it is not there any more"):
        list(itertools.islice(stream, 10))  # a buffer of 1 leaves nothing to take its place


@pytest.mark.parametrize("workers", [1, 2])
def test_replacements_do_not_depend_on_workers(folder, workers):
    lose_second_sample(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = train(data(folder, damaged_share=0.5))
        assert train(data(folder, damaged_share=0.5, num_workers=workers)) == alone


@pytest.mark.parametrize("windows_per_sample", [1, 3])
def test_replacements_do_not_depend_on_processes(folder, windows_per_sample):
    lose_second_sample(folder)
    module = data(folder, batch_size=6, damaged_share=0.5, windows_per_sample=windows_per_sample)
    reader = SplitReader(module.mixture, "train")
    order = module.training_order(reader)
    shares = [TrainingBatches(reader, order, windows_per_process=2, rank=rank) for rank in range(3)]
    together = [row for batch in range(4) for share in shares for row in seen(share[6 * batch][0])]
    with pytest.warns(UserWarning, match="Another window"):
        assert train(module, 4) == together
    assert {row[1] for row in together} == {0, 2, 3, 4, 5}


def test_a_run_without_anything_intact_ends(folder):
    for shard in folder.glob("train-*.tar"):
        shard.write_bytes(b"")
    with pytest.raises(CorruptionError, match="the tar has 0 bytes"):
        train(data(folder, damaged_share=1.0))


@pytest.mark.parametrize("member", ["video", "actions.npy", "causes.npz"])
def test_validation_stops_at_damage(folder, member):
    flip_member(folder, "val", 2, member)
    message = r"val-000000-000\.tar, sample clip/008: .*changed since it was written\. Copy it again or re-run data_prep"
    with pytest.raises(CorruptionError, match=message):
        list(data(folder, damaged_share=1.0).val_dataloader())


def test_validation_in_workers_stops_at_damage(folder):
    flip_member(folder, "val", 2, "video")
    with pytest.raises(CorruptionError, match=r"sample clip/008"):
        list(data(folder, num_workers=1).val_dataloader())


def test_prediction_stops_at_damage(folder):
    lose_second_sample(folder)
    with pytest.raises(CorruptionError, match=r"sample clip/001"):
        list(data(folder, damaged_share=1.0).predict_dataloader())


def test_headers_of_the_tar_are_not_needed(folder):
    whole = train(data(folder))
    index = pq.read_table(folder / "train-000000-000.parquet").to_pylist()[1]
    flip(folder / "train-000000-000.tar", index["video_offset"] - 500)
    assert train(data(folder)) == whole


@pytest.mark.parametrize(("name", "place"), [("index.json", 100), ("shards.parquet", 60)])
def test_damaged_summary_stops_at_the_start(folder, name, place):
    flip(folder / name, place)
    with pytest.raises(ValueError, match=r"(index\.json|shards\.parquet) is .*[Rr]e-run data_prep"):
        data(folder)


def test_the_unit_of_the_loss_is_measured_on_what_is_intact(folder):
    whole = [row for clip in data(folder).training_sample(100) for row in seen(clip)]
    lose_second_sample(folder)
    with pytest.warns(UserWarning, match="Another window"):
        found = [row for clip in data(folder, damaged_share=0.5).training_sample(100) for row in seen(clip)]
    assert {row[1] for row in whole} - {row[1] for row in found} == {1} and len(found) == len(whole)
    with pytest.warns(UserWarning, match="Another window"), pytest.raises(CorruptionError, match=r"damaged_share 0\.001"):
        list(data(folder).training_sample(100))


def test_states_have_a_sum_for_each_frame(tmp_path):
    folder, _ = write_states(tmp_path / "states", train=[9, 9], val=[9])
    flip_member(folder, "train", 1, "video", at=1.0)  # its last frame
    module = ClipDataModule(folder, frames=3, batch_size=2, num_workers=0)
    with pytest.raises(CorruptionError, match=r"sample clip/001: frame 8 has changed"):
        list(module.predict_dataloader())


def test_packed_states_that_end_too_early():
    from lam.data.codec import decode_frames, pack_states

    packed = pack_states(np.arange(24, dtype=np.uint16).reshape(4, 3, 2))
    out = np.empty((1, 3, 2), dtype=np.uint16)
    for wrong in (packed[:-1], packed[:7], b""):
        with pytest.raises(ValueError, match=r"cannot be decoded|has changed"):
            decode_frames(Storage.states, memoryview(wrong), [3], out)


def test_each_sample_counts_once():
    count = CorruptionCounter(num_samples=1000, share=0.002)
    one, two, three = (Corruption("a.tar", name, 1, "reason") for name in "abc")
    with pytest.warns(UserWarning, match=r"a\.tar, sample [ab]: reason") as caught:
        count.add([one, one])
        count.add([two, one])
    assert len(caught) == 2 and count.count == 2
    with pytest.warns(UserWarning), pytest.raises(CorruptionError, match=r"3 of 1000 training samples.* allows 2"):
        count.add([three])


def count_of_two_processes(share):
    from lam.distributed import rank

    count = CorruptionCounter(num_samples=1000, share=share)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        count.add([Corruption("a.tar", name, 1, "reason") for name in ("ab" if rank() else "bc")])
    try:
        count.synchronize()
    except CorruptionError as error:
        return str(error)
    return count.count


def test_processes_count_together(tmp_path):
    assert run_processes(count_of_two_processes, 0.003, folder=tmp_path) == [3, 3]
    stopped = run_processes(count_of_two_processes, 0.002, folder=tmp_path)
    assert all(message.startswith("3 of 1000 training samples are damaged") for message in stopped)
