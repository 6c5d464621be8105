"""Preparations of one folder by several processes at once, which begin, work and end whenever they like."""

import contextlib
import threading
import time

import pytest

from data_prep.pipeline import run as runs
from data_prep.pipeline.engine import Engine
from data_prep.shards import finalize
from data_prep.shards.records import PARTS
from tests.data_prep.pipeline.test_faults import Made, contents, run


def together(*functions):
    """Runs functions side by side; returns what each returned or raised."""
    found = [None] * len(functions)

    def call(place):
        try:
            found[place] = functions[place]()
        except Exception as error:
            found[place] = error

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("engine", [Engine(jobs=1), Engine(jobs=1, part="1/1")], ids=["whole", "part"])
def test_two_that_end_at_once_both_succeed(tmp_path, monkeypatch, engine):
    lengths = [40, 17, 3, 33]
    run(Made(lengths), tmp_path / "one")
    gate = threading.Barrier(2)
    ask = runs.missing_jobs

    def both_ask_before_either_ends(*arguments):
        found = ask(*arguments)
        with contextlib.suppress(threading.BrokenBarrierError):  # the other one waits for the lock
            gate.wait(1)
        return found

    monkeypatch.setattr(runs, "missing_jobs", both_ask_before_either_ends)
    found = together(*[lambda: run(Made(lengths), tmp_path / "two", engine)] * 2)
    assert found == [0, 0]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert not (tmp_path / "two" / PARTS).exists()


def test_one_that_begins_while_another_ends_succeeds(tmp_path, monkeypatch):
    lengths = [40, 17, 3, 33]
    out = tmp_path / "out"
    planned = threading.Event()
    load = runs._load_plan

    def slow_to_look(*arguments):
        if threading.current_thread().name == "late":
            planned.wait(10)  # the other one ends between the look for an index and the look for a plan
        return load(*arguments)

    monkeypatch.setattr(runs, "_load_plan", slow_to_look)
    found = []

    def late():
        try:
            found.append(run(Made(lengths), out))
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=late, name="late")
    thread.start()
    time.sleep(0.2)
    assert run(Made(lengths), out) == 0
    planned.set()
    thread.join()
    assert found == [0]
    assert not (out / PARTS).exists()


def test_a_kill_between_the_index_and_the_end_leaves_nothing_over(tmp_path, monkeypatch):
    lengths = [40, 17]
    with monkeypatch.context() as patch:
        patch.setattr(finalize.shutil, "rmtree", lambda *args, **named: None)
        run(Made(lengths), tmp_path)
    assert (tmp_path / PARTS).exists()
    assert run(Made(lengths), tmp_path) == 0
    assert not (tmp_path / PARTS).exists()


@pytest.mark.slow
def test_twenty_times_three_at_once(tmp_path):
    lengths = [40, 17, 3, 33] * 3
    run(Made(lengths), tmp_path / "one")
    for i in range(20):
        assert together(*[lambda i=i: run(Made(lengths), tmp_path / f"{i}")] * 3) == [0, 0, 0]
        assert contents(tmp_path / f"{i}") == contents(tmp_path / "one")
