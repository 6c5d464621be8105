import json
import shutil

import pytest

from lam.data.index import DataIndex
from lam.data.mixture import open_mixture
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
