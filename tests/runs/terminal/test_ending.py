"""A training ends with an evaluation, what came of it in a few lines, and a next command that works."""

import json
import shlex

import lightning.pytorch as pl
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import lam.cli
from lam.runs.cli import run
from lam.runs.terminal.summary import error_line
from tests.tiny import arguments


def test_fit_ends_with_its_error_its_folder_and_a_next_command_that_runs(shards, tmp_path, capsys):
    runs = tmp_path / "my runs"
    lam.cli.main(["fit", *arguments(shards, runs), "--trainer.callbacks=[Capacity, Usage, PredictionVisualization]"])
    folder = runs / "tiny" / "row" / "seed0"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (folder / "run.json").exists()
    assert {path.name for path in (folder / "boards").iterdir()} >= {"prediction.png"}

    said = capsys.readouterr().out.splitlines()
    assert f"Held-out error {metrics['val/prediction']:.3f}, where predicting that nothing changes has 1.000" in said[0]
    assert "(12 clips of 12 sources)" in said[0]
    assert any(line.startswith(f"Run folder: {folder} ") and "prediction.png" in line for line in said)
    command = shlex.split(next(line for line in said if line.startswith("Next")).partition(": ")[2])
    assert command[:2] == ["lam", "predict"]
    lam.cli.main(command[1:])
    assert len(pd.read_parquet(folder / "latents.parquet")) > 0

    events = EventAccumulator(str(folder))
    events.Reload()
    assert {tag.partition("/")[0] for tag in events.Tags()["scalars"]} == {"train", "val", "z"}  # and no dots of evaluations
    record = HParamsPluginData.FromString(events.PluginTagToContent("hparams")["_hparams_/session_start_info"])
    values = record.session_start_info.hparams
    assert (values["family"].string_value, values["seed"].string_value) == ("row", "0")
    assert values["capacity/error"].number_value == pytest.approx(metrics["eval/capacity/error"])

    capsys.readouterr()
    last = folder / "checkpoints" / "last.ckpt"
    lam.cli.main(["validate", f"--config={folder / 'config.yaml'}", f"--ckpt_path={last}"])
    validated = capsys.readouterr().out
    assert said[0] in validated
    assert "eval/usage" not in validated  # of all evaluations some two hundred lines


class Passes(pl.Callback):
    """Counts passes over validation clips."""

    count = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.count += 1


@pytest.mark.parametrize(("interval", "count"), [(2, 1), (1, 2), (100, 1)])
def test_no_weights_are_evaluated_twice(interval, count, shards, tmp_path):
    passes = Passes()
    few = ["--trainer.callbacks=[Capacity, Usage]", f"--trainer.val_check_interval={interval}"]
    cli = run(["fit", *arguments(shards, tmp_path, steps=2), *few], callbacks=[passes])
    cli.evaluate()
    assert passes.count == count
    folder = tmp_path / "tiny" / "row" / "seed0"
    written = json.loads((folder / "metrics.json").read_text())
    assert not [key for key in written if key.startswith(("train/", "z/"))]
    run(["validate", f"--config={folder / 'config.yaml'}", f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"])
    assert json.loads((folder / "metrics.json").read_text()) == pytest.approx(written, rel=1e-6, nan_ok=True)


def test_a_fit_without_validation_and_a_trial_end_without_one(shards, tmp_path, capsys):
    lam.cli.main(["fit", *arguments(shards, tmp_path), "--trainer.limit_val_batches=0"])
    lam.cli.main(["fit", *arguments(shards, tmp_path, name="tiny/other"), "--trainer.fast_dev_run=true"])
    assert "Held-out" not in capsys.readouterr().out
    assert not list(tmp_path.rglob("metrics.json"))


def test_an_error_that_is_no_better_than_doing_nothing_is_said_so():
    clips = {0: ("a", "s"), 1: ("b", "s")}
    assert error_line({"val/prediction": 1.0}, clips).endswith("(2 clips of 1 source). It has learned nothing that helps.")
    assert error_line({"val/prediction": 0.5}, clips).endswith("(2 clips of 1 source).")
