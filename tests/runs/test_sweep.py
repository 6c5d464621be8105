"""Rows of a table: what is done is not done again, what changed is, what fails does not stop the rest."""

import json
import re
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml

from lam.runs.cli import run
from lam.runs.errors import SettingsError
from lam.runs.recovery.locks import RunTakenError
from lam.runs.sweep.command import main, part_of, rows_of, rows_parser
from lam.runs.sweep.pool import threads_of_each, work
from lam.runs.sweep.rows import RunSpec, train_row
from tests.runs.recovery.test_locks import holder  # noqa: F401  a fixture
from tests.tiny import EXPERIMENTS, KillAtStep3, KilledError, arguments, make_world

STEPS = 3


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    monkeypatch.chdir(EXPERIMENTS.parent)


def extra(shards: Path, runs: Path) -> tuple[str, ...]:
    """The tiny settings without the files and the name, which rows bring themselves."""
    return tuple(
        a for a in arguments(shards, runs, steps=STEPS) if not a.startswith(("--config", "--name", "--trainer.enable"))
    )


def test_rows_are_read_from_their_text():
    row = RunSpec.parse("wild", "noisy:beta@1e-4", 2)
    assert (row.family, row.knob, row.value, row.name) == ("noisy", "beta", "1e-4", "wild/noisy@1e-4")
    assert RunSpec.parse("wild", "none", 0).name == "wild/none"
    with pytest.raises(ValueError, match="family:knob@value"):
        RunSpec.parse("wild", "noisy@1e-4", 0)


def test_rows_of_a_system_have_its_heads_and_a_folder_of_their_own():
    row = RunSpec.parse("arm", "lapa/nsvq:num_codes@8", 2)
    assert (row.system, row.family, row.knob, row.value) == ("lapa", "nsvq", "num_codes", "8")
    assert row.name == "arm/systems/lapa/nsvq@8"
    assert RunSpec.parse("arm", "lapa/none", 0).name == "arm/systems/lapa/none"
    # the family comes after the system, so that anchors replace its bottleneck and keep its heads
    configs = [word.removeprefix("--config=experiments/") for word in row.arguments() if word.startswith("--config")]
    assert configs == ["arm.yaml", "systems/lapa.yaml", "bottlenecks/nsvq.yaml"]
    with pytest.raises(SettingsError, match=r"No system lapaa: .* Did you mean lapa\?"):
        main(["arm", "lapaa/none"])


def test_a_world_of_a_series_is_trained_on_as_its_series_says(tmp_path, monkeypatch):
    first, *rest = RunSpec.parse("texture-4", "none", 0).arguments("--trainer.max_steps=3")
    assert first == "--config=experiments/texture.yaml" and rest[1] == "--data.shards=shards/texture-4"
    assert rest[-2:] == ["--name=texture-4/none", "--seed_everything=0"]

    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "my-videos.yaml").touch()  # a setting of its own that happens to have a dash
    own = RunSpec.parse("my-videos", "none", 0).arguments()
    assert own[0] == "--config=experiments/my-videos.yaml" and not any("data.shards" in argument for argument in own)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # the other evaluations come without it
