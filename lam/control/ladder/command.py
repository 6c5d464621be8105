"""Ladder: act in the same episodes with one part replaced by the truth at a time, to see which part success is lost to.

``lam control ladder runs/pusht/noisy@1e-3/seed0/control/clips1024`` acts as these heads did; then, with a search small enough
for the simulator, in true dynamics, at the true cost, and both; then with four times the search, and with heads that saw all
labels. It writes ladder.csv into the folder, which the report shows.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from lam.control.base import ActionConditionedModel
from lam.control.closed_loop import MANIFESTS, ClosedLoop, EpisodePolicy, EpisodeSettings
from lam.control.episodes import EpisodeRecipe, SimulatorHandle
from lam.control.ladder.oracle import parse_loop, simulator_policy
from lam.control.ladder.reading import fit_reader
from lam.control.ladder.rungs import true_cost, true_dynamics
from lam.control.planners import CEM
from lam.control.policies import Search, policies
from lam.control.trained import load_controller
from lam.control.training import ControlledModel
from lam.data.windowing import DisjointWindows, LengthHistogram
from lam.io import write_text
from lam.metrics.wilson import wilson
from lam.runs.cli import filter_known_warnings
from lam.runs.load import read_config
from lam.simulators import find_simulator

FILE = "ladder.csv"
OWN, SMALL = "as it is", "small search"
"""Rungs that others are compared with: the row's own acting, and the same with a search that the simulator can afford."""

COUNTS = ("num_samples", "num_elites", "num_starts", "num_iterations")
"""Settings of planners of which twice as many make a search four times as large: candidates, and iterations."""


@dataclasses.dataclass(frozen=True)
class Rung:
    """One way to act, in the same episodes as all others.

    Attributes:
        name: What was replaced.
        against: Name of the rung that differs in nothing else; empty where there is none.
        candidates: Sequences that a plan evaluates.
        success: Whether each episode reached its goal, (E,).
        strict: Whether strictly, (E,).
        distance: Smallest distance of each, (E,).
        seconds: Time that it took.
        note: What must be known of it.
    """

    name: str
    against: str
    candidates: int
    success: Tensor
    strict: Tensor
    distance: Tensor
    seconds: float
    note: str = ""


class Ladder:
    """Acts in the episodes of a closed loop in several ways.

    Args:
        loop: The closed loop: episodes, budget and the row's own search.
        model: World model and heads.
        planner: A search that the simulator can afford.
        num_read: Episodes from whose pictures the simulator's numbers are learned to be read.
    """

    def __init__(self, loop: ClosedLoop, model: ActionConditionedModel, planner: CEM, num_read: int = 300) -> None:
        self.loop, self.model, self.num_read = loop, model, num_read
        self.small = dataclasses.replace(loop.search, planner=planner)
        self.settings = EpisodeSettings(
            model.horizon, model.encoder.image_size, model.action_statistics, str(model.labeled_clips)
        )

    def learned(self, name: str, against: str, search: Search, model: ActionConditionedModel | None = None) -> Rung:
        """Act in learned dynamics at the learned cost."""
        acting = model or self.model
        return self.act(name, against, search, partial(self.loop.plan, acting, policies(acting, search)[""]))

    def replaced(self) -> Iterator[Rung]:
        """Act with the small search in learned and true dynamics, at the learned and the true cost."""
        yield self.learned(SMALL, OWN, self.small)
        yield self.act("true dynamics", SMALL, self.small, true_dynamics(self.model, self.small))
        yield self.true_cost()
        both = simulator_policy(self.settings.statistics, self.small)
        yield self.act("true dynamics and cost", SMALL, self.small, both)

    def true_cost(self) -> Rung:
        """Act in learned dynamics, by the simulator's distance from what is read from imagined states."""
        handle = SimulatorHandle(find_simulator(self.loop.simulator), self.settings.image_size)
        recipe = EpisodeRecipe(self.loop.simulator, self.loop.seed, self.settings.horizon, self.loop.policy)
        reader, scores = fit_reader(self.model, handle, recipe, self.num_read)
        numbers = ", ".join(f"{place}: {score:.3f}" for place, score in zip(reader.read, scores, strict=True))
        policy = true_cost(self.model, self.small, reader)
        return self.act("true cost", SMALL, self.small, policy, f"R² of the numbers read from states: {numbers}")

    def act(self, name: str, against: str, search: Search, policy: EpisodePolicy, note: str = "") -> Rung:
        """Act in the episodes."""
        began = time.perf_counter()
        results, _ = self.loop.evaluate({"": policy}, self.settings, self.model.device)
        success, strict, distance = (
            results.clips[f"{key}@{self.settings.units}"][1] for key in ("success", "success_strict", "distance")
        )
        candidates = (search.planner or CEM()).evaluations
        return Rung(name, against, candidates, success, strict, distance, time.perf_counter() - began, note)


