"""Episodes of simulators: the recording with a stand-in, and the real ones where their packages are."""

import sys

import numpy as np
import pytest

import data_prep.sim
from data_prep.cli import main
from data_prep.sim import Episodes
from data_prep.sources.base import Recording
from lam.data.index import DataIndex
from lam.simulators import find_simulator
from tests.data_prep.worlds.test_worlds import samples
from tests.simulators.counter import Counter, mixed


@pytest.fixture
def counter(monkeypatch):
    monkeypatch.setattr(data_prep.sim, "find_simulator", lambda env: Counter)


def episode(env, entropy, clip=0, seed=0, split=0, frames=8, size=16):
    recording = Recording("a", "a", 0, {"split": split, "clip": clip}, "train")
    (sample,) = Episodes(env, size, frames, mixed(entropy), seed).samples(recording, pytest.fail)
    return sample


def test_frames_actions_and_factors_belong_together(counter):
    sample = episode("any", 0.5)
    numbers = sample.frames[:, 0, 0, 0].astype(int)
    assert np.diff(numbers).tolist() == sample.actions[:, 0].tolist() == sample.factors["moved"].tolist()
    assert sample.factors["up"].tolist() == (sample.actions[:, 0] > 0).astype(int).tolist()
    assert (sample.factors["up"].dtype, sample.factors["moved"].dtype, sample.actions.dtype) == (
        np.int64,
        np.float32,
        np.float32,
    )
    assert sample.times.tolist() == [frame / 2 for frame in range(8)]


def test_an_episode_is_a_function_of_seed_split_and_number(counter):
    first = episode("any", 0.5, frames=30)
    assert np.array_equal(first.frames, episode("any", 0.5, frames=30).frames)
    for other in ({"clip": 1}, {"split": 1}, {"seed": 1}):
        assert not np.array_equal(first.frames, episode("any", 0.5, frames=30, **other).frames)


def test_policies_take_their_shares_of_the_steps_and_change_no_draw(counter):
    expert, mixed, free = (episode("any", entropy, frames=1001).actions[:, 0] for entropy in (0.0, 0.3, 1.0))
    assert set(expert) == {-1} and set(free) == {1, 2}
    assert (mixed > 0).mean() == pytest.approx(0.3, abs=4 * (0.21 / 1000) ** 0.5)
    assert np.array_equal(mixed[mixed > 0], free[mixed > 0])


def test_shards_hold_the_episodes_and_the_index_all_settings(counter, tmp_path):
    options = ["--train", "3", "--val", "2", "--size", "16", "--frames", "4", "--jobs", "1"]
    options += ["--policy", "{random: 1, expert: 1}"]
    assert main(["sim", "pusht", str(tmp_path / "out"), *options]) == 0
    index = DataIndex.load(tmp_path / "out")
    assert index.settings["env"] == "pusht" and index.settings["policy"] == {"random": 1, "expert": 1}
    aggregations = {name: factor.aggregation for name, factor in index.factors.items()}
    assert aggregations == {"moved": "sum", "up": "max", "number": "first", "phase": "first"}
    assert index.factors["phase"].shape == (2,) and index.action_dim == 1
    assert sorted(samples(tmp_path / "out", "val")) == ["val-000000", "val-000001"]


@pytest.mark.parametrize(("env", "package"), [("pusht", "gym_pusht"), ("minigrid", "minigrid")])
def test_a_missing_package_is_named_with_its_extra(tmp_path, capsys, monkeypatch, env, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"lam.simulators.{env}", raising=False)
    assert main(["sim", env, str(tmp_path / "out")]) == 1
    assert f"{env} needs the package {package}. Install it with pip install 'lam[sim]'." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


WRONG = [("policy", "{random: 0}"), ("policy", "{nobody: 1}"), ("frames", "1"), ("seed", "-1"), ("storage", "states")]