def test_a_finished_row_is_left_alone_and_a_changed_one_is_made_again(shards, tmp_path):
    row, settings = RunSpec.parse("demo", "noisy:beta@1e-4", 0), extra(shards, tmp_path)
    folder = tmp_path / "demo" / "noisy@1e-4" / "seed0"
    assert train_row(row, settings).startswith("trained")
    first = (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    about = json.loads((folder / "run.json").read_text())
    assert (about["setting"], about["family"], about["knob"], about["seed"]) == ("demo", "noisy", "1e-4", 0)

    assert train_row(row, settings) == "up to date"
    assert train_row(row, (*settings, "--data.num_workers=1", "--trainer.log_every_n_steps=2")) == "up to date"
    (folder / "metrics.json").unlink()  # only a new pass can bring it back
    new_evaluation = (*settings, "--trainer.callbacks=lam.evals.Capacity")
    assert train_row(row, new_evaluation).startswith("validated again")
    assert "eval/probe/gain/agent_dx" not in json.loads((folder / "metrics.json").read_text())
    assert (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns == first

    assert train_row(row, (*settings, "--model.warmup=0.5")).startswith("trained")
    assert (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns != first


def test_new_data_makes_a_row_stale(shards, tmp_path):
    row = RunSpec.parse("demo", "none", 0)
    assert train_row(row, extra(shards, tmp_path)).startswith("trained")
    other = make_world(tmp_path / "other", seed=1)
    assert train_row(row, extra(other, tmp_path)).startswith("trained")
    assert train_row(row, extra(other, tmp_path)) == "up to date"


def test_a_killed_row_goes_on_from_its_checkpoint(shards, tmp_path, monkeypatch):
    row, settings = RunSpec.parse("demo", "vq:num_codes@4", 0), (*extra(shards, tmp_path), "--trainer.max_steps=6")
    folder = tmp_path / "demo" / "vq@4" / "seed0"
    assert train_row(row, settings).startswith("trained")
    undisturbed = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    (folder / "run.json").unlink()
    (folder / "checkpoints" / "last.ckpt").unlink()
    monkeypatch.setattr("lam.runs.sweep.rows.StepProgress", KillAtStep3)
    with pytest.raises(KilledError):
        train_row(row, settings)
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    monkeypatch.chdir(EXPERIMENTS.parent)
    assert train_row(row, settings).startswith("trained")
    resumed = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert resumed["global_step"] == 6
    for key, value in undisturbed.items():
        torch.testing.assert_close(resumed["state_dict"][key], value, rtol=0, atol=0)


def test_a_row_whose_only_checkpoint_is_damaged_is_trained_again(shards, tmp_path, capsys):
    row, settings = RunSpec.parse("demo", "vq:num_codes@4", 0), extra(shards, tmp_path)
    folder = tmp_path / "demo" / "vq@4" / "seed0"
    assert train_row(row, settings).startswith("trained")
    checkpoint = folder / "checkpoints" / "last.ckpt"
    whole = torch.load(checkpoint, weights_only=True)["state_dict"]
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"evaluation_hash": "of other evaluations"}))
    for path in checkpoint.parent.glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:-100])
    assert train_row(row, settings).startswith("trained")
    assert "the only one, is damaged" in capsys.readouterr().err
    again = torch.load(checkpoint, weights_only=True)["state_dict"]
    for key, value in whole.items():
        torch.testing.assert_close(again[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("text", ["lapa/none", "lapo/vq:num_codes@64"])
def test_a_system_trains_and_keeps_what_its_file_says_of_its_bottleneck(text, shards, tmp_path):
    unknown = ("latent_dim", "forward_model.heads" if text.startswith("lapo") else "latent_dim")  # convolutions have no heads
    settings = [word for word in extra(shards, tmp_path) if not any(name in word for name in unknown)]
    assert train_row(RunSpec.parse("demo", text, 0), tuple(settings)).startswith("trained")
    (folder,) = (path.parent for path in (tmp_path / "demo" / "systems").rglob("run.json"))
    model = yaml.safe_load((folder / "config.yaml").read_text())["model"]
    bottleneck = model["bottleneck"]
    if text == "lapa/none":
        assert (model["num_latents"], bottleneck["class_path"].split(".")[-1]) == (4, "NoLatent")
    else:
        assert (bottleneck["init_args"]["num_codes"], bottleneck["init_args"]["commitment"]) == (64, 0.05)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["model/parameters/heads"] > 0 and "eval/capacity/error_drawn" in metrics


def test_threads_are_a_share_of_the_cores_unless_the_environment_says_how_many(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_of_each(jobs) for jobs in (1, 3, 16)] == [8, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert threads_of_each(1) == 1


def threads_of(row: RunSpec, extra: tuple[str, ...]) -> str:
    """Say how many threads a process of the pool has."""
    return f"{torch.get_num_threads()} threads"


@pytest.mark.slow
def test_processes_of_the_pool_have_the_threads_of_the_environment(monkeypatch, capfd):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    for environment, expected in (("1", 1), (None, 8)):
        monkeypatch.delenv("OMP_NUM_THREADS") if environment is None else monkeypatch.setenv("OMP_NUM_THREADS", environment)
        monkeypatch.setattr("torch.get_num_threads", lambda: 1)
        assert work([RunSpec.parse("demo", "none", 0)], (), 1, threads_of) == []
        assert f"none seed 0: {expected} threads" in capfd.readouterr().out


@pytest.mark.slow
def test_rows_side_by_side_and_one_that_fails(shards, tmp_path, capfd):
    rows = [RunSpec.parse("demo", text, 0) for text in ("none", "noisy:beta@-1", "identity")]
    failed = work(rows, extra(shards, tmp_path), 2, train_row)
    assert failed == [rows[1]]
    assert "beta is -1.0, expected 0 or more" in capfd.readouterr().err
    for name in ("none", "identity"):
        assert (tmp_path / "demo" / name / "seed0" / "metrics.json").exists()


@pytest.fixture(name="run")
def _run(tmp_path) -> Path:
    """What the holder of a lock holds."""
    return tmp_path / "demo" / "none" / "seed0"


# ---------------------------------------------------------------------- what is a person's, and what is another sweep's


def plain(shards: Path, runs: Path) -> tuple[str, ...]:
    """The tiny settings without evaluations."""
    return (*extra(shards, runs), "--trainer.callbacks=[]")


class FailsBeforeTheFirstStep(pl.Callback):
    """Raises as a batch that does not fit into memory does."""

    def on_train_batch_start(self, *_: object) -> None:
        raise RuntimeError("out of memory")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_row_that_cannot_start_leaves_the_run_that_is_there(shards, tmp_path, monkeypatch):
    row, settings = RunSpec.parse("demo", "none", 0), plain(shards, tmp_path)
    folder = tmp_path / "demo" / "none" / "seed0"
    train_row(row, settings)
    (folder / "my_notes.txt").write_text("the one for the paper")
    before = contents(tmp_path)
    for wrong in ("--data.batch_size=0", "--trainer.max_steps=0", "--model.latent_dim=-1", "--trainer.fast_dev_run=true"):
        with pytest.raises((ValueError, RuntimeError, SystemExit)):
            train_row(row, (*settings, wrong))
        assert contents(tmp_path) == before, wrong
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of memory"):
        patch.setattr("lam.runs.sweep.rows.StepProgress", FailsBeforeTheFirstStep)
        train_row(row, (*settings, "--data.batch_size=8"))
    assert contents(tmp_path) == before
    assert train_row(row, settings) == "up to date"


def test_a_stale_run_is_kept_until_a_flag_deletes_it(shards, tmp_path):
    row, settings = RunSpec.parse("demo", "none", 0), plain(shards, tmp_path)
    folder, aside = tmp_path / "demo" / "none" / "seed0", tmp_path / "demo" / ".stale" / "none" / "seed0"
    train_row(row, settings)
    (folder / "my_notes.txt").write_text("the one for the paper")
    before = contents(folder)
    assert f"The run before it is kept in {aside}" in train_row(row, (*settings, "--trainer.max_steps=2"))
    assert contents(aside) == before and "my_notes.txt" not in contents(folder)
    assert train_row(row, (*settings, "--trainer.max_steps=2"), without_stale=True) == "up to date"
    assert not aside.parents[1].exists() and folder.exists()


def test_a_row_that_another_process_makes_is_left_to_it(shards, tmp_path, holder):  # noqa: F811
    row = RunSpec.parse("demo", "none", 0)
    with pytest.raises(RunTakenError, match=f"made by process {holder.pid}"):
        train_row(row, plain(shards, tmp_path))  # the holder's run is demo/none/seed0 in this folder
    with pytest.raises(RunTakenError):
        run(["fit", *row.arguments(*plain(shards, tmp_path))])
    assert [path.name for path in (tmp_path / "demo" / "none").iterdir()] == [".seed0.lock"]


def test_parts_make_every_row_once():
    rows = [RunSpec.parse("demo", text, seed) for seed in (0, 1, 2) for text in ("none", "identity", "noisy", "vq")]
    for count in (1, 2, 5, 12, 20):
        parts = [part_of(rows, f"{number}/{count}") for number in range(1, count + 1)]
        assert sorted(map(str, (row for part in parts for row in part))) == sorted(map(str, rows))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for wrong in ("0/2", "3/2", "1", "a/b", "1/0", "-1/2", ""):
        with pytest.raises(SettingsError, match="--part is"):
            part_of(rows, wrong)


def test_a_sweep_is_not_started_by_what_starts_the_processes_of_one_row(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(SettingsError, match="--part"):
        main(["demo", "none"])


def test_the_array_in_the_documentation_makes_every_row_once():
    text = (EXPERIMENTS.parent / "docs" / "clusters.md").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^exec lam sweep (.*)$", text, re.MULTILINE)
    asked, count = [], 16
    for task in range(1, count + 1):
        words = line.replace("$SLURM_ARRAY_TASK_ID", str(task)).replace("$SLURM_ARRAY_TASK_COUNT", str(count)).split()
        options = rows_parser("lam sweep", "", "").parse_args(words)
        asked += part_of(rows_of(options), options.part)
    assert len(asked) == len(set(asked)) == 15
