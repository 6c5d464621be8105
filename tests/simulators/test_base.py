"""Playing an episode with a stand-in, and what is said of simulators that cannot be used."""

import os
import sys

import numpy as np
import pytest

from lam.io.trust import trust
from lam.simulators import SIMULATORS, find_simulator, record_episode
from tests.simulators.counter import Counter, mixed


def test_frames_states_actions_and_factors_belong_together():
    played = record_episode(Counter(4), np.random.default_rng(0), 20, mixed(0.5))
    assert played.frames.shape == (21, 4, 4, 3) and played.states.shape == (21, 1) and played.actions.shape == (20, 1)
    assert np.array_equal(played.frames[:, 0, 0, 0], played.states[:, 0])
    assert np.array_equal(np.diff(played.states[:, 0]), played.actions[:, 0])
    assert np.array_equal(played.factors["moved"], played.actions[:, 0])
    assert np.array_equal(played.factors["up"], played.actions[:, 0] > 0) and set(played.factors["up"]) == {0, 1}
    before = played.states[:-1, 0].astype(np.float32)
    assert np.array_equal(played.factors["number"], before)
    np.testing.assert_allclose(played.factors["phase"], np.stack([np.cos(before), np.sin(before)], axis=1), atol=1e-6)
    dtypes = (played.actions.dtype, played.states.dtype, played.factors["moved"].dtype, played.factors["up"].dtype)
    assert dtypes == (np.float32, np.float64, np.float32, np.int64)


def test_without_states_all_else_is_the_same(monkeypatch):
    """A simulator that cannot return to a state can be recorded."""
    whole = record_episode(Counter(4), np.random.default_rng(0), 20, mixed(0.5))
    monkeypatch.setattr(Counter, "get_state", None)
    played = record_episode(Counter(4), np.random.default_rng(0), 20, mixed(0.5), keep_states=False)
    assert np.array_equal(played.frames, whole.frames) and np.array_equal(played.actions, whole.actions)
    assert played.states.shape == (0,)


def test_draws_are_a_start_then_an_action_and_a_die_a_step():
    played = record_episode(Counter(4), np.random.default_rng(5), 30, mixed(0.4))
    generator = np.random.default_rng(5)
    assert played.states[0, 0] == 100 + int(generator.integers(2**31)) % 50
    for action in played.actions[:, 0]:
        free, die = generator.integers(1, 3, 1)[0], generator.random()
        assert action == (free if die < 0.4 else -1)


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=rf"No simulator cartpole. There are {', '.join(SIMULATORS)}, gym:ENV "):
        find_simulator("cartpole")
    assert {"pusht", "rooms", "tabletop", "minigrid", "reacher", "rover"} <= set(SIMULATORS)


def test_a_simulator_of_ones_own_is_found_by_its_import_path():
    assert find_simulator("tests.simulators.counter.Counter") is Counter
    trust("nowhere")
    with pytest.raises(ValueError, match=r"No module nowhere for the simulator nowhere.Counter"):
        find_simulator("nowhere.Counter")
    with pytest.raises(ValueError, match=r"No simulator Nothing in tests.simulators.counter"):
        find_simulator("tests.simulators.counter.Nothing")


def test_without_gymnasium_its_environments_say_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    monkeypatch.delitem(sys.modules, "lam.simulators.gym", raising=False)
    with pytest.raises(
        ValueError, match=r"^gym:CartPole-v1 needs the package gymnasium. Install it with pip install 'lam\[sim\]'.$"
    ):
        find_simulator("gym:CartPole-v1")


PACKAGES = {"pusht": "gym_pusht", "minigrid": "minigrid", "reacher": "mujoco", "reacher-tilted": "mujoco", "rover": "mujoco"}
PACKAGES |= dict.fromkeys(("tabletop", "tabletop-tilted", "tabletop-fork"), "pymunk")
BARE = {"rooms", "rooms-fixed"}
"""Simulators that need no package."""


@pytest.fixture
def fresh(monkeypatch):
    """Modules of simulators are imported anew, and forgotten afterwards."""
    for module in ("mujoco_scene", *{where.split(":")[0] for where in SIMULATORS.values()}):
        monkeypatch.setitem(sys.modules, f"lam.simulators.{module}", None)
        monkeypatch.delitem(sys.modules, f"lam.simulators.{module}")
    # what an import sets is undone with what is set here
    monkeypatch.setenv("MUJOCO_GL", "anything")
    monkeypatch.delenv("MUJOCO_GL")


@pytest.mark.parametrize(("name", "package"), PACKAGES.items())
def test_a_missing_package_is_named_with_its_extra(fresh, monkeypatch, name, package):
    for module in [package, *(loaded for loaded in sys.modules if loaded.startswith(package + "."))]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=f"^{name} needs the package {package}. Install it with pip install 'lam\\[sim\\]'.$"):
        find_simulator(name)
    assert {*PACKAGES, *BARE} == set(SIMULATORS)


BROKEN = [
    "raise ImportError('Unable to load EGL library')",
    "raise AttributeError(\"'NoneType' object has no attribute 'glGetError'\")",
]


@pytest.mark.parametrize("broken", BROKEN)
def test_missing_graphics_are_answered_with_debian_packages(fresh, monkeypatch, tmp_path, broken):
    (tmp_path / "mujoco.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    with pytest.raises(ValueError, match=r"MUJOCO_GL=\w*\). On Debian: apt-get install libegl1 .* libosmesa6"):
        find_simulator("rover")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere MuJoCo's own choice draws without a screen")
@pytest.mark.parametrize(("chosen", "used"), [(None, "egl"), ("osmesa", "osmesa")])
def test_the_driver_is_set_before_mujoco_is_imported_unless_chosen(fresh, monkeypatch, tmp_path, chosen, used):
    (tmp_path / "mujoco.py").write_text("import os\nraise ImportError(os.environ['MUJOCO_GL'])")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    if chosen:
        monkeypatch.setenv("MUJOCO_GL", chosen)
    with pytest.raises(ValueError, match=rf"\(MUJOCO_GL={used}\)") as raised:
        find_simulator("rover")
    assert str(raised.value.__cause__) == used == os.environ["MUJOCO_GL"]
