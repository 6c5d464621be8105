"""Files changed at random: no crash, no hang, no other data where there is a checksum. And memory of long reading."""

import hashlib
from pathlib import Path

import mutations
import pytest
import soak

from lam.data.schema import Storage


@pytest.mark.slow
@pytest.mark.parametrize("name", mutations.FORMATS)
def test_changed_files_are_refused_or_read(name):
    counts, faults = mutations.run_format(name, 300)
    assert faults == []
    assert counts.total() == 300
    assert counts["refused"] + counts["other"] > 50  # the changes do change something


def _read(path: Path) -> str:
    data = path.read_bytes()
    if len(data) < 60:
        raise KeyError("short")  # no error of those that commands tell
    if data[:1] != b"0":
        raise ValueError("damaged")
    return hashlib.sha256(data).hexdigest()


def _write(folder: Path) -> Path:
    (folder / "file").write_bytes(b"0" * 100)
    return folder / "file"


def test_faults_are_seen(monkeypatch):
    monkeypatch.setitem(mutations.FORMATS, "made", mutations.Format(_write, _read, vouched=True))
    counts, faults = mutations.run_format("made", 60)
    assert counts.total() == 60
    assert counts["crash"] and counts["silent"] and counts["refused"]
    assert len(faults) == counts["crash"] + counts["silent"]
    assert "KeyError" in "".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("storage", [Storage.mp4, Storage.jpeg])
def test_memory_stays_flat(tmp_path, storage):
    soak.write_clips(tmp_path / "shards", storage, count=60)
    points, slope = soak.soak(tmp_path / "shards", 20_000)
    assert slope < 200  # bytes a window: of a leaked demuxer there are thousands
    assert points[-1] - points[1] < 16 * 2**20
