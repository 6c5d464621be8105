"""Kills processes that save checkpoints and looks at what they leave: python killer.py COUNT FOLDER [lightning].

One process ends before each call that changes the disk; as many as COUNT says get SIGKILL, each at a random moment. With
``lightning`` they save as Lightning does by itself, and only random moments are tried.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

CALLS = ("open", "fsync", "link", "replace", "unlink", "scandir")
SIZE = 400_000  # numbers of a checkpoint, 1.6 MB


def saver():
    if "lightning" in sys.argv:
        return TorchCheckpointIO()
    from lam.runs.recovery.checkpoints import WholeCheckpointIO

    return WholeCheckpointIO()


def save(version: int, path: Path) -> None:
    saver().save_checkpoint({"state_dict": {"w": torch.full((SIZE,), float(version))}}, path)


def version(path: Path) -> int:
    """Which version a whole checkpoint is; raises where it is damaged."""
    if "lightning" in sys.argv:
        weights = torch.load(path, weights_only=True)["state_dict"]["w"]
    else:
        from lam.runs.recovery.checkpoints import read_tensors, restore_checkpoint

        assert restore_checkpoint(path) == path
        assert not list(path.parent.glob("damaged-*")), "it was damaged"
        weights = read_tensors(path)["state_dict"]["w"]
    assert torch.equal(weights, weights[0].expand(SIZE))
    return int(weights[0])


def end_before_call(number: int) -> None:
    """End this process before the given call that changes the disk, counted from 0."""
    left = [number]
    for name in CALLS:
        call = getattr(os, name)

        def counted(*args, call=call, **named):
            if left[0] == 0:
                os._exit(9)
            left[0] -= 1
            return call(*args, **named)

        setattr(os, name, counted)


def forked(function) -> int:
    process = os.fork()
    if process == 0:
        try:
            function()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return process


def steps(path: Path) -> None:
    ends, number = [], 0
    save(1, path)
    save(2, path)
    newest = 2

    def try_to_save():
        end_before_call(number)
        save(newest + 1, path)

    while True:
        status = os.waitstatus_to_exitcode(os.waitpid(forked(try_to_save), 0)[1])
        found = version(path)
        assert found in (newest, newest + 1), f"killed before call {number}: version {found}, expected {newest} or one more"
        ends.append(status)
        newest = found
        save(newest + 1, path)  # the next one is not disturbed by what was left
        newest += 1
        names = sorted(one.name for one in path.parent.iterdir())
        assert names == ["last.ckpt", "last.sha256", "previous-last.ckpt"], names
        if status == 0:
            break
        number += 1
    assert set(ends) == {0, 9} and len(ends) > 5, ends
    print(f"whole after each of {len(ends) - 1} kills")


def at_random(path: Path, count: int) -> None:
    draws, whole = random.Random(0), 0
    save(0, path)
    began = time.monotonic()
    save(0, path)
    takes = time.monotonic() - began

    def go_on():
        newest = 0
        while True:
            newest += 1
            save(newest, path)

    for _ in range(count):
        process = forked(go_on)
        time.sleep(takes * (1 + 3 * draws.random()))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        try:
            version(path)
            whole += 1
        except Exception as error:
            print(f"{type(error).__name__}: {path.stat().st_size} bytes", file=sys.stderr)
        save(0, path)
    print(f"{whole} of {count} whole")
    left = [one.name for one in path.parent.iterdir() if one.name.startswith(".")]
    assert not left, left


if __name__ == "__main__":
    target = Path(sys.argv[2], "last.ckpt")
    if "lightning" not in sys.argv:
        steps(target)
    at_random(target, int(sys.argv[1]))
