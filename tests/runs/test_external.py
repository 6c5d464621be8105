"""A model that was not built here goes through every evaluation and gets a row beside ours."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch

from lam.models.external import Adapter, ExternalModel
from lam.report import report
from lam.runs.errors import SettingsError
from lam.runs.external import evaluate_external
from tests.tiny import EXPERIMENTS, arguments, make_world

ADAPTER = """
import torch
from lam.models.external import Adapter


class MeanChange(Adapter):
    latent_dim = 3

    def __init__(self, gain: float = 1.0):
        super().__init__()
        self.gain = gain

    def infer(self, frames):
        return (frames[:, 1:] - frames[:, :-1]).mean(dim=(-2, -1))

    def predict(self, frames, z):
        return frames + self.gain * z[..., None, None]


class Signs(MeanChange):
    num_codes = 8

    def infer(self, frames):
        return 0.02 * super().infer(frames).sign()

    def codes(self, z):
        return (z > 0).long()


class Mistaken(MeanChange):
    def infer(self, frames):
        return super().infer(frames)[:, :, :2]


class Peeks(MeanChange):
    def infer(self, frames):
        return super().infer(frames) + frames[:, -1:].mean(dim=(-2, -1))
"""


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    monkeypatch.chdir(EXPERIMENTS.parent)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "foreign_adapters.py").write_text(ADAPTER)
    sys.path.insert(0, str(folder))
    yield make_world(folder / "shards"), folder / "runs"
    sys.path.remove(str(folder))


def judged(world, adapter, name, *more):
    shards, runs = world
    ours = arguments(shards, runs, name=f"tiny/{name}")
    settings = [word for word in ours if not word.startswith("--config")]
    evaluate_external("demo", *settings, "--adapter", f"foreign_adapters.{adapter}", *more, enable_progress_bar=False)
    return json.loads((runs / "tiny" / name / "seed0" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def mean(world):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        patch.chdir(EXPERIMENTS.parent)
        return judged(world, "MeanChange", "mean")


def test_the_error_is_the_models_own(world, mean):
    """Predicting the mean change leaves what changed around it: by brute force over the validation clips."""
    from lam.data.datamodule import ClipDataModule

    data = ClipDataModule(str(world[0]), frames=3, batch_size=4, num_workers=0)
    data.setup("fit")
    unit, errors = [], []
    for clip in data.training_sample(1024):
        frames = clip.frames.double() / 255
        unit.append((frames[:, 1:] - frames[:, :-1]).square().mean(dim=(1, 2, 3, 4)))
    for clip in data.val_dataloader():
        frames = clip.frames.double() / 255
        change = frames[:, 1:] - frames[:, :-1]
        errors.append((change - change.mean(dim=(-2, -1), keepdim=True)).square().mean(dim=(1, 2, 3, 4)))
    expected = torch.cat(errors).mean() / torch.cat(unit).mean()
    assert mean["eval/capacity/error"] == pytest.approx(expected.item(), rel=1e-3)
    assert mean["eval/future/passed"] == 1
    assert mean["eval/usage/collapsed"] == 0  # its latents are small numbers, not dead ones
    assert "eval/usage/codes_used" not in mean


def test_every_evaluation_ran_and_left_values_of_clips(world, mean):
    names = {key.split("/")[1] for key in mean if key.startswith("eval/")}
    assert {"capacity", "rate", "probe", "usage", "leakage", "transfer", "future"} <= names
    clips = pd.read_parquet(world[1] / "tiny" / "mean" / "seed0" / "clips.parquet")
    error = clips[clips.metric == "eval/capacity/error"].value
    assert error.mean() == pytest.approx(mean["eval/capacity/error"])


def test_discrete_models_say_their_codes(world):
    metrics = judged(world, "Signs", "signs")
    assert metrics["eval/rate/bits_capacity"] == pytest.approx(3)
    assert 0 < metrics["eval/rate/bits_nominal"] <= 3


def test_an_adapter_that_peeks_is_caught(world):
    assert judged(world, "Peeks", "peeks")["eval/future/passed"] == 0


def test_a_wrong_shape_is_said(world):
    with pytest.raises(ValueError, match=r"Mistaken.infer returned shape \(4, 2, 2\), expected \(4, 2, 3\)"):
        judged(world, "Mistaken", "mistaken")


def test_the_command_as_it_is_typed_makes_another_row_of_other_arguments(world, mean):
    settings = [word for word in arguments(*world, name="tiny/mean@half") if not word.startswith("--config")]
    adapter = ["--adapter", "foreign_adapters.MeanChange", "--adapter.gain=0.5"]
    subprocess.run(
        [sys.executable, "-m", "lam", "external", "demo", *settings, *adapter],
        env=os.environ | {"PYTHONPATH": str(world[0].parent)},
        check=True,
    )
    runs = world[1] / "tiny"
    half, one = (json.loads((runs / name / "seed0" / "run.json").read_text()) for name in ("mean@half", "mean"))
    assert half["config_hash"] != one["config_hash"]
    assert half["shared_hash"] == one["shared_hash"]


def test_it_stands_in_the_table_beside_rows_that_were_trained(world, mean):
    from lam.runs.cli import run

    shards, runs = world
    for family in ("none", "identity"):
        cli = run(["fit", *arguments(shards, runs, family, f"tiny/{family}")])
        cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
        cli.after_validate()
    card = runs / "tiny" / "mean" / "seed0" / "card.json"
    lines = report(runs / "tiny", cards=[card]).text.splitlines()
    assert {"none", "identity", "mean"} <= {line.split()[0] for line in lines if line.strip()}
    assert "| mean " in (runs / "tiny" / "report" / "submitted.md").read_text()  # its card is of the same data and clips


def test_it_does_not_overwrite_a_trained_row(world):
    taken = world[1] / "tiny" / "taken" / "seed0"
    taken.mkdir(parents=True)
    (taken / "trained.json").write_text("{}")
    with pytest.raises(SettingsError, match="trained here"):
        judged(world, "MeanChange", "taken")


def test_only_where_states_are_pixels():
    from lam.encoders import Autoencoder

    class Silent(Adapter):
        latent_dim = 1

        def infer(self, frames):
            return frames[:, 1:, 0, 0, :1]

        def predict(self, frames, z):
            return frames

    encoder = Autoencoder.__new__(Autoencoder)
    with pytest.raises(ValueError, match="Autoencoder"):
        ExternalModel(Silent(), encoder, torch.nn.MSELoss(reduction="none"))