@pytest.mark.parametrize(("option", "value"), WRONG)
def test_a_wrong_option_is_one_line(counter, tmp_path, capsys, option, value):
    assert main(["sim", "pusht", str(tmp_path / "out"), f"--{option}", value]) == 1
    message = capsys.readouterr().err.strip()
    assert "\n" not in message and option in message


@pytest.fixture
def real():
    """The packages, which are not among those for tests: OpenCV is large."""
    pytest.importorskip("gym_pusht", reason="needs pip install 'lam[sim]'")
    pytest.importorskip("minigrid", reason="needs pip install 'lam[sim]'")


SIMULATION = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pygame imports pkg_resources


def center(picture, near):
    """Middle of the pixels of a color, (right, down)."""
    rows, columns = np.nonzero(np.abs(picture.astype(int) - near).sum(axis=2) < 60)
    return np.array([columns.mean(), rows.mean()]) + 0.5


@SIMULATION
@pytest.mark.slow
def test_pusht_moves_as_recorded(real):
    sample = episode("pusht", 1.0, size=128, frames=12)
    assert sample.frames.shape == (12, 128, 128, 3) and sample.actions.shape == (11, 2)
    agent = np.array([center(picture, (65, 105, 225)) for picture in sample.frames])
    factors = np.stack([sample.factors["agent_dx"], sample.factors["agent_dy"]], axis=1)
    np.testing.assert_allclose(np.diff(agent, axis=0), factors, atol=1.0)
    np.testing.assert_allclose(agent[:-1], np.stack([sample.factors["agent_x"], sample.factors["agent_y"]], axis=1), atol=1.0)
    # the T's middle lies below its bar, where the angle says
    turned = sample.factors["block_angle"]
    block = np.stack([sample.factors["block_x"], sample.factors["block_y"]], axis=1)
    blocks = np.array([center(picture, (142, 163, 183)) for picture in sample.frames])[:-1]
    down = np.stack([-turned[:, 1], turned[:, 0]], axis=1) * 40.7 * 128 / 512  # where the middle of both rectangles is
    np.testing.assert_allclose(blocks, block + down, atol=2.0)
    assert np.corrcoef(sample.actions.ravel(), factors.ravel())[0, 1] > 0.8
    assert not (np.abs(sample.frames.astype(int) - (255, 0, 0)).sum(axis=3) < 60).any()  # no cross at the target


@SIMULATION
@pytest.mark.slow
def test_pusht_expert_pushes_the_block(real):
    moved = [np.abs(episode("pusht", 0.0, clip=i).factors["block_dx"]).max() > 0.1 for i in range(8)]
    assert np.mean(moved) > 0.5


@SIMULATION
@pytest.mark.slow
def test_minigrid_moves_as_recorded(real):
    sample = episode("minigrid", 1.0, size=64, frames=40)
    arrow = np.array([center(picture, (255, 0, 0)) for picture in sample.frames])
    factors = np.stack([sample.factors["agent_dx"], sample.factors["agent_dy"]], axis=1)
    # an arrow's middle is up to 1.5 pixels off its cell's, to the side where it looks
    np.testing.assert_allclose(np.diff(arrow, axis=0), factors, atol=3.0)
    assert np.array_equal(sample.actions.argmax(axis=1), sample.factors["move"])
    assert ((sample.factors["agent_turn"] == 0) == (sample.factors["move"] == 2)).all()
    assert (np.abs(factors).sum(axis=1)[sample.factors["move"] != 2] == 0).all() and set(np.abs(factors).ravel()) == {0.0, 8.0}
    with pytest.raises(ValueError, match="multiple of 8"):
        find_simulator("minigrid")(60)


@SIMULATION
@pytest.mark.slow
@pytest.mark.parametrize("env", ["pusht", "minigrid"])
def test_real_episodes_are_the_same_again(real, env):
    one, other = episode(env, 0.5, size=64), episode(env, 0.5, size=64)
    assert np.array_equal(one.frames, other.frames) and np.array_equal(one.actions, other.actions)
    assert not np.array_equal(one.frames, episode(env, 0.5, size=64, clip=1).frames)
