"""Upper bound: the same planner in the true simulator instead of a world model, with the true distance to the goal as cost.

``lam control oracle runs/pusht experiments/control/pusht.yaml`` makes the row ``runs/pusht/simulator/seed0``.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor

from lam.control.closed_loop import ClosedLoop, Run
from lam.control.planners import CEM, Plan, Problem
from lam.control.policies import Policy, bounds
from lam.data.mixture import open_index
from lam.runs.results import code_revision, read_provenance, write_evaluations, write_numbers

UNITS = "all"
"""What keys carry in the place of a label budget: the simulator knows everything."""


@dataclass
class Told:
    """What stands in the place of a world model: sizes, and the recorded actions' bounds.

    Attributes:
        steps: Actions between start and goal.
        image_size: Side of the picture, pixels.
        index: Summary of the recorded set.
        val_clip_sources: Name and source of the episode at each position, after a pass.
        labeled_clips: What stands in keys for the label budget.
        device: Where a search draws its candidates.
    """

    steps: int
    image_size: int
    index: Any
    val_clip_sources: dict[int, tuple[str, str]] = field(default_factory=dict)
    labeled_clips: str = UNITS
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def data(self) -> Any:
        """Where the index is found in a model."""
        return SimpleNamespace(index=self.index)

    @property
    def encoder(self) -> Any:
        """Where the size is found in a model."""
        return SimpleNamespace(image_size=self.image_size)


class Truth(ClosedLoop):
    """Closed loop whose candidates are tried out in the simulator itself.

    Its loop over candidates is the simulator's, not a model's: it takes one action at a time.
    """

    def ways(self, module: Any) -> dict[str, Policy]:
        """The planner alone; bounds are found in the rows of world models."""
        return {"": _never}

    def plan(self, module: Any, way: Policy, worlds: list[Run], keys: Tensor, start: Tensor) -> Plan:
        """Plans for episodes as they are now, by trying candidates and going back."""

        def cost(actions: Tensor) -> Tensor:
            pairs = zip(worlds, actions.double().numpy(), strict=True)
            return torch.tensor([[world.tried(candidate) for candidate in candidates] for world, candidates in pairs])

        low, high, std = bounds(module.data.index)
        return (self.search.planner or CEM()).plan(Problem(cost, keys, start.shape[1], low, high, start, std))


def _never(states: Tensor, goals: Tensor, keys: Tensor, start: Tensor) -> Plan:
    """Takes the place of a policy that sees pictures, which the simulator does not need."""
    raise NotImplementedError


def truth(setting: Path, settings: Path, planner: CEM, episodes: int | None = None) -> dict[str, float]:
    """Solves the episodes of a closed loop with the true simulator and leaves a row for the table.

    Args:
        setting: Folder with finished runs of the setting, for its data and hashes: runs/pusht.
        settings: A file with ``ClosedLoop`` among its callbacks, such as experiments/control/pusht.yaml.
        planner: The search.
        episodes: How many episodes; those of the settings if not given.

    Returns:
        Metrics by key.
    """
    found = (one.parent for one in sorted(setting.glob("*/seed*/run.json")) if one.parts[-3] != "simulator")
    run = next(found, None)
    world = read_provenance(run / "run.json") if run else None
    if run is None or world is None:
        raise ValueError(f"{setting} has no finished run with a run.json that can be read. Make a row of the table first.")
    config = yaml.safe_load((run / "config.yaml").read_text())
    callbacks = yaml.safe_load(settings.read_text())["trainer"]["callbacks"]
    (given,) = (one["init_args"] for one in callbacks if one["class_path"].endswith("ClosedLoop"))
    parser = ArgumentParser()
    parser.add_class_arguments(Truth, "loop")
    loop = parser.instantiate_classes(parser.parse_object({"loop": given})).loop
    loop.search.planner = planner
    loop.episodes = episodes or loop.episodes
    data, index = config["data"], open_index(config["data"]["shards"])
    told = Told(data["frames"] // data["frames_per_state"] - 1, index.height, index)
    loop.results = loop.compute(told)
    folder = setting / "simulator" / "seed0"
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {f"eval/{loop.name}/{key}": value for key, value in loop.results.metrics.items()}
    write_evaluations(folder, [loop], told.val_clip_sources)
    write_numbers(folder / "metrics.json", metrics)
    dataclasses.replace(world, family="simulator", knob="", seed=0, code_revision=code_revision()).write(folder / "run.json")
    return metrics


def main(arguments: list[str]) -> None:
    """Read what is typed after ``lam control oracle`` and print what was found."""
    parser = argparse.ArgumentParser(
        prog="lam control oracle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("setting", type=Path, help="folder with finished runs of the setting, runs/SETTING")
    parser.add_argument(
        "settings", type=Path, help="file whose callbacks have the closed loop, experiments/control/SETTING.yaml"
    )
    parser.add_argument("--candidates", type=int, default=64, help="sequences a turn of the cross-entropy method")
    parser.add_argument("--elites", type=int, default=8, help="cheapest ones that it is refitted to")
    parser.add_argument("--turns", type=int, default=6, help="refits")
    parser.add_argument("--episodes", type=int, help="how many; those of the settings if not given")
    options = parser.parse_args(arguments)
    planner = CEM(options.candidates, options.elites, options.turns)
    for key, value in truth(options.setting, options.settings, planner, options.episodes).items():
        print(f"{key} {value:.4f}")
