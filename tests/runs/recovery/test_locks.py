"""Locks of runs: who is alive keeps them, who is dead does not, on this host and on others."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lam.runs.recovery import locks
from lam.runs.recovery.locks import RunTakenError, Watch, check_free, lock_run

HOLD = "import sys,time; from pathlib import Path; from lam.runs.recovery.locks import lock_run\n"
HOLD += "with lock_run(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def run(tmp_path) -> Path:
    return tmp_path / "demo" / "none" / "seed0"


@pytest.fixture
def holder(run):
    process = subprocess.Popen([sys.executable, "-c", HOLD, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_run_that_another_process_makes_is_refused_until_that_ends_or_is_killed(run, holder):
    watch = Watch(run)
    with (
        pytest.raises(RunTakenError, match=f"is being made by process {holder.pid} on ") as caught,
        lock_run(run),
    ):
        pass
    assert caught.value.folder == run and not watch.is_free()
    with pytest.raises(RunTakenError):
        check_free(run)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (run.parent / ".seed0.lock").exists()  # it could not remove it
    assert watch.is_free()
    with lock_run(run), lock_run(run):  # one process may hold it twice
        assert not Watch(run).is_free()
    assert watch.is_free() and not list(run.parent.iterdir())


def test_a_process_that_is_stopped_keeps_its_lock(run, holder):
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(RunTakenError), lock_run(run):
        pass


def on_another_host(run: Path) -> None:
    """Make the holder of a lock one of another host."""
    lock = run.parent / ".seed0.lock"
    text = re.sub("host=.*", "host=elsewhere", lock.read_text())
    times = lock.stat()
    lock.write_text(text)
    os.utime(lock, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_another_host_is_given_time_to_show_that_it_lives(run, monkeypatch, capsys):
    monkeypatch.setattr(locks, "LEASE", 1.0)
    dead = f"import os; from lam.runs.recovery import locks; locks.LEASE = 1.0\n{HOLD}".replace(
        "sys.stdin.read()", "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", dead, run], check=False, stdout=subprocess.DEVNULL)
    on_another_host(run)
    with pytest.raises(RunTakenError, match="on elsewhere"), lock_run(run):  # who does not wait cannot know
        pass
    with lock_run(run, patience=3):
        assert "held by process" in capsys.readouterr().err
    assert not list(run.parent.iterdir())


def test_who_lost_its_lock_ends_before_two_write(run, tmp_path):
    lost = f"from lam.runs.recovery import locks; locks.LEASE = 0.5\n{HOLD}"
    process = subprocess.Popen(
        [sys.executable, "-c", lost, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    (run.parent / ".seed0.lock").unlink()
    try:
        assert process.wait(10) == 1
        assert "the lock of" in process.stderr.read()
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
