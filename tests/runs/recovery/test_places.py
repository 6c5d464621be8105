"""Where things go: a run is the folder its config lies in, from anywhere, and trials write nothing."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from lam.runs.cli import run
from lam.runs.recovery.places import find_shards, given_run
from tests.tiny import arguments, make_world

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")  # runs are moved


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with shards/world and a run that was trained from there with relative paths."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        home = tmp_path_factory.mktemp("home")
        make_world(home / "shards" / "world")
        patch.chdir(home)
        run(["fit", *arguments(Path("shards/world"), Path("runs"), steps=3), "--trainer.callbacks=[PredictionVisualization]"])
        return home


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


QUIET = "--trainer.enable_progress_bar=false"


def test_a_run_is_the_folder_its_config_lies_in_from_any_working_directory(home, tmp_path, monkeypatch):
    moved = home / "moved" / "elsewhere"
    shutil.copytree(home / "runs" / "tiny" / "row" / "seed0", moved)
    monkeypatch.chdir(tmp_path)
    own = [f"--config={moved / 'config.yaml'}", f"--ckpt_path={moved / 'checkpoints' / 'last.ckpt'}", QUIET]
    run(["validate", *own])
    assert json.loads((moved / "run.json").read_text())["family"] == "row"
    assert (moved / "boards" / "prediction.png").exists()
    before = files(moved)
    run(["predict", *own])
    assert files(moved) - before == {"latents.parquet"}
    run(["fit", *own])
    assert not list(tmp_path.iterdir())


def test_another_name_or_seed_makes_another_run(home, monkeypatch):
    monkeypatch.chdir(home)
    config = f"--config={home / 'runs' / 'tiny' / 'row' / 'seed0' / 'config.yaml'}"
    for flag, folder in (("--name=tiny/again", "tiny/again/seed0"), ("--seed_everything=3", "tiny/row/seed3")):
        made = run(["fit", config, flag, "--trainer.max_steps=1", "--trainer.callbacks=[]"])
        assert made.run_directory == Path("runs", folder)
        assert (home / "runs" / folder / "trained.json").exists()


def test_settings_that_are_kept_do_not_say_where_a_run_lay(home):
    written = yaml.safe_load((home / "runs" / "tiny" / "row" / "seed0" / "config.yaml").read_text())
    assert written["trainer"]["logger"]["init_args"]["save_dir"] == "runs"
    assert written["checkpoint"]["dirpath"] is None
    assert written["latents"]["path"] is None
    assert written["trainer"]["default_root_dir"] is None


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_trial_writes_nothing(command, home, monkeypatch):
    monkeypatch.chdir(home)
    before = files(home)
    own = home / "runs" / "tiny" / "row" / "seed0"
    words = [f"--config={own / 'config.yaml'}", QUIET, "--trainer.fast_dev_run=1"]
    words += ["--name=tiny/trial"] if command == "fit" else [f"--ckpt_path={own / 'checkpoints' / 'last.ckpt'}"]
    run([command, *words])
    assert files(home) == before


def test_the_last_config_of_a_run_is_its_folder(tmp_path):
    (tmp_path / "config.yaml").write_text("name: a")
    assert given_run([f"--config={tmp_path / 'config.yaml'}"]) is None  # nothing beside it
    (tmp_path / "started.json").write_text("{}")
    assert given_run(["--config=experiments/demo.yaml", f"--config={tmp_path / 'config.yaml'}", "--name=b"]) == tmp_path


def test_shards_are_found_from_the_folders_above(tmp_path):
    (tmp_path / "shards" / "a").mkdir(parents=True)
    places = [Path(), tmp_path]
    assert find_shards("shards/a", places) == str(tmp_path / "shards" / "a")
    assert find_shards({"shards/a": 2, "http://host/b": 1}, places) == {str(tmp_path / "shards" / "a"): 2, "http://host/b": 1}
