"""From a trained world model to controllers, plans and files, by the command line."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer

import lam.control.closed_loop
from lam.control.cli import ControlCLI
from lam.control.planners import GradientDescent
from lam.control.planning import Planning, deviations, displacement_dims
from lam.control.policies import Search
from lam.control.sweep import Controllers, make_controllers
from lam.control.training import ControlledModel, LabeledBatches
from lam.data.schema import ActionField
from lam.evals.base import Evaluation
from lam.runs.cli import run as run_world
from lam.runs.errors import SettingsError
from lam.runs.load import load_run
from lam.runs.sweep.rows import RunSpec
from lam.runs.upgrade import upgrade
from tests.tiny import EXPERIMENTS, arguments, make_world

SMALL = """
trainer:
  max_steps: 30
  callbacks:
    - class_path: ControllerError
    - class_path: Planning
      init_args:
        max_clips: 6
        ablation_clips: 4
        search:
          window: 2
          planner:
            class_path: lam.control.planners.CEM
            init_args: {num_samples: 12, num_elites: 3, num_iterations: 2}
          latent: {num_samples: 12, num_elites: 3, num_iterations: 2}
"""


def control(folder, *more, subcommand="fit"):
    small = folder.parent / "small.yaml"
    small.write_text(SMALL)
    configs = [f"--config={EXPERIMENTS / 'control.yaml'}", f"--config={small}"]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return ControlCLI(
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


def test_heads_of_earlier_releases_load(world, controlled):
    """Their keys had other names."""
    checkpoint = torch.load(world / "control" / "clips20" / "checkpoints" / "last.ckpt", weights_only=True)
    saved = checkpoint["state_dict"]
    renamed = [(".action_decoder.", ".reader."), (".blind_action_decoder.", ".blind_reader.")]
    renamed += [(".attention.", ".look."), (".positions", ".places")]
    former = {}
    for key, value in saved.items():
        for now, before in renamed:
            key = key.replace(now, before)
        former[key] = value
    assert "heads.reader.look.places" in former and "heads.blind_reader.net.0.0.weight" in former
    model = ControlledModel(world, labeled_clips=20, batch_size=32)
    checkpoint["state_dict"] = dict(former)
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])
    assert all(torch.equal(model.state_dict()[key], value) for key, value in saved.items())
    missing = next(iter(former))
    checkpoint["state_dict"] = {key: value for key, value in former.items() if key != missing}
    model.on_load_checkpoint(checkpoint)
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(checkpoint["state_dict"])


def test_the_label_budget_is_kept(world):
    model = ControlledModel(world, labeled_clips=7)
    actions, states, z = model.encode_labeled_clips().tensors
    assert len(actions) == len(states) == len(z) == 7
    assert (actions.shape[1], states.shape[1], z.shape[1]) == (2, 3, 2)
    assert model.heads["controller"].output_std > 0


def test_latents_are_cloned_from_clips_whose_actions_are_not_read(world, monkeypatch):
    model, asked = ControlledModel(world, labeled_clips=6, unlabeled_clips=12), []
    sample = model.data.training_sample
    monkeypatch.setattr(model.data, "training_sample", lambda n, labels=False: asked.append((n, labels)) or sample(n, labels))
    model.on_fit_start()
    assert asked == [(6, True), (12, False)]
    states, latents = model.unlabeled.tensors
    assert states.shape[:2] == (12, model.horizon + 1) and latents.shape[:2] == (12, model.horizon)
    alone = next(iter(LabeledBatches(model.labeled, 4, seed=3, first=5)))
    beside = next(iter(LabeledBatches(model.labeled, 4, seed=3, first=5, unlabeled=model.unlabeled)))
    assert all(torch.equal(one, other) for one, other in zip(alone, beside, strict=False))
    monkeypatch.setattr(model, "log", lambda *_: None)
    model.training_step(beside, 0).backward()
    assert all(parameter.grad is not None for parameter in model.latent_cloning.parameters())
    inferred = model.world.apply_bottleneck(model.infer(states)).z
    torch.testing.assert_close(inferred.flatten(2), latents)
    assert model.clone_latents(states[:, 0], states[:, -1]).shape == inferred.shape
    assert "latent_clone" not in ControlledModel(world, labeled_clips=6).heads


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
    planning = Planning(Search(GradientDescent(num_starts=2, num_iterations=3)), max_clips=4)
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
    assert displacement_dims(fields) == [0, 1, 2, 4]
    assert displacement_dims(fields[1:2]) == [0]  # targets alone, as LeRobot has them: their changes add up
    with pytest.raises(ValueError, match=r"steering \(mean\).*--trainer.callbacks '\[ControllerError\]'"):
        displacement_dims([ActionField("steering", 1, "mean"), ActionField("pressed", 1, "max")])


def test_absolute_actions_deviate_as_the_changes_that_they_ask_for():
    """From whatever place both begin at, going to targets is making the changes between them."""
    generator = torch.Generator().manual_seed(0)
    plan, truth = torch.randn(2, 5, 4, 3, generator=generator)
    start = torch.randn(5, 1, 3, generator=generator)
    changes = deviations(plan.diff(dim=1, prepend=start), truth.diff(dim=1, prepend=start))
    targets = deviations(plan, truth, torch.tensor([True, True, True]))
    for key, value in changes.items():
        torch.testing.assert_close(targets[key], value)
    mixed = deviations(plan, truth, torch.tensor([True, False, False]))["error"]
    alone = (plan - truth)[:, -1, 0].abs() + (plan - truth)[..., 1:].sum(dim=1).abs().sum(dim=-1)
    torch.testing.assert_close(mixed, alone)


def recorded_as(aggregation: str, folder: Path) -> Path:
    """Shards whose actions are said to be something else."""
    made = make_world(folder / aggregation)
    index = json.loads((made / "index.json").read_text())
    index["actions"] = [field | {"join": aggregation} for field in index["actions"]]
    (made / "index.json").write_text(json.dumps(index))
    return made


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("noisy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        settings = arguments(make_world(base / "world"), base / "runs", steps=1)
        return run_world(["fit", *settings, "--trainer.callbacks=[]"]).run_directory


def test_plans_of_absolute_actions_are_judged_and_what_cannot_be_is_refused_before_training(noisy, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    done = control(noisy, f"--model.shards={recorded_as('last', tmp_path)}", "--trainer.max_steps=1", "--seed_everything=0")
    metrics = json.loads((done.run_directory / "metrics.json").read_text())
    assert metrics["eval/planning/error@20"] > 0
    assert metrics["eval/planning/normalized@20"] == pytest.approx(
        metrics["eval/planning/error@20"] / metrics["eval/planning/error_stay@20"]
    )
    shutil.rmtree(done.run_directory)

    def trained(*_):
        raise AssertionError("heads were trained before anybody was told")

    monkeypatch.setattr(ControlledModel, "training_step", trained)
    with pytest.raises(ValueError, match=r"command \(mean\)"):
        control(noisy, f"--model.shards={recorded_as('mean', tmp_path)}", "--trainer.max_steps=1")


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    base = tmp_path_factory.mktemp("actions")
    heads = [f"--model.inverse_model.{size}" for size in ("width=16", "depth=1", "heads=2")]
    given = arguments(make_world(base / "shards"), base / "runs", "actions", "tiny/actions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        run_world(["fit", *(one for one in given if one not in heads)])
        return base / "runs" / "tiny" / "actions" / "seed0", control(base / "runs" / "tiny" / "actions" / "seed0")


def test_the_model_of_recorded_actions_is_asked_itself(labeled):
    """Its controller is exact, so it costs nothing; what is imagined is what recorded actions say."""
    folder, controlled = labeled
    metrics = json.loads((folder / "control" / "clips20" / "metrics.json").read_text())
    assert metrics["eval/controller/ratio@20"] == pytest.approx(1, rel=1e-5)
    assert metrics["eval/controller/ratio_blind@20"] == pytest.approx(1, rel=1e-5)
    model, actions = controlled.model, torch.randn(4, 2)
    statistics = model.data.index.action_statistics
    scaled = (actions - torch.tensor(statistics.mean)) / torch.tensor(statistics.std)
    z = model.run_controller("controller", actions, torch.zeros(4, 4, 192))
    torch.testing.assert_close(z[:, 0, :2], scaled)
    assert not z[:, 0, 2:].any()
    assert ControlledModel(folder, labeled_clips=6, unlabeled_clips=12).unlabeled_clips == 0  # its latents are labels


def test_cloning_is_the_same_whatever_the_bottleneck(tmp_path, monkeypatch):
    """Its beginning, its batches and its clipping are its own."""
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    shards, clones = make_world(tmp_path / "shards"), []
    for family in ("noisy", "vq"):
        run_world(["fit", *arguments(shards, tmp_path / "runs", family, f"tiny/{family}")])
        found = control(tmp_path / "runs" / "tiny" / family / "seed0", "--trainer.max_steps=5")
        clones.append(found.model.heads["clone"].state_dict())
    assert all(torch.equal(clones[0][key], clones[1][key]) for key in clones[0])


def test_a_sweep_makes_what_is_missing_and_nothing_twice(world, controlled, monkeypatch):
    """The row is where the fixture trained it: runs/<setting>/<row>/seed<k> is all that a sweep knows."""
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    folder = world / "control" / "clips20"
    small = world.parent / "small.yaml"
    monkeypatch.setattr(
        Controllers,
        "arguments",
        lambda self, *extra: [
            *(f"--config={config}" for config in (EXPERIMENTS / "control.yaml", small)),
            *(f"--model.run={world}", f"--model.labeled_clips={self.labels}", "--model.batch_size=32", *extra),
        ],
    )
    row = RunSpec("tiny", "row", "", "", 0)
    before = (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert make_controllers(Controllers(row, 20)) == "up to date"
    fewer = world.parent / "fewer.yaml"
    fewer.write_text(SMALL.replace("max_clips: 6", "max_clips: 5"))
    assert make_controllers(Controllers(row, 20), (f"--config={fewer}",)).startswith("validated again")
    assert (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    assert make_controllers(Controllers(row, 20), ("--model.learning_rate=1e-4", "--trainer.max_steps=2")).startswith("trained")
    assert (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns > before


BEFORE = """
trainer:
  callbacks:
    - class_path: lam.control.error.ControllerError
    - class_path: Planning
      init_args:
        alternatives: 4
        numbers: [0]
        at_a_time: 3
        search:
          window: 2
          at_once: 7
          planner: {class_path: lam.control.planners.CEM, init_args: {candidates: 12, elites: 3, turns: 2, smallest_std: 0.1}}
          latent: {candidates: 12, elites: 3, turns: 2}
    - class_path: ClosedLoop
      init_args: {simulator: pusht, episodes: 4, every: 2, search: {planner: {class_path: lam.control.planners.Stay}}}
    - class_path: lam.control.plan_board.PlanVisualization
    - class_path: EpisodeBoard
