"""Resuming: what a run is stays what its folder says, whatever flags are given later, and a failed start leaves no trace."""

import json
import shutil
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest

from lam.runs.cli import run
from lam.runs.errors import SettingsError
from lam.runs.recovery.resuming import differences
from tests.tiny import KilledError, arguments, make_world

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")  # runs are copied


def settings(shards: Path, runs: Path, name: str = "tiny/row", steps: int = 6) -> list[str]:
    return [*arguments(shards, runs, steps=steps, name=name), "--trainer.callbacks=[]"]


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        return run(["fit", *settings(shards, tmp_path_factory.mktemp("trained"))]).run_directory


@pytest.fixture
def finished(trained, tmp_path) -> Path:
    """A copy of a run of 6 steps, in the place that its name says."""
    return Path(shutil.copytree(trained, tmp_path / "tiny" / "row" / "seed0"))


def own(folder: Path) -> list[str]:
    root = folder.parents[2]
    return [
        f"--config={folder / 'config.yaml'}",
        f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}",
        f"--trainer.logger.init_args.save_dir={root}",
        "--trainer.enable_progress_bar=false",
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """All that a run's folder says of itself."""
    records = [path for path in folder.rglob("*") if path.suffix in (".json", ".yaml", ".ckpt", ".sha256")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in records if path.name != "hparams.yaml"}


FLAGS = {
    "--trainer.max_steps=3": "trainer.max_steps 6, not 3",
    "--trainer.max_steps=9": "trainer.max_steps 6, not 9",
    "--trainer.gradient_clip_val=0.5": "trainer.gradient_clip_val 1.0, not 0.5",
    "--model.latent_dim=4": "model.latent_dim 8, not 4",
    "--model.bottleneck.beta=0.5": "model.bottleneck.beta at its default, not 0.5",
    "--data.batch_size=8": "data.batch_size 4, not 8",
}


def test_a_run_goes_on_with_its_own_settings_or_not_at_all(finished):
    before = contents(finished)
    for flag, said in FLAGS.items():
        with pytest.raises(SettingsError, match="was begun with") as caught:
            run(["fit", *own(finished), flag])
        assert said in str(caught.value)
        assert contents(finished) == before
    with pytest.raises(SettingsError, match="trained with other settings"):
        run(["validate", *own(finished), "--trainer.max_steps=3"])
    run(["validate", *own(finished)])
    assert json.loads((finished / "run.json").read_text())["steps"] == 6


def test_other_data_and_an_edited_config_are_refused_before_anything_is_written(finished, tmp_path):
    other = make_world(tmp_path / "elsewhere", seed=1)
    before = contents(finished)
    with pytest.raises(SettingsError, match="trained with other settings or data"):
        run(["fit", *own(finished), f"--data.shards={other}"])
    assert contents(finished) == before
    config = finished / "config.yaml"
    config.write_text(config.read_text().replace("max_steps: 6", "max_steps: 9"))
    with pytest.raises(SettingsError, match=r"its config\.yaml as it was"):
        run(["fit", *own(finished)])


def test_the_checkpoint_of_another_run_is_no_beginning_and_no_row(finished, shards, tmp_path):
    last = finished / "checkpoints" / "last.ckpt"
    with pytest.raises(SettingsError, match=f"no checkpoint of .*tiny/new/seed0.*--init_from {finished}"):
        run(["fit", *settings(shards, tmp_path, "tiny/new"), f"--ckpt_path={last}"])
    assert not (tmp_path / "tiny" / "new" / "seed0").exists()
    other = run(["fit", *settings(shards, tmp_path, "tiny/new", steps=3)]).run_directory / "checkpoints" / "last.ckpt"
    with pytest.raises(SettingsError, match="is of another run"):
        run(["validate", *own(finished), f"--ckpt_path={other}"])
    assert not (finished / "metrics.json").exists()


def test_numbers_of_another_checkpoint_of_a_run_are_not_its_row(finished):
    early = finished / "checkpoints" / "early.ckpt"
    shutil.copy(finished / "checkpoints" / "last.ckpt", early)
    run(["validate", *own(finished), f"--ckpt_path={early}"])
    assert "val/prediction" in json.loads((finished / "metrics-early.json").read_text())
    assert not (finished / "metrics.json").exists()
    assert not (finished / "run.json").exists()


def test_weights_from_before_the_end_are_not_the_row_of_a_run_that_has_ended(shards, tmp_path):
    folder = run(["fit", *settings(shards, tmp_path, steps=5), "--checkpoint.every_n_train_steps=3"]).run_directory
    assert json.loads((folder / "trained.json").read_text())["steps"] == 5
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"damaged")

    class Stop(pl.Callback):
        def setup(self, trainer, pl_module, stage):
            raise KilledError

    with pytest.raises(KilledError):
        run(["fit", *own(folder)], callbacks=[Stop()])  # the checkpoint of step 3 has taken its place
    run(["validate", *own(folder)])
    assert not (folder / "run.json").exists()
    run(["fit", *own(folder)])
    run(["validate", *own(folder)])
    assert json.loads((folder / "run.json").read_text())["steps"] == 5


def test_runs_that_recorded_no_steps_are_still_rows(finished):
    for name in ("started.json", "trained.json"):
        record = json.loads((finished / name).read_text())
        del record["steps"]
        (finished / name).write_text(json.dumps(record))
    run(["validate", *own(finished)])
    assert (finished / "run.json").exists()


def test_a_finished_run_that_is_resumed_is_left_as_it_is(finished):
    before = contents(finished)
    times = {path: path.stat().st_mtime_ns for path in finished.rglob("*.ckpt")}
    run(["fit", *own(finished), "--data.num_workers=1", "--trainer.log_every_n_steps=2"])
    assert contents(finished) == before
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.ckpt")} == times


def test_differences_are_told_by_the_names_of_settings():
    before = {"model": {"bottleneck": {"class": "Noisy", "beta": 0.1}, "warmup": 0.2}, "trainer": {"max_steps": 6}}
    today = {"model": {"bottleneck": {"class": "VQ"}}, "trainer": {"max_steps": 6}}
    assert differences(before, before) == []
    assert differences(before, today) == [
        "model.bottleneck Noisy, not VQ",
        "model.bottleneck.beta 0.1, not at its default",
        "model.warmup 0.2, not at its default",
    ]
