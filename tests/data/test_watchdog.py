import itertools
import logging
import threading
import time

import pytest

from lam.data.datamodule import ClipDataModule
from lam.data.split_reader import SplitReader
from lam.data.watchdog import Watchdog
from tests.data.shards import write_set


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "shards", train=[9, 12, 7], val=[10])


def until(found, seconds=10.0):
    """Waits for something that another thread does."""
    end = time.monotonic() + seconds
    while not found() and time.monotonic() < end:
        time.sleep(0.02)
    assert found()


def test_reports_who_waits_for_data_once(caplog):
    watchdog = Watchdog(4, 2, data_seconds=0.1)
    with watchdog.watch():
        watchdog.begin_wait(lambda: "windows 8 to 11, in a.tar")
        until(lambda: caplog.messages)
        time.sleep(0.3)
    assert len(caplog.messages) == 1 and caplog.records[0].levelno == logging.WARNING
    assert caplog.messages[0].startswith("Process 2 of 0 to 3 on ")
    assert "s for data: windows 8 to 11, in a.tar. Other processes wait for it." in caplog.messages[0]


def test_reports_who_does_not_come_back(caplog):
    watchdog = Watchdog(2, 0, step_seconds=0.1)
    with watchdog.watch():
        watchdog.begin_wait(lambda: "batch 3")
        watchdog.begin_step(lambda: "batch 3")
        until(lambda: caplog.messages)
    assert "Process 0 of 0 to 1" in caplog.messages[0] and "asks for no more: batch 3" in caplog.messages[0]
    assert "waits for another process" in caplog.messages[0]


def test_is_silent_when_all_is_well_and_ends(caplog):
    watchdog = Watchdog(2, 0, data_seconds=0.2, step_seconds=0.2)
    with watchdog.watch():
        for _ in range(20):
            watchdog.begin_wait(str)
            with watchdog.watch():
                time.sleep(0.01)
            watchdog.begin_step(str)
        watchdog.pause()
        time.sleep(0.5)
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "data watchdog"])
    assert not caplog.messages


def test_names_the_shard_that_is_slow(folder, caplog, monkeypatch):
    data = ClipDataModule(folder, frames=3, batch_size=2, num_workers=0)
    data.__dict__["_watchdog"] = Watchdog(1, 0, data_seconds=0.1)
    released = threading.Event()
    read = SplitReader.read
    monkeypatch.setattr(SplitReader, "read", lambda *args, **named: released.wait(10) and read(*args, **named))
    waiting = threading.Thread(target=lambda: list(itertools.islice(data.train_dataloader(), 1)))
    waiting.start()
    until(lambda: caplog.messages)
    released.set()
    waiting.join(10)
    assert "training windows 0 to 1, in " in caplog.messages[0] and "train-000000-000.tar" in caplog.messages[0]


def test_training_and_validation_are_watched_together(folder, caplog):
    data = ClipDataModule(folder, frames=3, batch_size=2, num_workers=0)
    data.__dict__["_watchdog"] = Watchdog(1, 0, step_seconds=0.4)
    stream = iter(data.train_dataloader())
    next(stream)
    for _ in range(4):  # validation takes longer than a step may
        for _ in data.val_dataloader():
            time.sleep(0.1)
    assert not caplog.messages
    next(stream)
    until(lambda: caplog.messages)
    assert "training windows 2 to 3" in caplog.messages[0]
    data.teardown("fit")
    stream.close()
