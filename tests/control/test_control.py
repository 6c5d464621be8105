"""From a trained world model to controllers, plans and files, by the command line."""

import json
import sys

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

from lam.cli import SettingsError
from lam.cli import run as run_world
from lam.control.cli import run
from lam.control.planners import GradientDescent
from lam.control.planning import Planning, additive, deviations
from lam.control.policies import Search
from lam.control.training import ControlledModel, load_run
from lam.data.schema import ActionField
from tests.tiny import EXPERIMENTS, arguments, make_world

SMALL = """
trainer:
  max_steps: 30
  callbacks:
    - class_path: ControllerError
    - class_path: Planning
      init_args:
        max_clips: 6
        alternatives: true
        search:
          window: 2
          planner:
            class_path: lam.control.planners.CEM
            init_args: {candidates: 12, elites: 3, turns: 2}
          latent: {candidates: 12, elites: 3, turns: 2}
"""


def control(folder, *more, subcommand="fit"):
    small = folder.parent / "small.yaml"
    small.write_text(SMALL)
    configs = [f"--config={EXPERIMENTS / 'control.yaml'}", f"--config={small}"]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return run(
        [subcommand, *configs, f"--model.run={folder}", "--model.labeled_clips=20", "--model.batch_size=32", *more], **quiet
    )


@pytest.fixture(scope="module", params=["noisy", "vq"])
def world(request, tmp_path_factory):
    base = tmp_path_factory.mktemp("control")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        run_world(["fit", *arguments(make_world(base / "shards"), base / "runs", request.param)])
    return base / "runs" / "tiny" / "row" / "seed0"


@pytest.fixture(scope="module")
def controlled(world):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        return control(world)


def test_a_run_comes_back_as_it_was(world):
    model, data = load_run(world)
    saved = torch.load(world / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in saved.items())
    assert data.index.action_dim == 2


def test_files_and_keys(world, controlled):
    folder = world / "control" / "clips20"
    metrics = json.loads((folder / "metrics.json").read_text())
    for key in ("error", "inferred", "ratio", "blind", "ratio_blind", "movement", "read"):
        assert any(name.startswith(f"eval/controller/{key}@20") for name in metrics), key
    for key in ("error", "ate", "rpe"):
        assert all(
            f"eval/planning/{key}{which}@20" in metrics
            for which in ("", "_stay", "_chance", "_clone", "_latent", "_blind", "_shuffled")
        )
    assert metrics["eval/controller/ratio@20"] == pytest.approx(
        metrics["eval/controller/error@20"] / metrics["eval/controller/inferred@20"]
    )
    clips = pd.read_parquet(folder / "clips.parquet")
    planned = clips[clips.metric == "eval/planning/error@20"]
    assert len(planned) == 6
    assert planned.value.mean() == pytest.approx(metrics["eval/planning/error@20"])
    curves = json.loads((folder / "curves.json").read_text())
    assert len(curves["planning"]["trace"]) == 2
    assert (folder / "config.yaml").exists()


def test_only_heads_learn_and_only_they_are_saved(world, controlled):
    saved = torch.load(world / "control" / "clips20" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert saved
    assert all(key.startswith("heads.") for key in saved)
    before, _ = load_run(world)
    after = controlled.model.world.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.state_dict().items())
    assert not controlled.model.world.training


def test_saved_heads_give_the_same_numbers(world, controlled, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    folder = world / "control" / "clips20"
    before = (folder / "metrics.json").read_text()
    control(world, f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}", "--verbose=false", subcommand="validate")
    assert (folder / "metrics.json").read_text() == before


def test_the_label_budget_is_kept(world):
    model = ControlledModel(world, labeled_clips=7)
    actions, states, z = model.label().tensors
    assert len(actions) == len(states) == len(z) == 7
    assert (actions.shape[1], states.shape[1], z.shape[1]) == (2, 3, 2)
    assert model.heads["controller"].output_std > 0


def test_what_stands_in_the_way_is_said(world, controlled, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    with pytest.raises(FileExistsError, match="already holds controllers"):
        control(world)
    with pytest.raises(SettingsError, match="needs trained heads"):
        control(world, subcommand="validate")
    with pytest.raises(ValueError, match="at least one labeled clip"):
        ControlledModel(world, labeled_clips=0)
    with pytest.raises(FileNotFoundError, match="not the folder of a finished run"):
        load_run(tmp_path)


def test_a_planner_with_gradients_where_lightning_validates(controlled):
    model = controlled.model
    planning = Planning(Search(GradientDescent(starts=2, turns=3)), max_clips=4)
    trainer = Trainer(
        accelerator="cpu", logger=False, callbacks=[planning], enable_progress_bar=False, enable_model_summary=False
    )
    trainer.validate(model, verbose=False)
    assert planning.results.metrics["error@20"] > 0
    assert len(planning.results.curves["trace"]) == 3


def test_a_killed_start_is_no_obstacle(world, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    folder = world / "control" / "clips3"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("left over")
    control(world, "--model.labeled_clips=3", "--trainer.max_steps=1")
    assert (folder / "run.json").exists()


def test_deviations_by_hand():
    plan = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    truth = torch.tensor([[[0.0, 0.0], [1.0, 2.0]]])
    found = deviations(plan, truth)
    assert found["error"].item() == pytest.approx(3.0)  # |2 - 1| + |0 - 2|
    assert found["ate"].item() == pytest.approx(((1 + (1 + 4)) / 2) ** 0.5)
    assert found["rpe"].item() == pytest.approx(((1 + 4) / 2) ** 0.5)


def test_only_what_adds_up_is_a_displacement():
    fields = [ActionField("xyz", 3, "sum"), ActionField("gripper", 1, "last"), ActionField("yaw", 1, "sum")]
    assert additive(fields) == [0, 1, 2, 4]
    with pytest.raises(ValueError, match="gripper"):
        additive(fields[1:2])
