"""Simulators: steps and pictures a second, and how hard their goals are.

Goals are those of closed loops: so many actions of the recording policy ahead. Of the drawn pairs of start and goal some are
solved at the start; of the others ten random actions pass a share on their way, which is what chance reaches.

PYTHONPATH=. python benchmarks/simulators.py rooms rooms-fixed
PYTHONPATH=. python benchmarks/simulators.py pusht tabletop --policy "{random: 1, near: 1, expert: 1}" --episodes 200
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import yaml

from lam.control.episodes import EpisodeRecipe, EpisodeRunner, Manifest, SimulatorHandle, prepare_task
from lam.simulators import Simulator, draw_action, find_simulator
from lam.simulators.rooms import Rooms
from lam.simulators.tabletop import Tabletop

BUDGET = 10
"""Random actions that are taken toward each goal."""
PATIENCE = 20
"""Actions within which an expert is to have done its instruction."""


def rate(simulator: Simulator, policy: dict[str, float], after: Callable[[], object], seconds: float = 2.0) -> float:
    """Return steps a CPU second, each followed by something, over episodes of 16 actions."""
    generator, steps, episode, began = np.random.default_rng(0), 0, 0, time.process_time()
    while time.process_time() - began < seconds:
        simulator.reset(episode)
        for _ in range(16):
            simulator.step(draw_action(simulator, generator, policy))
            after()
        steps, episode = steps + 16, episode + 1
    return steps / (time.process_time() - began)


def describe_goals(name: str, handle: SimulatorHandle, policy: dict[str, float], horizon: int, episodes: int) -> str:
    """Say how many goals are reached at the start and by chance, and of rooms how many lie beyond the door."""
    manifest = Manifest(EpisodeRecipe(name, 1, horizon, policy), ()).extended(handle, episodes)
    generator, passed, beyond = np.random.default_rng(0), 0, 0
    for episode in manifest.episodes:
        assert episode.start is not None and episode.goal is not None
        runner = EpisodeRunner(handle, prepare_task(handle, episode.start, episode.goal))
        with handle.use(runner.outcome, episode.start) as simulator:
            actions = np.stack([simulator.sample_action(generator) for _ in range(BUDGET)])
            if isinstance(simulator, Rooms):
                beyond += bool((episode.start[0] - episode.start[5]) * (episode.goal[0] - episode.goal[5]) < 0)
        runner.act(actions)
        passed += runner.outcome.success
    said = (
        f"{manifest.solved} of {manifest.drawn} pairs solved at the start, {BUDGET} random actions pass {passed / episodes:.1%}"
    )
    return said + (f", {beyond / episodes:.0%} lie beyond the door" if isinstance(handle.simulator, Rooms) else "")


def instructions_done(simulator: Tabletop, episodes: int) -> float:
    """Return the share of instructions that the expert does within some actions."""
    done = 0
    for seed in range(episodes):
        simulator.reset(seed)
        instruction = simulator.instruction
        for _ in range(PATIENCE):
            simulator.step(simulator.expert_action())
            if simulator.instruction != instruction:  # the next one follows when it is done
                done += 1
                break
    return done / episodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="names of simulators")
    parser.add_argument("--policy", type=yaml.safe_load, default={"random": 1, "expert": 1}, help="shares of policies")
    parser.add_argument("--horizons", type=int, nargs="+", default=[5, 10], help="actions between start and goal")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--size", type=int, default=64, help="side of the picture, pixels")
    options = parser.parse_args()
    for name in options.names:
        handle = SimulatorHandle(find_simulator(name), options.size)
        simulator = find_simulator(name)(options.size)
        alone, drawn = rate(simulator, options.policy, lambda: None), rate(simulator, options.policy, simulator.render)
        print(f"{name}: {alone:.0f} steps a CPU second, {drawn:.0f} with a picture of {options.size} x {options.size} each")
        for horizon in options.horizons:
            said = describe_goals(name, handle, options.policy, horizon, options.episodes)
            print(f"  goals {horizon} actions ahead, {options.policy}: {said}")
        if isinstance(simulator, Tabletop):
            done = instructions_done(simulator, options.episodes)
            print(f"  the expert does {done:.1%} of {options.episodes} instructions within {PATIENCE} actions")


if __name__ == "__main__":
    main()
