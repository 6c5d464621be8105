"""From a recording of the real Push-T to goals reached in it, by the command line; and what true simulators solve.

LAM_EPISODES=200 makes the last test large enough for a claim; ``-s`` shows its numbers.
"""

import json
import os
import sys

import pandas as pd
import pytest

from data_prep.cli import main
from lam.control.cli import ControlCLI
from lam.control.closed_loop import ClosedLoop
from lam.control.ladder.command import run_ladder
from lam.control.ladder.oracle import run_oracle, solve
from lam.control.planners import CEM
from lam.control.policies import Search
from lam.data.schema import ActionStatistics
from lam.runs.cli import run as run_world
from lam.simulators import find_simulator
from tests.tiny import EXPERIMENTS, arguments

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # pygame imports pkg_resources
]


def simulator_or_skip(name):
    """Its class, if it can be drawn here: packages and graphics are not among those of the default tests."""
    try:
        found = find_simulator(name)
        simulator = found(16)
        simulator.reset(0)
        simulator.render()
    except ValueError as error:
        pytest.skip(f"NO SIMULATOR {name}, this test did not run: {error}")
    return found


SMALL = """
trainer:
  max_steps: 20
  callbacks:
    - class_path: ControllerError
    - class_path: ClosedLoop
      init_args:
        simulator: pusht
        num_episodes: 4
        budget: 4
        search:
          window: 1
          planner:
            class_path: lam.control.planners.CEM
            init_args: {num_samples: 8, num_elites: 2, num_iterations: 2}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    simulator_or_skip("pusht")
    base = tmp_path_factory.mktemp("pusht")
    main(["sim", "pusht", str(base / "shards"), "--train=12", "--val=4", "--frames=5", "--size=16", "--jobs=1"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        run_world(["fit", *arguments(base / "shards", base / "runs", "vq", "pusht/vq@4")])
        run_world(["validate", *arguments(base / "shards", base / "runs", "vq", "pusht/vq@4"), *_checkpoint(base)])
    return base / "runs" / "pusht" / "vq@4" / "seed0"


def _checkpoint(base):
    return [f"--ckpt_path={base / 'runs' / 'pusht' / 'vq@4' / 'seed0' / 'checkpoints' / 'last.ckpt'}"]


@pytest.fixture(scope="module")
def settings(world):
    path = world.parent / "closed.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def acted(world, settings):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:1])
        configs = [f"--config={EXPERIMENTS / 'control.yaml'}", f"--config={settings}"]
        ControlCLI(["fit", *configs, f"--model.run={world}", "--model.labeled_clips=8", "--model.batch_size=8"], **quiet)
    return world / "control" / "clips8"


def test_episodes_are_acted_in_and_stand_beside_recorded_clips(acted):
    metrics = json.loads((acted / "metrics.json").read_text())
    for key in ("success", "success_stay", "success_chance", "success_clone"):
        assert 0 <= metrics[f"eval/closed_loop/{key}@8"] <= 1
    assert metrics["eval/closed_loop/crashed@8"] == 0
    clips = pd.read_parquet(acted / "clips.parquet")
    episodes = clips[clips.metric == "eval/closed_loop/success@8"]
    assert sorted(episodes["clip"]) == [f"episode-{number}" for number in range(4)]
    assert (episodes.position >= 1_000_000_000).all()


def test_the_true_simulator_gets_nearer_and_leaves_a_row(acted, world, settings):
    """Its goals are those of the rows, and it plans with what really happens."""
    found = run_oracle(world.parents[1], settings, CEM(num_samples=24, num_elites=4, num_iterations=4))
    stay = json.loads((acted / "metrics.json").read_text())["eval/closed_loop/distance_stay@8"]
    assert found["eval/closed_loop/distance@all"] < 0.5 * stay
    folder = world.parents[1] / "simulator" / "seed0"
    about, row = (json.loads((place / "run.json").read_text()) for place in (folder, world))
    assert about["family"] == "simulator"
    assert all(about[key] == row[key] for key in ("data_hash", "shared_hash"))
    clips = pd.read_parquet(folder / "clips.parquet")
    acting = pd.read_parquet(acted / "clips.parquet")
    key = "eval/closed_loop/success"
    assert set(clips[clips.metric == f"{key}@all"]["clip"]) == set(acting[acting.metric == f"{key}@8"]["clip"])


def test_the_ladder_acts_in_the_same_episodes_and_true_dynamics_and_cost_come_nearer(acted, world):
    rungs = run_ladder(acted, CEM(num_samples=16, num_elites=4, num_iterations=3), num_episodes=3)
    assert [rung.name for rung in rungs] == [
        *("as it is", "small search", "true dynamics", "true cost", "true dynamics and cost"),
        *("four times the search", "all labels"),
    ]
    assert [rung.candidates for rung in rungs] == [17, 49, 49, 49, 49, 65, 17]
    distances = {rung.name: float(rung.distance.mean()) for rung in rungs}
    assert distances["true dynamics and cost"] < 0.8 * distances["as it is"]
    table = pd.read_csv(acted / "ladder.csv")
    assert (table["episodes"] == 3).all()
    (manifest,) = (world.parents[1] / "episodes").iterdir()  # that of the row, the first of whose episodes these are
    assert len(json.loads(manifest.read_text())["episodes"]) == 4
    (note,) = (rung.note for rung in rungs if rung.name == "true cost")
    assert [part.split(":")[0] for part in note.removeprefix("R² of the numbers read from states: ").split(", ")] == list(
        "01234"
    )


@pytest.mark.parametrize("simulator", ["minigrid", "reacher", "rover"])
def test_the_true_simulator_reaches_nearly_all_goals_and_standing_still_few(simulator):
    found = simulator_or_skip(simulator)
    low, high = found.action_low, found.action_high
    numbers = ((low + high) / 2, (high - low) / 12**0.5, low, high, 0 * low, 0 * low)
    statistics = ActionStatistics(*([*column] for column in numbers))
    episodes = int(os.environ.get("LAM_EPISODES", "12"))
    search = Search(CEM(num_samples=64, num_elites=8, num_iterations=8))
    loop = ClosedLoop(simulator, search, num_episodes=episodes, budget=10)
    metrics = solve(loop, statistics, 5)[0].metrics
    there = metrics["solved_at_start@all"] / metrics["drawn@all"]
    print(f"{simulator}, {episodes} episodes: {metrics}, already there {there}")
    assert there <= 0.3
    assert metrics["success@all"] >= 0.9