"""
NOW = """
trainer:
  callbacks:
    - class_path: lam.control.controller_error.ControllerError
    - class_path: Planning
      init_args:
        ablation_clips: 4
        displacement_dims: [0]
        batch_size: 3
        search:
          window: 2
          chunk_size: 7
          planner:
            class_path: lam.control.planners.CEM
            init_args: {num_samples: 12, num_elites: 3, num_iterations: 2, min_std: 0.1}
          latent: {num_samples: 12, num_elites: 3, num_iterations: 2}
    - class_path: ClosedLoop
      init_args:
        simulator: pusht
        num_episodes: 4
        replan_every: 2
        search: {planner: {class_path: lam.control.planners.MeanAction}}
    - class_path: lam.control.viz.PlanVisualization
    - class_path: lam.control.viz.EpisodeVisualization
"""


def test_settings_of_earlier_releases_are_understood(monkeypatch):
    assert upgrade(yaml.safe_load(BEFORE)) == yaml.safe_load(NOW) == upgrade(yaml.safe_load(NOW))
    monkeypatch.setattr(lam.control.closed_loop, "find_simulator", lambda name: None)  # its package may be missing
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--callbacks", type=list[Evaluation])
    parser.instantiate_classes(parser.parse_object(upgrade(yaml.safe_load(BEFORE))["trainer"]))


def test_what_a_sweep_types():
    typed = Controllers(RunSpec("pusht", "vq", "num_codes", "16", 2), 64).arguments("--x=1")
    assert typed[:2] == ["--config=experiments/control.yaml", "--config=experiments/control/pusht.yaml"]
    assert {"--model.run=runs/pusht/vq@16/seed2", "--model.labeled_clips=64", "--seed_everything=2", "--x=1"} < set(typed)
    assert "--config=experiments/control/arm.yaml" not in Controllers(RunSpec("arm", "none", "", "", 0), 64).arguments()
    for setting, own in (("quality-0.3", "pusht"), ("rooms", "rooms")):  # its own, or that of what it extends
        typed = Controllers(RunSpec(setting, "none", "", "", 0), 64).arguments()
        assert [one for one in typed if one.startswith("--config=experiments/control/")] == [
            f"--config=experiments/control/{own}.yaml"
        ]


def test_controllers_can_learn_and_plan_on_another_set_than_the_world_model(world, tmp_path):
    other = make_world(tmp_path / "shards", seed=5)
    own, moved = ControlledModel(world, labeled_clips=6), ControlledModel(world, labeled_clips=6, shards=other)
    assert moved.data.index.digest != own.data.index.digest
    assert not torch.equal(moved.encode_labeled_clips().tensors[0], own.encode_labeled_clips().tensors[0])
    for key, value in own.world.state_dict().items():  # what the encoder took from the world's own set included
        assert torch.equal(value, moved.world.state_dict()[key]), key
