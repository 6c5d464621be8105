import gc
import io
import itertools
import tarfile

import numpy as np
import pytest
import torch

from data_prep.shards.encoding import encode_mp4
from lam.data.corruption import CorruptionError
from lam.data.datamodule import ClipDataModule
from tests.data.shards import frame_of, picture, write_set

pytestmark = [
    pytest.mark.filterwarnings("ignore:data.plain_stream has no exact order"),
    # webdataset leaves the tar open that an abandoned iteration was reading (webdataset/tariterators.py, url_opener)
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected():
    """Closes what webdataset left open while the filters above hold."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "shards", train=[9], val=[10])


def write_tar(path, samples):
    """A tar as others make them: members by name."""
    with tarfile.open(path, "w") as tar:
        for name, data in samples.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def video(sample, frames=20, size=16):
    pixels = np.stack([np.resize(picture(sample, frame), (size, size, 3)) for frame in range(frames)])
    pixels[:] = [[[[8 * sample, 8 * frame, 128]]] for frame in range(frames)]
    return encode_mp4(pixels, fps=10)


def write_stream(root, **extra):
    for shard in range(2):
        both = (2 * shard, 2 * shard + 1)
        members = {f"s{i}.{what}": video(i) if what == "mp4" else b"{}" for i in both for what in ("json", "mp4")}
        write_tar(root / f"wild-{shard}.tar", members | extra)
    return f"{root}/wild-{{0..1}}.tar"


def data(folder, urls, **settings):
    given = {"frames": 3, "batch_size": 4, "stride": 2, "num_workers": 0, "plain_stream": urls, **settings}
    return ClipDataModule(folder, **given)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_windows_of_ordinary_tars(folder, tmp_path, num_workers):
    module = data(folder, write_stream(tmp_path), num_workers=num_workers)
    clips = list(itertools.islice(module.train_dataloader(), 20))
    for clip in clips:
        frames = frame_of(clip.frames.numpy())
        assert (frames[:, :, 0] == np.array([int(key[1:]) for key in clip.key])[:, None]).all()
        assert (np.diff(frames[:, :, 1], axis=1) == 2).all()
        torch.testing.assert_close(clip.times, torch.from_numpy(frames[:, :, 1] / 10))
    assert torch.cat([clip.position for clip in clips]).tolist() == list(range(80))
    assert {key for clip in clips for key in clip.key} == {"s0", "s1", "s2", "s3"}
    assert len({int(f) for clip in clips for f in frame_of(clip.frames.numpy())[:, 0, 1]}) > 8
    assert len(next(iter(module.val_dataloader()))) == 2  # from the folder


def test_says_that_it_cannot_be_resumed_exactly(folder, tmp_path):
    with pytest.warns(UserWarning, match="a resumed run goes on with other windows"):
        stream = data(folder, write_stream(tmp_path)).train_dataloader()
    stream.load_state_dict({"position": 40})
    assert next(iter(stream)).position.tolist() == [40, 41, 42, 43]


def test_damaged_samples_count(folder, tmp_path):
    urls = write_stream(tmp_path, **{"bad.mp4": b"no video", "short.mp4": video(9, frames=4)})
    with pytest.warns(UserWarning, match=r"sample (bad|short): .*Another window"):
        clips = list(itertools.islice(data(folder, urls, damaged_share=0.01).train_dataloader(), 20))
    assert {key for clip in clips for key in clip.key} == {"s0", "s1", "s2", "s3"}
    with (
        pytest.warns(UserWarning, match="Another window"),
        pytest.raises(CorruptionError, match=r"2 of 1000 training samples are damaged, data\.damaged_share 0\.001 allows 1"),
    ):
        list(itertools.islice(data(folder, urls).train_dataloader(), 100))


@pytest.mark.parametrize("content", [{"a.mp4": b"no video"}, {"a.txt": b"text"}], ids=["damaged", "text"])
def test_a_stream_without_anything_that_can_be_used_ends(folder, tmp_path, content):
    write_tar(tmp_path / "wild.tar", content)
    with pytest.raises(CorruptionError, match=r"wild\.tar, sample a: "):
        next(iter(data(folder, f"{tmp_path}/wild.tar").train_dataloader()))


@pytest.mark.parametrize("content", [None, b"", b"no tar" * 1000, bytes(10240)], ids=["absent", "zero", "text", "none"])
def test_a_stream_of_tars_that_cannot_be_read_ends(folder, tmp_path, content):
    if content is not None:
        (tmp_path / "wild.tar").write_bytes(content)
    with pytest.raises((CorruptionError, ValueError)):
        next(iter(data(folder, f"{tmp_path}/wild.tar").train_dataloader()))


def test_frames_of_another_size(folder, tmp_path):
    write_tar(tmp_path / "wild.tar", {"a.mp4": video(1, size=32)})
    with pytest.raises(ValueError, match=r"sample|a has frames of 32 x 32 pixels, .* has 16 x 16\. Prepare them"):
        next(iter(data(folder, f"{tmp_path}/wild.tar").train_dataloader()))
