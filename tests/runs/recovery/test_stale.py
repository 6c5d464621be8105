"""Runs moved aside: nothing of a person's is lost, whatever happens to the run that takes their place."""

from pathlib import Path

import pytest

from lam.runs.recovery.locks import RunTakenError
from lam.runs.recovery.stale import bring_back, remove_stale, replaced, stale_runs
from tests.runs.recovery.test_locks import holder  # noqa: F401  a fixture


@pytest.fixture
def run(tmp_path) -> Path:
    return tmp_path / "demo" / "none" / "seed0"


def write(folder: Path, *names: str, text: str = "") -> dict[str, str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text or name)
    return contents(folder)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


BEGINNING = ("config.yaml", "started.json", "events.out.tfevents.1.2", "checkpoints/.last.ckpt.h-1-1.part")
FINISHED = ("config.yaml", "started.json", "run.json", "checkpoints/last.ckpt", "control/clips64/run.json", "my_notes.txt")


def test_a_run_is_kept_with_all_that_lies_in_it_until_it_is_asked_to_be_deleted(run):
    old = write(run, *FINISHED)
    with replaced(run) as aside:
        assert not run.exists()
        newer = write(run, *FINISHED, text="second")
    assert aside == run.parents[1] / ".stale" / "none" / "seed0" and contents(aside) == old
    with replaced(run) as again:
        write(run, "config.yaml", text="third")
    assert again.name == "seed0-2" and contents(again) == newer
    assert stale_runs(run) == [aside, again] and stale_runs(run.with_name("seed00")) == []
    write(aside.with_name("seed00"), "run.json")
    remove_stale(run)
    assert contents(run.parents[1] / ".stale") == {"none/seed00/run.json": "run.json"}
    remove_stale(run.with_name("seed00"))
    assert [path.name for path in run.parents[1].iterdir()] == ["none"] and contents(run) == {"config.yaml": "third"}


@pytest.mark.parametrize("wrote", [(), BEGINNING])
def test_a_run_is_put_back_where_the_new_one_cannot_begin(run, wrote):
    old = write(run, *FINISHED)
    with pytest.raises(ValueError, match="bad batch size"), replaced(run):
        write(run, *wrote)
        raise ValueError("bad batch size")
    assert contents(run) == old
    assert [path.name for path in run.parents[1].iterdir()] == ["none"]


def test_a_new_run_that_has_begun_stays_and_the_old_one_is_kept(run):
    old = write(run, *FINISHED)
    with pytest.raises(KeyboardInterrupt), replaced(run):
        new = write(run, "config.yaml", "started.json", "checkpoints/last.ckpt")
        raise KeyboardInterrupt
    assert contents(run) == new and contents(run.parents[1] / ".stale" / "none" / "seed0") == old


def test_a_kill_before_the_first_checkpoint_brings_the_old_run_back(run):
    write(run, *FINISHED, text="older")
    block = replaced(run)
    block.__enter__()  # a process that is killed never leaves it
    old = write(run, *FINISHED)
    again = replaced(run)
    again.__enter__()
    write(run, *BEGINNING)
    bring_back(run)
    assert contents(run) == old and [path.name for path in stale_runs(run)] == ["seed0"]
    bring_back(run)  # a run that has begun stays
    assert contents(run) == old


def test_what_a_person_put_there_alone_is_no_run_and_stays_where_it_is(run):
    notes = write(run, "my_notes.txt", "plots/mine.png")
    with replaced(run) as aside:
        assert aside is None and contents(run) == notes


def test_a_start_that_failed_leaves_no_rubbish(run):
    write(run, "config.yaml", "started.json", "hparams.yaml", "events.out.tfevents.1.vm.2.0")
    with replaced(run) as aside:
        assert aside is None and not run.exists()
    write(run, "config.yaml", "my_notes.txt")  # but for what a person has put there
    with replaced(run) as aside:
        assert contents(aside) == {"config.yaml": "config.yaml", "my_notes.txt": "my_notes.txt"}


def test_a_run_stays_while_controllers_are_made_for_it(tmp_path, holder):  # noqa: F811
    world = tmp_path / "demo"  # the holder's run lies in a folder of this one, as controllers do
    old = write(world, "run.json")
    with pytest.raises(RunTakenError, match="seed0"), replaced(world):
        pass
    assert contents(world).items() >= old.items()
