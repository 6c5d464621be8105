"""Loggers: none, several, a table that goes on, and those of other packages, by a flag each; the run's folder is the same."""

import csv
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import lightning.pytorch.loggers.mlflow
import lightning.pytorch.loggers.wandb
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lam.runs.cli import run
from lam.runs.errors import explain
from lam.viz.curves import CurveLogger, CurveTable
from tests.tiny import arguments

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")


def fit(shards: Path, runs: Path, *more: str, steps: int = 2):
    return run(["fit", *arguments(shards, runs, steps=steps), "--trainer.callbacks=[]", *more])


def validate(folder: Path):
    words = [f"--config={folder / 'config.yaml'}", f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"]
    return run(["validate", *words, "--trainer.enable_progress_bar=false"])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_without_a_logger_a_run_has_its_folder_and_is_a_row(shards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = ["--trainer.logger=false", f"--trainer.default_root_dir={tmp_path / 'elsewhere'}"]
    folder = fit(shards, tmp_path / "unused", *more).run_directory
    assert folder == tmp_path / "elsewhere" / "tiny" / "row" / "seed0"
    validate(folder)
    assert {"config.yaml", "started.json", "trained.json", "run.json", "metrics.json", "checkpoints"} <= {
        path.name for path in folder.iterdir()
    }
    assert not list(folder.glob("events*"))
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_a_table_is_added_to_the_curves_and_goes_on_in_later_processes(shards, tmp_path):
    made = fit(shards, tmp_path, "--trainer.logger+=CSVLogger", steps=4)
    folder = made.run_directory
    assert [type(logger) for logger in made.trainer.loggers] == [CurveLogger, CurveTable]
    assert {Path(logger.log_dir) for logger in made.trainer.loggers} == {folder}
    before = rows(folder)
    assert [row["step"] for row in before if row["train/prediction"]] == ["0", "1", "2", "3"]
    validate(folder)
    assert rows(folder) == before
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("train/prediction")] == [0, 1, 2, 3]
    with (folder / "metrics.csv").open("a") as file:
        file.write("0.1,4")  # a kill within a line
    table = CurveTable(str(folder.parent), "", folder.name)
    table.log_metrics({"train/prediction": 0.5, "train/new": 2.0}, 4)
    table.save()
    after = rows(folder)
    assert [{key: value for key, value in row.items() if key in before[0]} for row in after[:-1]] == before
    assert (after[-1]["step"], after[-1]["train/new"], after[0]["train/new"]) == ("4", "2.0", "")


@pytest.mark.parametrize("flag", ["--trainer.logger=CSVLogger", "--trainer.logger=[CurveLogger,CSVLogger]"])
def test_a_table_alone_and_in_a_list(flag, shards, tmp_path):
    folder = fit(shards, tmp_path, flag).run_directory
    assert folder == tmp_path / "tiny" / "row" / "seed0"
    assert len(rows(folder)) == 2
    assert bool(list(folder.glob("events*"))) == ("CurveLogger" in flag)


MISSING = {"WandbLogger": lightning.pytorch.loggers.wandb._WANDB_AVAILABLE}
MISSING["MLFlowLogger"] = lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE


@pytest.mark.parametrize(("name", "package"), [("WandbLogger", "wandb"), ("MLFlowLogger", "mlflow")])
def test_a_package_that_is_missing_is_named_with_how_to_install_it(name, package, shards, tmp_path):
    if MISSING[name]:
        pytest.skip(f"{package} is installed")
    with pytest.raises((ModuleNotFoundError, ValueError)) as caught:
        fit(shards, tmp_path, f"--trainer.logger+={name}")
    said = explain(caught.value)
    assert f"pip install -U '{package}" in said and "\n" not in said
    assert not (tmp_path / "tiny" / "row" / "seed0").exists()


def test_weights_and_biases_is_told_the_name_and_the_folder(shards, tmp_path, monkeypatch):
    told: dict[str, object] = {}
    logged: list[dict[str, float]] = []
    experiment = SimpleNamespace(
        config=SimpleNamespace(update=lambda *_, **__: None),
        log=lambda metrics, **_: logged.append(dict(metrics)),
        define_metric=lambda *_, **__: None,
        name="row",
        id="id",
        watch=lambda *_, **__: None,
    )

    def init(**settings: object) -> SimpleNamespace:
        told.update(settings)
        return experiment

    stub = ModuleType("wandb")
    stub.run, stub.init, stub.Artifact = None, init, object
    run_module = ModuleType("wandb.wandb_run")
    run_module.Run = SimpleNamespace
    lib = ModuleType("wandb.sdk.lib")
    lib.RunDisabled = type("RunDisabled", (), {})
    for module in (stub, ModuleType("wandb.sdk"), run_module, lib):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(lightning.pytorch.loggers.wandb, "_WANDB_AVAILABLE", True)
    made = fit(shards, tmp_path, "--trainer.logger=WandbLogger")
    folder = tmp_path / "tiny" / "row" / "seed0"
    assert made.run_directory == folder
    assert (told["name"], told["dir"], told["id"]) == ("tiny/row/seed0", str(folder), None)
    assert any("train/prediction" in row for row in logged)
    assert (folder / "checkpoints" / "last.ckpt").exists()


def test_mlflow_is_told_the_name_and_keeps_all_runs_in_one_place(shards, tmp_path, monkeypatch):
    told: dict[str, object] = {}

    class Told(lightning.pytorch.loggers.mlflow.MLFlowLogger):
        def __init__(
            self, experiment_name: str = "lightning_logs", run_name: str | None = None, save_dir: str = "./mlruns"
        ) -> None:
            told.update(run_name=run_name, save_dir=save_dir)

        experiment = property(lambda self: None)
        name = property(lambda self: "")
        version = property(lambda self: "")
        save_dir = property(lambda self: told["save_dir"])

        def log_metrics(self, metrics, step=None):
            told["metrics"] = metrics

        def log_hyperparams(self, *_):
            pass

        def log_graph(self, *_):
            pass

        def save(self):
            pass

        def finalize(self, status="success"):
            pass

        def after_save_checkpoint(self, callback):
            pass

    made = fit(shards, tmp_path, f"--trainer.logger+={__name__}.{add(Told)}")
    assert [type(logger) for logger in made.trainer.loggers] == [CurveLogger, Told]
    assert (told["run_name"], told["save_dir"]) == ("tiny/row/seed0", str(tmp_path / "mlruns"))
    assert "train/prediction" in told["metrics"]


def add(kind: type) -> str:
    """Make a class known by its name in this module, as settings name it."""
    globals()[kind.__name__] = kind
    kind.__qualname__ = kind.__name__
    return kind.__name__
