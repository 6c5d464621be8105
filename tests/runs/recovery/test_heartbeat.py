"""Two processes that train together, of which one is stopped or killed: the other names it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.processes import free_port
from tests.tiny import arguments, make_world


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_process_that_is_lost_is_named_within_a_minute(lost, how, tmp_path):
    shards = make_world(tmp_path / "world")
    settings = [
        *arguments(shards, tmp_path / "runs", steps=100_000),
        *("--trainer.callbacks=[]", "--trainer.val_check_interval=1000000", "--checkpoint.every_n_train_steps=5"),
        *("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"),
    ]
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    shared |= {"TORCHELASTIC_RUN_ID": "test", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "OMP_NUM_THREADS": "1"}
    logs = [tmp_path / f"{rank}.txt" for rank in range(2)]
    ranks = []
    for rank, log in enumerate(logs):
        command = [sys.executable, "-m", "lam", "fit", *settings]
        environment = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        with log.open("w") as errors:
            ranks.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment))
    try:
        deadline = time.monotonic() + 120
        last = tmp_path / "runs" / "tiny" / "row" / "seed0" / "checkpoints" / "last.ckpt"
        while not last.exists() and time.monotonic() < deadline:
            assert all(process.poll() is None for process in ranks), [log.read_text()[-2000:] for log in logs]
            time.sleep(0.1)
        ranks[lost].send_signal(how)
        lost_at = time.monotonic()
        expected = f"process {lost} of 0 to 1 on "
        while expected not in logs[1 - lost].read_text() and time.monotonic() < lost_at + 60:
            time.sleep(0.2)
        assert expected in logs[1 - lost].read_text(), logs[1 - lost].read_text()[-3000:]
        assert logs[1 - lost].read_text().count("stopped or dead") == 1
    finally:
        for process in ranks:
            process.kill()
            process.wait()
