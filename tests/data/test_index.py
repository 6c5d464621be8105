import hashlib
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lam.data.index import DataIndex
from lam.data.mixture import open_mixture
from lam.data.order import list_disjoint_windows
from lam.data.split_reader import SplitReader
from tests.data.shards import write_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "shards", train=[9, 12, 7, 20], val=[10])


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_missing_folder_and_index(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No folder of shards at .*data_prep"):
        DataIndex.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no index\.json.*Run data_prep again"):
        DataIndex.load(tmp_path)


def test_other_schema_version(copy):
    record = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps({**record, "schema_version": 7}))
    with pytest.raises(ValueError, match=r"schema version 7, this code reads version 2\. Re-run data_prep"):
        DataIndex.load(copy)


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 2}'])
def test_damaged_index(copy, text):
    (copy / "index.json").write_text(text)
    with pytest.raises(ValueError, match=r"[Rr]e-run data_prep"):
        DataIndex.load(copy)


@pytest.mark.parametrize("name", ["index.json", "shards.parquet"])
def test_missing_summary(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"has no {name}.*Run data_prep again"):
        open_mixture(copy)


@pytest.mark.parametrize("name", ["train-000000-001.tar", "val-000000-000.parquet"])
def test_listed_but_absent(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {name}, which shards.parquet names"):
        open_mixture(copy)


# ---------------------------------------------------------------------- sets of other people


def rewrite(folder, change):
    """Change the record of index.json."""
    record = json.loads((folder / "index.json").read_text())
    change(record)
    (folder / "index.json").write_text(json.dumps(record))


def rename(folder, name):
    """Name the first shard otherwise, in an index that belongs to the list."""
    rows = pq.read_table(folder / "shards.parquet").to_pylist()
    rows[0] |= name if isinstance(name, dict) else {"name": name}
    pq.write_table(pa.Table.from_pylist(rows), folder / "shards.parquet")
    digest = hashlib.sha256((folder / "shards.parquet").read_bytes()).hexdigest()
    rewrite(folder, lambda record: record.update(shards_sha256=digest))


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.tar", "/etc/outside.tar", "a/../../outside.tar", "a b.tar", "x.txt", ""),
        *({"sha256": "../../../etc/passwd"}, {"samples": -1}, {"samples": 99}, {"lengths": [3]}, {"counts": [1, 10**6]}),
    ],
)
def test_a_list_of_shards_that_leaves_its_folder_or_does_not_add_up(copy, name):
    (copy.parent / "outside.tar").write_bytes(b"secret")
    (copy.parent / "outside.parquet").write_bytes(b"secret")
    rename(copy, name)
    with pytest.raises(ValueError, match=r"index\.json is damaged \(.*(expected|add up|shorter|SHA-256).*\)\. Re-run"):
        DataIndex.load(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"height": 100000},
        {"height": 16384, "width": 16384},
        {"height": "16"},
        {"width": True},
        {"width": 0},
        {"fps": float("nan")},
        {"fps": float("inf")},
        {"fps": -1},
        {"fps": 1e9},
        {"pixel_mean": [0.5, float("nan"), 0.5]},
        {"pixel_mean": 3},
        {"pixel_std": [1e9, 0.1, 0.1]},
        {"storage": "zip"},
        {"actions": [{"name": "x", "dim": 10**9, "join": "sum"}]},
        {"actions": [{"name": "x", "dim": 2, "join": "evil"}]},
        {"actions": 7},
        {"causes": {"x": {"shape": [10**9, 10], "kind": "continuous", "join": "sum"}}},
        {"causes": ["x"]},
        {"settings": [1]},
        {"quarantined": [[]]},
        {"features": {"fingerprint": "x", "encoder": {}, "dim": 10**9, "frames_per_state": 1, "shards": "0"}},
        {"unknown": 1},
    ],
)
def test_numbers_that_no_preparation_writes(copy, change):
    rewrite(copy, lambda record: record.update(change))
    with pytest.raises(ValueError, match=r"index\.json is damaged \(.*\)\. Re-run data_prep"):
        DataIndex.load(copy)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema_version": 2, "x": ' + "[" * 900 + "]" * 900 + "}"])
def test_nested_brackets(copy, text):
    (copy / "index.json").write_text(text)
    with pytest.raises(ValueError, match=r"index\.json"):
        DataIndex.load(copy)


@pytest.mark.parametrize("name", ["index.json", "train-000000-000.tar", "train-000000-000.parquet"])
def test_a_pipe_in_the_place_of_a_file_does_not_hang(copy, name):
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises((OSError, ValueError), match=r"has no index|no ordinary file"):
        SplitReader(open_mixture(copy), "train").read(*first_windows(copy), labels=False)


def first_windows(folder):
    reader = SplitReader(open_mixture(folder), "train")
    return (list_disjoint_windows(reader.histogram, 5, 1, None).batch(0, 2, 1),)


def test_a_batch_that_no_machine_holds(copy):
    rewrite(copy, lambda record: record.update(height=4096, width=4096))
    reader = SplitReader(open_mixture(copy), "train")
    windows = list_disjoint_windows(reader.histogram, 5, 1, None).batch(0, 2, 1).take(np.zeros(400, dtype=np.int64))
    with pytest.raises(ValueError, match=r"a batch of 400 windows in bytes is 100,.*MAX_BATCH_BYTES"):
        reader.read(windows, labels=False)
