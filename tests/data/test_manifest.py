from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data_prep.cli import main
from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.writer import ShardWriter
from lam.data.manifest import hash_clips, make_manifest
from lam.data.schema import Storage


def write_set(folder: Path, changed: bool = False) -> Path:
    """A set of two clips a split; ``changed`` turns one pixel of one frame around."""
    with ShardWriter(folder, DatasetSpec(16, 16, Storage.jpeg, [], {})) as writer:
        for split in ("train", "val"):
            for clip in range(2):
                frames = np.random.default_rng(clip).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
                if changed and split == "val" and clip == 1:
                    frames[2, 5, 5] = 255 - frames[2, 5, 5]
                writer.add(split, Sample(f"{split}/{clip}", f"{split} {clip}", "", frames, np.arange(4.0)))
    return folder


def test_the_same_sets_have_the_same_hash_and_one_pixel_changes_it(tmp_path):
    made = []
    for name, changed in (("first", False), ("again", False), ("other", True)):
        write_set(tmp_path / name / "arm", changed)
        made.append(make_manifest(tmp_path / name))
    assert made[0] == made[1]
    assert made[0]["sha256"] != made[2]["sha256"]
    ours, theirs = (one["worlds"]["arm"]["splits"] for one in (made[0], made[2]))
    assert ours["train"] == theirs["train"]  # it tells where they differ
    assert ours["val"]["keys_sha256"] == theirs["val"]["keys_sha256"]
    assert ours["val"]["shards_sha256"] != theirs["val"]["shards_sha256"]
    assert (ours["val"]["clips"], ours["val"]["sources"]) == (2, 2)


def test_the_command_writes_one_file(tmp_path, capsys):
    write_set(tmp_path / "shards" / "arm")
    assert main(["manifest", str(tmp_path / "shards"), str(tmp_path / "results" / "manifest.json")]) == 0
    content = json.loads((tmp_path / "results" / "manifest.json").read_text())
    assert content == make_manifest(tmp_path / "shards")
    assert content["sha256"] in capsys.readouterr().out


def test_a_folder_without_sets_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no folder of shards"):
        make_manifest(tmp_path)


def test_clips_are_hashed_by_position_and_source_in_any_order():
    assert hash_clips({1: "a", 0: "b"}) == hash_clips({0: "b", 1: "a"}) != hash_clips({0: "a", 1: "b"})
