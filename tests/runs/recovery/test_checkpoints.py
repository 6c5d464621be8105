"""Checkpoints after kills, with flipped bits, and through the commands that load them."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lam
from lam.io import hash_file
from lam.runs.cli import run
from lam.runs.export import export_run
from lam.runs.recovery.checkpoints import (
    DamagedCheckpointError,
    WholeCheckpointIO,
    checksum_path,
    damage,
    read_checksums,
    read_tensors,
    restore_checkpoint,
)
from tests.tiny import KillAtStep3, KilledError, arguments

KILLER = Path(__file__).with_name("killer.py")


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory) -> Path:
    """Folder of a run whose last checkpoint is of step 6 and whose one before is of step 3."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        folder = tmp_path_factory.mktemp("runs")
        return run(["fit", *arguments(shards, folder, steps=6), "--checkpoint.every_n_train_steps=3"]).run_directory


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def damaged_copy(folder: Path, target: Path) -> Path:
    subprocess.run(["cp", "-r", folder, target], check=True)
    last = target / "checkpoints" / "last.ckpt"
    flip(last, last.stat().st_size * 4)
    return last


# ---------------------------------------------------------------------- kills


def kill(count: int, folder: Path, tmpdir: Path) -> str:
    """Killed savers, see killer.py; returns what it says in the end."""
    command = [sys.executable, str(KILLER), str(count), str(folder)]
    environment = {**os.environ, "TMPDIR": str(tmpdir), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def other_file_system(tmp_path: Path) -> Path:
    """A folder for temporary files on another file system, where there is one."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and memory.stat().st_dev != tmp_path.stat().st_dev else tmp_path


@pytest.mark.parametrize("count", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_kills_at_any_step_of_saving_and_at_random_moments_leave_a_whole_checkpoint(count, tmp_path):
    said = kill(count, tmp_path, other_file_system(tmp_path))
    assert "whole after each" in said
    assert f"{count} of {count} whole" in said


# ---------------------------------------------------------------------- damage


def test_every_flipped_bit_is_found_by_the_recorded_hash(tmp_path):
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"state_dict": {"w": torch.arange(4000.0)}}, path)
    sound, draws = path.read_bytes(), random.Random(0)
    for _ in range(200):
        flip(path, draws.randrange(len(sound) * 8))
        with pytest.raises(DamagedCheckpointError, match="is not the file that training left"):
            read_tensors(path)
        path.write_bytes(sound)
    assert torch.equal(read_tensors(path)["state_dict"]["w"], torch.arange(4000.0))


def test_without_a_recorded_hash_no_flipped_bit_becomes_another_weight(tmp_path):
    path, weights = tmp_path / "last.ckpt", torch.arange(4000.0)
    torch.save({"state_dict": {"w": weights}}, path)
    sound, draws, found = path.read_bytes(), random.Random(0), 0
    for _ in range(200):
        flip(path, draws.randrange(len(sound) * 8))
        try:
            assert torch.equal(read_tensors(path)["state_dict"]["w"], weights)
        except DamagedCheckpointError:
            found += 1
        path.write_bytes(sound)
    assert found > 150  # the rest lies where the archive holds nothing
    path.write_bytes(sound[:-100])
    with pytest.raises(DamagedCheckpointError):
        read_tensors(path)


def test_hashes_lie_beside_the_checkpoint_as_sha256sum_reads_them(trained):
    last = trained / "checkpoints" / "last.ckpt"
    names = read_checksums(last)
    assert names == {one: hash_file(last.with_name(one)) for one in ("last.ckpt", "previous-last.ckpt")}
    subprocess.run(["sha256sum", "-c", "--quiet", checksum_path(last).name], cwd=last.parent, check=True)
    assert sorted(path.name for path in last.parent.iterdir()) == ["last.ckpt", "last.sha256", "previous-last.ckpt"]


def test_no_command_takes_weights_that_training_did_not_leave(trained, tmp_path):
    last = damaged_copy(trained, tmp_path / "copy")
    folder = last.parents[1]
    with pytest.raises(DamagedCheckpointError, match="sets the damaged file aside"):
        lam.load(folder)
    with pytest.raises(DamagedCheckpointError):
        export_run(folder, tmp_path / "out")
    from_run = [f"--config={folder / 'config.yaml'}", f"--ckpt_path={last}", "--trainer.enable_progress_bar=false"]
    for command in ("validate", "test", "predict"):
        with pytest.raises(DamagedCheckpointError):
            run([command, *from_run])
    assert damage(last)  # none of them touched it


def test_a_damaged_checkpoint_is_set_aside_and_training_goes_on_from_the_one_before(shards, trained, tmp_path, capsys):
    runs = tmp_path / "runs"
    with pytest.raises(KilledError):
        run(["fit", *arguments(shards, runs, steps=6), "--checkpoint.every_n_train_steps=2"], callbacks=[KillAtStep3()])
    last = runs / "tiny" / "row" / "seed0" / "checkpoints" / "last.ckpt"
    flip(last, last.stat().st_size * 4)
    run(["fit", *arguments(shards, runs, steps=6), "--checkpoint.every_n_train_steps=2", f"--ckpt_path={last}"])
    assert "was set aside as damaged-last.ckpt; the checkpoint before it is used" in capsys.readouterr().err
    assert damage(last.with_name("damaged-last.ckpt"))
    ours, theirs = read_tensors(last), read_tensors(trained / "checkpoints" / "last.ckpt")
    assert ours["global_step"] == theirs["global_step"] == 6
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name


def test_where_no_older_one_is_whole_a_person_is_told(trained, shards, tmp_path):
    last = damaged_copy(trained, tmp_path / "copy")
    last.with_name("previous-last.ckpt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"none before it is whole\. Leave --ckpt_path out to begin anew"):
        run(["fit", f"--config={last.parents[1] / 'config.yaml'}", f"--ckpt_path={last}"])
    assert not last.exists()
    assert damage(last.with_name("damaged-last.ckpt"))


def test_nothing_that_was_set_aside_before_is_written_over(tmp_path):
    path = tmp_path / "last.ckpt"
    for value in range(3):
        WholeCheckpointIO().save_checkpoint({"value": torch.tensor(value)}, path)
        WholeCheckpointIO().save_checkpoint({"value": torch.tensor(value)}, path)
        path.write_bytes(b"broken %d" % value)
        assert restore_checkpoint(path) == path
        assert read_tensors(path)["value"] == value
    aside = sorted(one for one in tmp_path.iterdir() if one.name.startswith("damaged-"))
    assert sorted(one.read_bytes() for one in aside) == [b"broken 0", b"broken 1", b"broken 2"]
    path.write_bytes(b"broken too")
    path.with_name("previous-last.ckpt").unlink(missing_ok=True)
    assert restore_checkpoint(path) is None
