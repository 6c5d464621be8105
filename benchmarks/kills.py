"""Kill commands at random moments, run them again, and look whether all is as if nobody had: python benchmarks/kills.py.

A command works in a folder of its own, gets SIGKILL with all its processes at a moment drawn between its first change of
a file and its end, one in ten at any moment, and is started again, over and over. Whenever it ends by itself, what it left is
compared with what an undisturbed one leaves: the same weights, bytes and numbers, nothing beside them, and a person's own files
still there. Then it begins anew.

    PYTHONPATH=. python benchmarks/kills.py sweep control --kills 100 [--tmpdir ANOTHER_FILE_SYSTEM] [--term 0.2]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

SETTING = """\
extends: demo.yaml
checkpoint: {every_n_train_steps: 5}
trainer:
  max_steps: 40
  val_check_interval: 20
  precision: 32-true
  callbacks:
    - class_path: Capacity
data: {shards: shards/kill, frames: 3, batch_size: 4, num_workers: 0}
model:
  latent_dim: 8
  encoder: {init_args: {image_size: 16, patch: 8}}
  inverse_model: {init_args: {width: 16, depth: 1, heads: 2}}
  forward_model: {init_args: {width: 16, depth: 1, heads: 2}}
"""
CONTROL = """\
trainer:
  max_steps: 60
  callbacks:
    - class_path: ControllerError
model: {labeled_clips: 20, batch_size: 8}
"""
FIT = ["fit", "--config=experiments/kill.yaml", "--config=experiments/bottlenecks/noisy.yaml", "--name=kill/noisy"]
RUN = Path("runs/kill/noisy/seed0")
LAST = "checkpoints/last.ckpt"
NOTE = "my notes.txt"
"""A file of a person's own."""

Contents = dict[str, str]


class Case(NamedTuple):
    """A command and what must be the same after it, whatever was done to it.

    Attributes:
        words: What is typed after ``python -m``, in the present state of the folder that it is typed in.
        same: What must be the same, by name.
        before: Commands whose results it needs.
        notes: Folders in which a person has a file of their own.
        fresh: What it makes: removed before it begins anew.
    """

    words: Callable[[], list[str]]
    same: Callable[[], Contents]
    before: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ("runs",)


def weights(*places: str) -> Contents:
    """Return hashes of weights and of numbers in runs below folders."""
    from lam.runs.recovery.checkpoints import read_tensors

    found = {}
    for place in places:
        for path in sorted(Path(place).rglob("last.ckpt")):
            checkpoint = read_tensors(path)
            digest = hashlib.sha256(str(checkpoint["global_step"]).encode())
            for name, value in sorted(checkpoint["state_dict"].items()):
                digest.update(name.encode() + value.numpy().tobytes())
            found[str(path)] = digest.hexdigest()
        for name in ("metrics.json", "columns.json", "clips.parquet"):
            found |= hashes(place, name)
        for path in sorted([*Path(place).rglob("run.json"), *Path(place).rglob("trained.json")]):
            about = json.loads(path.read_text())
            found[str(path)] = json.dumps(
                {key: value for key, value in about.items() if key != "code_revision"}, sort_keys=True
            )
    return found


