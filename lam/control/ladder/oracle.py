"""Oracle: the same planner in the true simulator instead of a world model, with the true distance to the goal as cost.

An upper reference for closed loops. ``lam control oracle runs/pusht experiments/control/pusht.yaml`` makes the row
``runs/pusht/simulator/seed0``.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from lam.control.closed_loop import MANIFESTS, ClosedLoop, EpisodePolicy, EpisodeSettings
from lam.control.episodes import EpisodeRunner
from lam.control.planners import CEM, Plan
from lam.control.policies import Search, bounded_problem
from lam.data.mixture import open_index
from lam.data.schema import ActionStatistics
from lam.evals.base import Results
from lam.io.trust import only_trusted_imports
from lam.runs.configs import read_yaml
from lam.runs.load import read_config
from lam.runs.provenance import code_revision, read_provenance
from lam.runs.results import write_evaluations, write_numbers
from lam.runs.upgrade import upgrade

UNITS = "all"
"""Stands in keys in the place of a label budget: the simulator needs no labels."""
_PICTURE = 32
"""Side of the images, pixels: nobody looks at them, and stored states tell no size."""


def simulator_policy(statistics: ActionStatistics, search: Search) -> EpisodePolicy:
    """Return the policy whose candidates run in the simulator and cost the true distance to the goal after them."""

    def policy(runners: list[EpisodeRunner], noise_keys: Tensor, initial: Tensor) -> Plan:
        def cost(actions: Tensor) -> Tensor:
            pairs = zip(runners, actions.double().cpu().numpy(), strict=True)
            costs = [[runner.simulate(candidate) for candidate in candidates] for runner, candidates in pairs]
            return torch.tensor(costs, device=actions.device)

        return (search.planner or CEM()).plan(bounded_problem(cost, statistics, noise_keys, initial))

    return policy


def solve(loop: ClosedLoop, statistics: ActionStatistics, horizon: int) -> tuple[Results, dict[int, tuple[str, str]]]:
    """Act in the episodes of a closed loop with the true simulator in the place of a world model.

    Args:
        loop: The closed loop.
        statistics: Statistics of the recorded actions; plans stay within their bounds.
        horizon: Actions between start and goal.

    Returns:
        Results, and name and source of the episode at each position.
    """
    episodes = EpisodeSettings(horizon, _PICTURE, statistics, UNITS)
    return loop.evaluate({"": simulator_policy(statistics, loop.search)}, episodes, torch.device("cpu"))


def parse_loop(given: Mapping[str, object]) -> ClosedLoop:
    """Return the closed loop of settings, as a file has them under init_args."""
    parser = ArgumentParser()
    parser.add_class_arguments(ClosedLoop, "loop")
    with only_trusted_imports():
        loop: ClosedLoop = parser.instantiate_classes(parser.parse_object({"loop": given})).loop
    return loop


def run_oracle(setting: Path, settings: Path, planner: CEM, num_episodes: int | None = None) -> dict[str, float]:
    """Solve the episodes of a closed loop with the true simulator and leave a row for the table.

    Args:
        setting: Folder with finished runs of the setting, for its data and hashes: runs/pusht.
        settings: A file with ``ClosedLoop`` among its callbacks, such as experiments/control/pusht.yaml.
        planner: The algorithm.
        num_episodes: Episodes; those of the settings if not given.

    Returns:
        Metrics by key.

    Raises:
        ValueError: The setting has no finished run, or its data have no recorded actions.
    """
    finished = (one.parent for one in sorted(setting.glob("*/seed*/run.json")) if one.parts[-3] != "simulator")
    run = next(finished, None)
    provenance = read_provenance(run / "run.json") if run else None
    if run is None or provenance is None:
        raise ValueError(f"{setting} has no finished run with a run.json that can be read. Make a row of the table first.")
    data = read_config(run)["data"]
    callbacks = upgrade(read_yaml(settings))["trainer"]["callbacks"]
    (given,) = (one["init_args"] for one in callbacks if one["class_path"].endswith("ClosedLoop"))
    loop = parse_loop(given)
    loop.search.planner = planner
    loop.num_episodes = num_episodes or loop.num_episodes
    loop.manifests = setting / MANIFESTS
    index = open_index(data["shards"])
    if index.action_statistics is None:
        raise ValueError(f"{index.path} has no recorded actions. Record the setting's data with a simulator.")
    horizon = data["frames"] // data["frames_per_state"] - 1
    loop.results, sources = solve(loop, index.action_statistics, horizon)
    folder = setting / "simulator" / "seed0"
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {f"eval/{loop.name}/{key}": value for key, value in loop.results.metrics.items()}
    write_evaluations(folder, [loop], sources)
    write_numbers(folder / "metrics.json", metrics)
    row = dataclasses.replace(provenance, family="simulator", knob="", seed=0, steps=None, code_revision=code_revision())
    row.write(folder / "run.json")
    return metrics


def main(arguments: list[str]) -> None:
    """Read what is typed after ``lam control oracle`` and print the metrics."""
    parser = argparse.ArgumentParser(
        prog="lam control oracle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("setting", type=Path, help="folder with finished runs of the setting, runs/SETTING")
    parser.add_argument(
        "settings", type=Path, help="file whose callbacks have the closed loop, experiments/control/SETTING.yaml"
    )
    parser.add_argument("--num_samples", type=int, default=64, help="sequences an iteration of the cross-entropy method")
    parser.add_argument("--num_elites", type=int, default=8, help="cheapest ones that it is refitted to")
    parser.add_argument("--num_iterations", type=int, default=6, help="refits")
    parser.add_argument("--num_episodes", type=int, help="episodes; those of the settings if not given")
    options = parser.parse_args(arguments)
    planner = CEM(options.num_samples, options.num_elites, options.num_iterations)
    for key, value in run_oracle(options.setting, options.settings, planner, options.num_episodes).items():
        print(f"{key} {value:.4f}")
