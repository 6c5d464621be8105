"""Plans through a trained controller, from pictures."""

import shutil
import sys

import numpy as np
import pytest
import torch

import lam
from lam.control.planners import CEM
from lam.control.policies import Search
from lam.control.trained import load_controller
from lam.runs.cli import run as run_world
from lam.runs.export import export_run
from tests.control.test_control import control
from tests.tiny import arguments, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    base = tmp_path_factory.mktemp("plan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        run_world(["fit", *arguments(make_world(base / "shards"), base / "runs")])
        control(base / "runs" / "tiny" / "row" / "seed0")
    return base / "runs" / "tiny" / "row" / "seed0"


SEARCH = Search(planner=CEM(num_samples=12, num_elites=3, num_iterations=2), window=2)


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)


def test_actions_lead_from_one_picture_to_another(world, pictures):
    model = lam.load(world)
    actions = lam.plan(model, world / "control" / "clips20", *pictures, search=SEARCH)
    assert actions.shape == (2, 2)  # two transitions of a training window, two numbers of an action
    controller = load_controller(world / "control" / "clips20")
    statistics = controller.action_statistics
    assert (actions >= torch.tensor(statistics.low)).all()
    assert (actions <= torch.tensor(statistics.high)).all()
    assert torch.equal(lam.plan(model, controller, *map(torch.from_numpy, pictures), search=SEARCH), actions)
    assert not torch.equal(lam.plan(model, controller, *pictures, search=SEARCH, seed=1), actions)
    assert lam.plan(model, controller, *pictures, horizon=4, search=SEARCH).shape == (4, 2)


def test_an_exported_model_plans_with_the_controllers_of_its_run(world, pictures, tmp_path):
    export_run(world, tmp_path / "out")
    shutil.copytree(world, tmp_path / "moved")
    ours = lam.plan(lam.load(world), world / "control" / "clips20", *pictures, search=SEARCH)
    theirs = lam.plan(lam.load(tmp_path / "out"), tmp_path / "moved" / "control" / "clips20", *pictures, search=SEARCH)
    assert torch.equal(ours, theirs)


def test_what_cannot_be_planned_is_said(world, pictures, tmp_path):
    model, folder = lam.load(world), world / "control" / "clips20"
    first, goal = pictures
    with pytest.raises(FileNotFoundError, match="holds no controllers"):
        lam.plan(model, tmp_path, first, goal)
    controller = load_controller(folder)
    with pytest.raises(ValueError, match=r"Got goal of shape \(2, 20, 20, 3\), expected one picture"):
        lam.plan(model, controller, first, pictures)
    with pytest.raises(TypeError, match="Got a list for first"):
        lam.plan(model, controller, first.tolist(), goal)
    with pytest.raises(ValueError, match="expected uint8 from 0 to 255"):
        lam.plan(model, controller, first / 255, goal)
    with pytest.raises(ValueError, match="Got horizon 0"):
        lam.plan(model, controller, first, goal, horizon=0)
    model.world.copy_error += 1
    with pytest.raises(ValueError, match="belongs to another world model"):
        lam.plan(model, controller, first, goal)