def hashes(place: str, pattern: str = "*") -> Contents:
    """Return hashes of the files below a folder."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(place).rglob(pattern))
        if path.is_file()
    }


def fit_words() -> list[str]:
    """Type ``lam fit``, and that it goes on where it can."""
    last = RUN / LAST
    return ["lam", *FIT, *([f"--ckpt_path={last}"] if last.exists() else [])]


def encoder_words() -> list[str]:
    """Type ``lam encoder fit`` where its result is not there yet, as make does."""
    if Path("runs/encoder/seed0/encoder.safetensors").exists():
        return ["lam", "--help"]
    words = ["lam", "encoder", "fit", "--config=experiments/autoencoder.yaml", "--data.shards=shards/kill", "--name=encoder"]
    words += ["--model.width=8", "--model.num_halvings=2", "--trainer.max_steps=30", "--trainer.val_check_interval=30"]
    return [*words, "--data.num_workers=0", "--trainer.accelerator=cpu"]


ROWS = ["kill", "none", "noisy"]
CASES = {
    "prepare": Case(
        lambda: ["data_prep", "world", "shards/new", "--train=60", "--val=12", "--size=16", "--frames=5", "--jobs=2"],
        lambda: hashes("shards/new"),
        notes=("shards",),
        fresh=("shards/new",),
    ),
    "fit": Case(fit_words, lambda: weights(str(RUN)), notes=(str(RUN),)),
    "sweep": Case(lambda: ["lam", "sweep", *ROWS], lambda: weights("runs"), notes=(str(RUN),)),
    "stale": Case(  # rows of other settings lie where the new ones will
        lambda: ["lam", "sweep", *ROWS, "--trainer.max_steps=30"],
        lambda: {name: one for name, one in weights("runs").items() if ".stale" not in name},
        before=("sweep",),
        notes=(str(RUN),),
    ),
    "control": Case(
        lambda: ["lam", "control", "sweep", *ROWS, "--labels", "20"],
        lambda: weights("runs"),
        before=("sweep",),
        notes=(str(RUN / "control"),),
    ),
    "encoder": Case(
        encoder_words,
        lambda: hashes("runs/encoder", "encoder.*"),
        notes=("runs",),
    ),
    "features": Case(
        lambda: [
            *["data_prep", "features", "shards/kill", "shards/new", "--encoder=Autoencoder"],
            *["--encoder.path=runs/encoder/seed0", "--device=cpu"],
        ],
        lambda: hashes("shards/new"),
        before=("encoder",),
        notes=("shards",),
        fresh=("shards/new",),
    ),
    "predict": Case(
        lambda: [
            "lam",
            "predict",
            f"--config={RUN}/config.yaml",
            f"--ckpt_path={RUN}/checkpoints/last.ckpt",
            "--latents.npz=true",
        ],
        lambda: hashes(str(RUN), "latents.*"),
        before=("fit",),
        notes=(str(RUN),),
    ),
    "report": Case(
        lambda: ["lam", "report", "runs/kill"],
        lambda: hashes("runs/kill/report", "*.csv") | hashes("runs/kill/report", "*.md") | hashes("runs/kill/report", "*.html"),
        before=("sweep",),
        notes=("runs/kill/report",),
    ),
}


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def start(words: list[str], log: Path) -> int:
    """Start a command in a session of its own; return its process. A fork has imported what takes long to import."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(out, stream)
    status = 1
    try:
        program, *rest = words
        sys.argv = [program]
        if program == "lam":
            from lam.cli import main as lam

            lam(rest)
        else:
            from data_prep.cli import main as prepare

            sys.exit(prepare(rest))
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            os.write(2, f"{error.code}\n".encode())
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(process: int, seconds: float | None) -> int | None:
    """Wait for a process; return its status, or None where it runs after so many seconds."""
    end = time.monotonic() + (seconds if seconds is not None else 1e9)
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            return None
        time.sleep(0.01)


def wait_for_change(process: int, since: int) -> int | None:
    """Wait until a process changes a file; return its status if it ends before."""
    while True:
        if (status := ended(process, 0.02)) is not None:
            return status
        for place in ("runs", "shards"):
            for folder, _, names in os.walk(place):
                with contextlib.suppress(FileNotFoundError):
                    if any(os.stat(Path(folder, name)).st_mtime_ns > since for name in ("", *names)):
                        return None


def finish(words: list[str], log: Path) -> None:
    """Run a command to its end.

    Raises:
        RuntimeError: It failed.
    """
    if status := ended(start(words, log), None):
        raise RuntimeError(f"{' '.join(words)} ended with {status}: {log.read_text()[-3000:]}")


def leftovers() -> list[str]:
    """Return files that only a command that runs may have."""
    hidden = [path for path in [*Path("runs").rglob("*"), *Path("shards").rglob("*")] if path.is_file()]
    return [str(path) for path in hidden if path.name.startswith((".", "damaged-")) or path.suffix in (".part", ".lock")]


def is_there(place: str) -> bool:
    """Tell whether a person's file is where it was, or with the run that was moved aside."""
    name = Path(place).name
    return (Path(place) / NOTE).exists() or any(path.parent.name.startswith(name) for path in Path("runs").rglob(NOTE))


def make_project(folder: Path) -> None:
    """Write settings and data of a tiny setting, as a person has them."""
    shutil.copytree(ROOT / "experiments", folder / "experiments", ignore=shutil.ignore_patterns("*.png", "*.md"))
    (folder / "experiments" / "kill.yaml").write_text(SETTING)
    (folder / "experiments" / "control" / "kill.yaml").write_text(CONTROL)
    log = folder / "log.txt"
    with inside(folder):
        finish(["data_prep", "world", "shards/kill", "--train=40", "--val=12", "--size=16", "--frames=5", "--jobs=1"], log)


