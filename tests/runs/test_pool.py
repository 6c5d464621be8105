"""Sweeps as processes: one that dies, two at once, and what is left when they are asked to end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lam.runs.recovery.checkpoints import read_tensors
from lam.runs.sweep.pool import work
from lam.runs.sweep.rows import RunSpec
from tests.runs.test_sweep import plain
from tests.tiny import EXPERIMENTS

pytestmark = pytest.mark.slow


def dies_with_seed_1(row: RunSpec, extra: tuple[str, ...]) -> str:
    if row.seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "made"


def test_a_process_that_is_killed_costs_its_own_row_alone(capfd):
    rows = [RunSpec.parse("demo", "none", seed) for seed in range(4)]
    assert work(rows, (), 1, dies_with_seed_1) == [rows[1]]
    said = capfd.readouterr()
    assert said.out.count("made") == 3 and "killed, most often for want of memory" in said.err


def sweep(settings: tuple[str, ...], log: Path, *words: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lam", "sweep", "demo", *words, *settings]
    with log.open("w") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=EXPERIMENTS.parent, start_new_session=True
        )


def until(found, process: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not found() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    assert found(), log.read_text()[-3000:]


def weights(runs: Path) -> dict[str, dict]:
    return {str(path.relative_to(runs)): read_tensors(path) for path in sorted(runs.rglob("last.ckpt"))}


def same(one: dict[str, dict], other: dict[str, dict]) -> bool:
    return one.keys() == other.keys() and all(
        one[run]["global_step"] == other[run]["global_step"]
        and all((one[run]["state_dict"][key] == value).all() for key, value in other[run]["state_dict"].items())
        for run in one
    )


def test_two_sweeps_at_once_share_the_rows_and_both_see_all_of_them(shards, tmp_path):
    rows = ("none", "identity", "noisy:beta@1e-4", "vq:num_codes@4")
    logs = [tmp_path / "one.txt", tmp_path / "two.txt"]
    processes = [sweep(plain(shards, tmp_path / "runs"), log, *rows) for log in logs]
    assert [process.wait(200) for process in processes] == [0, 0], [log.read_text()[-2000:] for log in logs]
    lines = [[line for line in log.read_text().splitlines() if line.startswith("demo/")] for log in logs]
    trained = [line.split()[0] for each in lines for line in each if " trained. " in line]
    assert len(trained) == len(set(trained)) == len(rows)
    for each in lines:  # a row that the other was making is reported when it is there
        assert {line.split()[0] for line in each if "waits for" not in line} == set(trained)
    assert len(list((tmp_path / "runs").rglob("run.json"))) == len(rows)
    assert not list((tmp_path / "runs").rglob(".*"))


def test_parts_make_the_rows_of_the_whole(shards, tmp_path):
    for runs, parts in ((tmp_path / "whole", ["1/1"]), (tmp_path / "parts", ["1/3", "2/3", "3/3"])):
        for part in parts:
            process = sweep(plain(shards, runs), tmp_path / "log.txt", "none", "identity", "--seeds", "0", "1", "--part", part)
            assert process.wait(200) == 0, (tmp_path / "log.txt").read_text()[-2000:]
    assert len(weights(tmp_path / "whole")) == 4
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("group", [True, False], ids=["all-processes", "the-first-alone"])
def test_a_sweep_that_is_stopped_saves_says_so_in_one_line_and_goes_on(number, status, group, shards, tmp_path):
    settings = (*plain(shards, tmp_path / "runs"), "--trainer.max_steps=150", "--checkpoint.every_n_train_steps=5")
    log = tmp_path / "log.txt"
    last = tmp_path / "runs" / "demo" / "noisy@1e-4" / "seed0" / "checkpoints" / "last.ckpt"
    process = sweep(settings, log, "noisy:beta@1e-4", "none")
    try:
        until(last.exists, process, log)
        (os.killpg if group else os.kill)(process.pid, number)
        assert process.wait(60) == status, log.read_text()[-2000:]
    finally:
        process.kill()
    said = [line for line in log.read_text().splitlines() if "lam: stopped" in line or "Traceback" in line or "failed" in line]
    assert len(said) == 1 and "lam: stopped by " in said[0], log.read_text()[-2000:]
    assert 5 <= read_tensors(last)["global_step"] < 150
    assert not list((tmp_path / "runs").rglob(".*"))
    for runs in ("runs", "undisturbed"):
        again = (*plain(shards, tmp_path / runs), "--trainer.max_steps=150", "--checkpoint.every_n_train_steps=5")
        assert sweep(again, log, "noisy:beta@1e-4", "none").wait(300) == 0, log.read_text()[-2000:]
    assert same(weights(tmp_path / "runs"), weights(tmp_path / "undisturbed"))
    assert not list((tmp_path / "runs").rglob(".*"))