def run_ladder(folder: Path, planner: CEM, num_episodes: int) -> list[Rung]:
    """Act in all ways with the heads in a folder and write ladder.csv there.

    Args:
        folder: Folder of trained heads, runs/<setting>/<row>/seed<k>/control/clips<n>.
        planner: A search that the simulator can afford.
        num_episodes: Episodes, the first of the closed loop's.

    Raises:
        FileNotFoundError: There are no heads.
        ValueError: They were trained without a closed loop.
    """
    model = load_controller(folder)
    settings = read_config(folder)
    given = [one for one in settings["trainer"]["callbacks"] if one["class_path"].rpartition(".")[2] == "ClosedLoop"]
    if not given:
        raise ValueError(f"{folder} was trained without a closed loop: its config.yaml has no ClosedLoop among the callbacks.")
    own = given[0]["init_args"]
    loop, larger = (parse_loop(each) for each in (own, four_times(own)))
    loop.num_episodes, loop.manifests = num_episodes, folder.resolve().parents[3] / MANIFESTS
    ladder = Ladder(loop, model, planner)

    def climb() -> Iterator[Rung]:
        yield ladder.learned(OWN, "", loop.search)
        yield from ladder.replaced()
        yield ladder.learned("four times the search", OWN, larger.search)
        if not model.is_given_actions:
            yield ladder.learned("all labels", OWN, loop.search, train_on_all_labels(folder, settings, model))

    rungs: list[Rung] = []
    with torch.no_grad():
        for rung in climb():
            rungs.append(rung)
            write_ladder(folder / FILE, rungs)  # what a later rung takes or fails at loses nothing
    return rungs


def four_times(given: dict[str, Any]) -> dict[str, Any]:
    """Return settings of a closed loop whose planner has twice the candidates in twice the iterations."""
    larger = copy.deepcopy(given)
    search = larger.get("search") or {}
    planner = search.get("planner") or {"class_path": "lam.control.planners.CEM", "init_args": vars(CEM())}
    arguments = planner["init_args"]
    doubled = {name: 2 * value for name, value in arguments.items() if name in COUNTS}
    larger["search"] = search | {"planner": planner | {"init_args": arguments | doubled}}
    return larger


def train_on_all_labels(folder: Path, settings: dict[str, Any], model: ControlledModel) -> ControlledModel:
    """Train heads as these were trained, on all windows of the training shards, and keep them nowhere."""
    windows = LengthHistogram(model.data.index.splits["train"]).num_windows(
        DisjointWindows(model.data.frames, model.data.stride)
    )
    arguments = {**settings["model"], "run": folder.resolve().parents[1], "labeled_clips": int(np.sum(windows))}
    pl.seed_everything(int(settings["seed_everything"]), verbose=False)
    heads = ControlledModel(**arguments)
    kept = {key: settings["trainer"][key] for key in ("max_steps", "precision", "gradient_clip_val")}
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(**kept, **quiet, logger=False, max_epochs=-1, devices=1, limit_val_batches=0)
    with torch.enable_grad():
        trainer.fit(heads)
    return heads.to(model.device).requires_grad_(False).eval()


def write_ladder(path: Path, rungs: list[Rung]) -> None:
    """Write one line a rung, with Wilson's interval of success and the paired difference to the rung it is compared with."""
    import pandas as pd

    lines = []
    for rung in rungs:
        low, high = wilson(float(rung.success.mean()), len(rung.success))
        line: dict[str, object] = {"rung": rung.name, "candidates": rung.candidates, "episodes": len(rung.success)}
        line |= {"success": float(rung.success.mean()), "success/low": low, "success/high": high}
        line |= {"success_strict": float(rung.strict.mean()), "distance": float(rung.distance.median())}
        mean, half = difference(rung, rungs)
        line |= {"against": rung.against, "difference": mean, "difference/low": mean - half, "difference/high": mean + half}
        lines.append(line | {"seconds": round(rung.seconds, 1), "note": rung.note})
    write_text(path, pd.DataFrame(lines).to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def difference(rung: Rung, rungs: list[Rung]) -> tuple[float, float]:
    """Return by how much more often a rung succeeds than the one it is compared with, and half the paired 95 % interval."""
    from scipy.special import stdtrit

    other = next((one for one in rungs if one.name == rung.against), None)
    if other is None:
        return float("nan"), float("nan")
    paired = rung.success - other.success
    half = stdtrit(len(paired) - 1, 0.975) * float(paired.std()) / len(paired) ** 0.5
    return float(paired.mean()), float(half)


def verdict(rungs: list[Rung]) -> str:
    """Say which replacement is apart from what it is compared with, the most helpful first."""
    found = [(rung, *difference(rung, rungs)) for rung in rungs if rung.against and rung.name != SMALL]
    apart = sorted((one for one in found if one[1] - one[2] > 0), key=lambda one: -one[1])
    if not apart:
        return "Nothing that was replaced helps, as far as these episodes tell."
    said = (f"{rung.name} (+{mean:.2f} ± {half:.2f} over {rung.against})" for rung, mean, half in apart)
    return f"What helps: {', '.join(said)}."


def main(arguments: list[str]) -> None:
    """Read what is typed after ``lam control ladder``, act, and print a table of each folder."""
    parser = argparse.ArgumentParser(
        prog="lam control ladder", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="HEADS", help="runs/SETTING/ROW/seedK/control/clipsN")
    parser.add_argument("--num_episodes", type=int, default=50, help="episodes, the first of the closed loop's")
    parser.add_argument("--num_samples", type=int, default=64, help="sequences an iteration of the small search")
    parser.add_argument("--num_elites", type=int, default=8, help="cheapest ones that it is refitted to")
    parser.add_argument("--num_iterations", type=int, default=6, help="refits")
    options = parser.parse_args(arguments)
    filter_known_warnings()
    planner = CEM(options.num_samples, options.num_elites, options.num_iterations)
    for folder in options.folders:
        rungs = run_ladder(folder, planner, options.num_episodes)
        print(f"{folder}, {options.num_episodes} episodes")
        for rung in rungs:
            low, high = wilson(float(rung.success.mean()), len(rung.success))
            share = f"{rung.success.mean():.2f} ({low:.2f}–{high:.2f})"
            print(f"  {rung.name:<24}{share}  strict {rung.strict.mean():.2f}  {rung.seconds:.0f} s  {rung.note}")
        print(f"  {verdict(rungs)} {folder / FILE}")