class Found(NamedTuple):
    """What kills did.

    Attributes:
        kills: Kills.
        compared: Times that the command ended by itself.
        different: Times that something was not the same.
        left: Files left over.
        lost: Times that a person's file was gone.
        failed: Times that the command failed by itself.
    """

    kills: int
    compared: int
    different: int
    left: int
    lost: int
    failed: int


def kill(name: str, count: int, folder: Path, seed: int = 0, term: float = 0.0) -> Found:
    """Kill a command so many times.

    Args:
        name: Which of ``CASES``.
        count: Kills.
        folder: Folder to work in; made.
        seed: Seed of the moments.
        term: Share of kills before which the process is asked to end, with time of a tenth of a second or two.
    """
    case, draws, log = CASES[name], random.Random(seed), folder / "log.txt"
    folder.mkdir(parents=True)
    make_project(folder)
    with inside(folder):
        for one in case.before:
            finish(CASES[one].words(), log)
        for place in case.notes:
            Path(place).mkdir(parents=True, exist_ok=True)
            (Path(place) / NOTE).write_text("mine")
        for place in ("runs", "shards"):
            if Path(place).exists():
                shutil.copytree(place, f"kept/{place}")
        began, process = time.monotonic(), start(case.words(), log)
        status = wait_for_change(process, time.time_ns())
        quiet = time.monotonic() - began
        if status is None:
            status = ended(process, None)
        takes, expected = time.monotonic() - began, case.same()
        assert status == 0 and expected, f"{name} ended with {status}: {log.read_text()[-3000:]}"
        print(f"{name}: {takes:.1f} s undisturbed, {quiet:.1f} before a file, {len(expected)} things to compare", flush=True)
        begin_anew(case)
        kills = compared = different = left = lost = failed = 0
        while (kills < count or compared == 0) and failed < 3:
            since, process = time.time_ns(), start(case.words(), log)
            if kills == count:
                status = ended(process, None)
            elif draws.random() < 0.1:
                status = ended(process, draws.uniform(0, takes))
            elif (status := wait_for_change(process, since)) is None:
                status = ended(process, draws.uniform(0, 1.2 * (takes - quiet)))
            if status is None:
                if draws.random() < term:
                    os.kill(process, signal.SIGTERM)
                    ended(process, draws.uniform(0, 0.2))
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process, 0)
                kills += 1
                if kills % 10 == 0:
                    print(f"{name}: {kills} kills, {compared} compared, {different} different", flush=True)
                continue
            compared += 1
            failed += status != 0
            found, rest = case.same(), leftovers()
            wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
            gone = [place for place in case.notes if not is_there(place)]
            different, left, lost = different + bool(wrong), left + len(rest), lost + len(gone)
            if status or wrong or rest or gone:
                print(f"{name}, after {kills} kills: status {status}, different {wrong}, left {rest}, gone {gone}", flush=True)
                print(log.read_text()[-1500:], flush=True)
            begin_anew(case)
            log.write_text("")
    return Found(kills, compared, different, left, lost, failed)


def begin_anew(case: Case) -> None:
    """Put the folder into the state before the command."""
    for place in case.fresh:
        shutil.rmtree(place, ignore_errors=True)
        if Path("kept", place).exists():
            shutil.copytree(Path("kept", place), place)


def main() -> None:
    """Kill commands and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=CASES, help="commands")
    parser.add_argument("--kills", type=int, default=100, help="kills of each")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--tmpdir", help="TMPDIR of the commands, such as a folder on another file system")
    parser.add_argument("--term", type=float, default=0.0, help="share of kills that SIGTERM comes shortly before")
    options = parser.parse_args()
    import lam.evals
    import lam.runs.cli
    import lam.viz  # noqa: F401  what takes long to import is imported once

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.tmpdir:
            os.environ["TMPDIR"] = tempfile.tempdir = options.tmpdir
        for name in options.cases:
            found[name] = kill(name, options.kills, Path(folder, name), options.seed, options.term)._asdict()
            print(json.dumps({name: found[name]}), flush=True)
    sys.exit(any(one[bad] for one in found.values() for bad in ("different", "left", "lost", "failed")))


if __name__ == "__main__":
    main()
