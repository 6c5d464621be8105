import shutil

import numpy as np
import pytest

from data_prep.cli import main
from data_prep.pipeline.convert import convert
from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.writer import ShardWriter
from lam.data.datamodule import ClipDataModule
from lam.data.index import DataIndex
from lam.data.schema import ActionField, Storage
from tests.data_prep.sources.recordings import rows

SIZE = 64  # below, x264's macroblock tree reads past the frame, and now and then the bytes of an mp4 differ
LENGTHS = {"train": [5, 12, 9, 20, 7], "val": [9, 11]}


def moving_texture(frames: int, seed: int) -> np.ndarray:
    """Smooth shapes that move: what both ways of storing are made for."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0.1, 0.35, 2)
    y, x = np.mgrid[:SIZE, :SIZE]
    phase = waves[0] * (x + np.arange(frames)[:, None, None]) + waves[1] * y
    color = rng.uniform(80, 120, 3)  # the waves of all colors rise and fall together: mp4 halves the resolution of hues
    return np.rint(127.5 + color * np.sin(phase[..., None])).astype(np.uint8)


@pytest.fixture
def source(tmp_path):
    """A set of JPEG rows in shards of two samples, with all that samples can have."""
    actions = [ActionField("push", 2, "mean"), ActionField("grip", 1, "last")]
    spec = DatasetSpec(SIZE, SIZE, Storage.jpeg, actions, {"turn": "mean"}, samples_per_shard=2)
    rng = np.random.default_rng(0)
    with ShardWriter(tmp_path / "source", spec) as writer:
        for split, lengths in LENGTHS.items():
            for i, frames in enumerate(lengths):
                writer.add(
                    split,
                    Sample(
                        key=f"{split}/{i}",
                        source=f"{split} tape {i // 2}",
                        episode=f"take {i}",
                        frames=moving_texture(frames, i),
                        times=np.cumsum(rng.uniform(0.1, 0.3, frames)),
                        actions=rng.normal(size=(frames - 1, 3)).astype(np.float32),
                        factors={"turn": rng.normal(size=(frames - 1, 2)), "hit": rng.integers(0, 3, frames - 1)},
                        first=100 + i,
                    ),
                )
    return tmp_path / "source"


def same_but_pixels(one, other):
    """What two sets have in common beside pixels, with their windows in both."""
    a, b = DataIndex.load(one), DataIndex.load(other)
    for name in ("height", "width", "fps", "actions", "factors", "features"):
        assert getattr(a, name) == getattr(b, name)
    for name, value in vars(a.action_statistics).items():
        np.testing.assert_allclose(getattr(b.action_statistics, name), value, rtol=1e-12)  # added up in other shards
    for split, lengths in LENGTHS.items():
        found, expected = rows(other, split), rows(one, split)
        assert [row["frames"] for row in expected] == lengths
        for name in ("key", "source", "episode", "first", "frames", "times"):
            assert [row[name] for row in found] == [row[name] for row in expected]
    clips = [ClipDataModule(each, frames=4, batch_size=2, num_workers=0).val_dataloader() for each in (one, other)]
    pairs = list(zip(*clips, strict=True))
    assert len(pairs) == 2  # four windows of 9 and 11 frames
    for a, b in pairs:
        assert (a.key, a.source, a.aggregations) == (b.key, b.source, b.aggregations)
        for name in ("times", "position", "actions"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert a.factors.keys() == b.factors.keys() == {"turn", "hit"}
        for name in a.factors:
            np.testing.assert_array_equal(a.factors[name], b.factors[name])
    return pairs


def psnr(one, other):
    return 10 * np.log10(255**2 / (one.float() - other.float()).square().mean().item())


def test_there_and_back_keeps_everything_but_pixels_that_are_lost(source, tmp_path):
    film, back = tmp_path / "film", tmp_path / "back"
    assert convert(source, film, Storage.mp4, jobs=1) == 0
    assert convert(film, back, Storage.jpeg, jobs=1) == 0
    assert [DataIndex.load(each).storage for each in (source, film, back)] == [Storage.jpeg, Storage.mp4, Storage.jpeg]
    assert (film / "train-000000-000.tar").read_bytes() != (back / "train-000000-000.tar").read_bytes()
    for other in (film, back):
        assert min(psnr(a.frames, b.frames) for a, b in same_but_pixels(source, other)) > 35
    # another sample's pictures would be far off
    frames = [moving_texture(5, seed).astype(float) for seed in (0, 1)]
    assert 10 * np.log10(255**2 / np.square(frames[0] - frames[1]).mean()) < 15


def same_bytes(one, other):
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_parts_of_the_work_add_up_to_the_same_bytes(source, tmp_path, capsys):
    order = ["shards", str(source), "--storage", "mp4", "--jobs", "1"]
    assert main([*order, str(tmp_path / "one")]) == 0
    for part in ("2/2", "1/2"):
        assert not (tmp_path / "two" / "index.json").exists()
        assert main([*order, str(tmp_path / "two"), "--part", part]) == 0
    assert "5 training and 2 validation clips" in capsys.readouterr().out
    same_bytes(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_processes_side_by_side_make_the_same_bytes(source, tmp_path):
    for jobs in (1, 2):
        assert main(["shards", str(source), str(tmp_path / str(jobs)), "--storage", "mp4", "--jobs", str(jobs)]) == 0
    same_bytes(tmp_path / "1", tmp_path / "2")


def test_a_set_remembers_what_it_was_made_of(source, tmp_path):
    convert(source, tmp_path / "film", Storage.mp4, jobs=1)
    settings = DataIndex.load(tmp_path / "film").settings
    assert settings["shards"] == DataIndex.load(source).digest
    assert settings["made_with"] == DataIndex.load(source).settings
    with pytest.raises(ValueError, match=r"made with other settings \(storage\)"):
        convert(source, tmp_path / "film", Storage.jpeg, jobs=1)


def test_small_pictures_become_rows_if_nothing_is_asked_for(source, tmp_path):
    convert(source, tmp_path / "rows", jobs=1)
    assert DataIndex.load(tmp_path / "rows").storage is Storage.jpeg


def test_splits_of_few_sources_are_warned_of(source, tmp_path, capsys, monkeypatch):
    convert(source, tmp_path / "out")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]
    assert [line.partition(",")[0] for line in lines] == [
        "Warning: the split train has 3 sources",
        "Warning: the split val has 1 source",
    ]
    assert "missing with one" in lines[1]
    monkeypatch.setattr("data_prep.pipeline.run._ENOUGH_SOURCES", 3)
    convert(source, tmp_path / "again")
    assert "the split train" not in capsys.readouterr().out


def test_what_is_damaged_is_left_out_and_named(source, tmp_path):
    broken = shutil.copytree(source, tmp_path / "broken")
    shard = broken / "train-000000-001.tar"
    data = bytearray(shard.read_bytes())
    row = next(row for row in rows(broken) if row["key"] == "train/3")
    data[row["video_offset"] + row["video_bytes"] // 2] ^= 1
    shard.write_bytes(data)
    assert convert(broken, tmp_path / "film", Storage.mp4, jobs=1) == 3
    assert [row["key"] for row in rows(tmp_path / "film")] == ["train/0", "train/1", "train/2", "train/4"]
    (left_out,) = DataIndex.load(tmp_path / "film").quarantined
    assert left_out.source == "train-000000-001.tar[0:2]"
    assert "damaged after 1 clips" in left_out.reason
    assert "train/3" in left_out.reason


def test_errors_say_what_to_do(source, tmp_path, capsys):
    with pytest.raises(ValueError, match="data_prep features"):
        convert(source, tmp_path / "states", Storage.states)
    spec = DatasetSpec(15, 15, Storage.jpeg)
    with ShardWriter(tmp_path / "odd", spec) as writer:
        for split in ("train", "val"):
            writer.add(split, Sample(split, "s", "e", np.zeros((3, 15, 15, 3), np.uint8), np.arange(3.0)))
    assert main(["shards", str(tmp_path / "odd"), str(tmp_path / "film"), "--storage", "mp4"]) == 1
    assert "15 x 15 pixels. Choose --storage jpeg" in capsys.readouterr().err
