"""Throughput of planning: candidates through controller and world model, and plans of the cross-entropy method.

States of patches go through a transformer, compact ones (32 numbers in one token) through a residual MLP. Compact plans are
printed beside the limit of the arithmetic: the FLOP of a plan's matrix products over the FLOP/s of a large product in fp32.

python benchmarks/planning.py                        every table on one CPU thread, about five minutes of it
python benchmarks/planning.py --quick                the two smaller sizes, fewer candidates and repeats, half a minute
python benchmarks/planning.py --sizes compact        compact states alone
python benchmarks/planning.py --sizes arm --repeats 9
python benchmarks/planning.py --device cuda

A candidate-step is one action of one candidate of one episode, encoded and imagined; a second of throughput counts
candidates x horizon x episodes x iterations. Weights are random, as speed does not depend on them. Rows of a table are
interleaved repeat by repeat, so that other load of the machine falls on all alike; medians are printed. On the CPU the time
is process time on one thread. Memory is the peak of what tensors made in a run hold at once; the inside of a fused kernel is
not seen.
"""

from __future__ import annotations

import argparse
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from lam.control.heads import StateConditionedHead
from lam.control.imagination import Imagination, goal_cost
from lam.control.planners import CEM, ICEM, Planner, Problem
from lam.encoders.base import StateShape
from lam.models.forward import AdaLN, ForwardModel
from lam.models.residual_mlp import ResidualMLP

NUM_ACTIONS = 4
LATENT_DIM = 32
CHUNK = 1024  # sequences that go through the model together where nothing else is said: the default of Imagination


@dataclass(frozen=True)
class Size:
    """Sizes of a world model and of the plans made with it."""

    shape: StateShape
    forward_model: Callable[[StateShape, int, int], ForwardModel]
    horizon: int


def patches(pixels: int, patch: int, width: int, horizon: int) -> Size:
    """Return sizes for states of the encoder of patches."""
    side = pixels // patch
    return Size(StateShape(side, side, 3 * patch**2), partial(AdaLN, width=width, modulation_std=0.2), horizon)


SIZES = {
    "compact": Size(StateShape(1, 1, 32), ResidualMLP, 5),
    "arm": patches(32, 8, 64, 3),  # experiments/arm.yaml
    "64px-16": patches(64, 16, 128, 5),  # the default width of heads
    "64px-64": patches(64, 8, 128, 5),
}
BUDGETS = {
    "control.yaml": CEM(num_samples=48, num_elites=6, num_iterations=6),
    "paper": CEM(num_samples=300, num_elites=10, num_iterations=15),
}


class World(nn.Module):
    """Controller and forward model of a size, as planning asks for them."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.forward_model = size.forward_model(size.shape, 1, LATENT_DIM)
        self.controller = StateConditionedHead(size.shape, NUM_ACTIONS, LATENT_DIM)
        self.states_seen = self.forward_model.states_seen

    def predict(self, states: Tensor, z: Tensor) -> Tensor:
        """Predict states 1..T-1, (B, T-1, N, D)."""
        predicted: Tensor = self.forward_model(states, z)
        return predicted

    def act(self, actions: Tensor, states: Tensor) -> Tensor:
        """Return latents (n, L, A)."""
        latents: Tensor = self.controller(actions, states)[:, None]
        return latents

    def problem(self, episodes: int, window: int, chunk: int) -> Problem:
        """Return a planning problem with random starts and goals, from fixed seeds."""
        device = self.controller.input_mean.device
        generator = torch.Generator().manual_seed(0)
        shape = (2, episodes, 1, self.size.shape.tokens, self.size.shape.dim)
        first, goal = torch.randn(shape, generator=generator).to(device)
        imagination = Imagination(self, self.act, window, chunk)  # type: ignore[arg-type]  # all that it asks of a model
        none = first.new_zeros(episodes, 0, 1, LATENT_DIM)
        ones = torch.ones(NUM_ACTIONS, device=device)
        keys = torch.arange(episodes, device=device)

        def cost(actions: Tensor) -> Tensor:
            return goal_cost(imagination(first, none, actions)[:, :, -1], goal[:, 0])

        return Problem(cost, keys, self.size.horizon, -3 * ones, 3 * ones, 0 * ones, ones)


@dataclass
class Measurement:
    """One function to time."""

    name: str
    run: Callable[[], object]
    candidate_steps: int
    device: torch.device
    seconds: list[float] = field(default_factory=list)
    mebibytes: float = 0.0

    @property
    def rate(self) -> float:
        """Candidate-steps a second, by the median."""
        return self.candidate_steps / median(self.seconds)


def measure(rows: list[Measurement], repeats: int) -> None:
    """Time rows, interleaved, after a first time that warms up and finds the memory."""
    for row in rows:
        with PeakMemory() as memory:
            row.run()
        row.mebibytes = memory.peak / 2**20
    for _ in range(repeats):
        for row in rows:
            start = clock(row.device)
            row.run()
            row.seconds.append(clock(row.device) - start)


def clock(device: torch.device) -> float:
    """Return seconds: of this process on the CPU, of the wall on a device that works beside it."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


class PeakMemory(TorchDispatchMode):
    """Counts bytes of the storages that are made within it and live at the same time; the allocator of a CPU does not tell."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.alive: set[int] = set()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count the tensors that it made."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.note(tensor.untyped_storage())
        return made

    def note(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until it is freed."""
        key, size = storage._cdata, storage.nbytes()
        if key not in self.alive:
            self.alive.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.forget, key, size)

    def forget(self, key: int, size: int) -> None:
        """Stop counting a storage."""
        self.alive.discard(key)
        self.now -= size


def imagination_rows(name: str, world: World, quick: bool) -> list[Measurement]:
    """Return rows for windows with all sequences at once, then smaller chunks at a window of 2, each with 4 episodes."""
    episodes, candidates = 4, 8 if quick else 32
    settings = [(window, CHUNK) for window in (1, 2, 3)] + [(2, chunk) for chunk in ((8,) if quick else (8, 32))]
    rows = []
    for window, chunk in settings:
        problem = world.problem(episodes, window, chunk)
        device = problem.low.device
        actions = torch.randn(episodes, candidates, problem.horizon, NUM_ACTIONS, device=device)
        steps = actions.shape[:3].numel()
        label = f"{name:8s} window {window} chunk {min(chunk, episodes * candidates):4d}"
        rows.append(Measurement(label, partial(problem.cost, actions), steps, device))
    return rows


def compare_imagination(worlds: dict[str, World], repeats: int, quick: bool) -> None:
    """Print candidate-steps a second and memory of imagination alone."""
    rows = [row for name, world in worlds.items() for row in imagination_rows(name, world, quick)]
    measure(rows, repeats)
    for row in rows:
        print(f"{row.name}: {row.rate:9.0f} candidate-steps/s {row.mebibytes:8.1f} MiB")


def compare_budgets(worlds: dict[str, World], repeats: int) -> None:
    """Print plans a second of one episode at a time; a paper's budget from its first iteration, as all cost the same."""
    rows, shares = [], []
    for name, world in worlds.items():
        for budget, planner in BUDGETS.items():
            num_iterations = 1 if planner.num_samples > 100 else planner.num_iterations
            short = CEM(planner.num_samples, planner.num_elites, num_iterations)
            problem = world.problem(1, 2, CHUNK)
            label = f"{name:8s} {budget:12s} {planner.num_samples} x {planner.num_iterations} x {problem.horizon} steps"
            steps = short.evaluations * problem.horizon
            rows.append(Measurement(label, partial(short.plan, problem), steps, problem.low.device))
            shares.append((planner.evaluations / short.evaluations, num_iterations < planner.num_iterations))
    measure(rows, repeats)
    for row, (factor, extrapolated) in zip(rows, shares, strict=True):
        said = ", extrapolated from 1 iteration" if extrapolated else ""
        print(
            f"{row.name}: {1 / (factor * median(row.seconds)):8.3f} plans/s {row.rate:9.0f} candidate-steps/s "
            f"{row.mebibytes:8.1f} MiB{said}"
        )


def compare_with_arithmetic(world: World, repeats: int, quick: bool) -> None:
    """Print the seconds of a plan of the papers' budget, of twice as many iterations and of iCEM, beside the least possible."""
    problem = world.problem(1, 2, CHUNK)
    device, side = problem.low.device, 768
    square = torch.randn(side, side, device=device)
    rows, flop = [Measurement("product", partial(torch.mm, square, square), 1, device)], [2.0 * side**3]
    few, many = (1, 2) if quick else (15, 30)
    planners: dict[str, Planner] = {
        f"CEM 300 x {few}": CEM(300, 10, few),
        f"CEM 300 x {many}": CEM(300, 10, many),
        f"iCEM 300 x {few}": ICEM(300, 10, few),
    }
    for name, planner in planners.items():
        with FlopCounterMode(display=False) as counter:
            planner.plan(problem)
        flop.append(counter.get_total_flops())
        rows.append(Measurement(f"{name}, {problem.horizon} steps", partial(planner.plan, problem), 1, device))
    measure(rows, repeats)
    speed = flop[0] / min(rows[0].seconds)
    print(f"matrix product {speed / 1e9:.1f} GFLOP/s in fp32")
    for row, number in zip(rows[1:], flop[1:], strict=True):
        least = number / speed
        print(
            f"{row.name}: {min(row.seconds):.3f} s a plan at best, {median(row.seconds):.3f} s by the median; "
            f"{number / 1e9:.1f} GFLOP, {least:.3f} s at the limit of the arithmetic, {min(row.seconds) / least:.2f} times that"
        )


def plan_alone(planner: CEM, problem: Problem, episodes: int) -> None:
    """Plan episodes one after the other."""
    for _ in range(episodes):
        planner.plan(problem)


def compare_batching(worlds: dict[str, World], repeats: int, episodes: int) -> None:
    """Print how much faster episodes are planned together than one after the other."""
    planner = CEM(num_samples=48, num_elites=6, num_iterations=1)
    for name, world in worlds.items():
        together, alone = world.problem(episodes, 2, CHUNK), world.problem(1, 2, CHUNK)
        steps, device = planner.evaluations * together.horizon * episodes, together.low.device
        rows = [
            Measurement("together", partial(planner.plan, together), steps, device),
            Measurement("alone", partial(plan_alone, planner, alone, episodes), steps, device),
        ]
        measure(rows, repeats)
        ratio = median(a / t for t, a in zip(rows[0].seconds, rows[1].seconds, strict=True))
        print(
            f"{name:8s} {episodes} episodes at once: {rows[0].rate:9.0f} candidate-steps/s {rows[0].mebibytes:8.1f} MiB, "
            f"one by one {rows[1].rate:9.0f} candidate-steps/s {rows[1].mebibytes:8.1f} MiB, {ratio:.2f} times as fast at once"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, help="all; with --quick the first two")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=8, help="planned together in the comparison with one by one")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    repeats, episodes = (1, 2) if args.quick else (args.repeats, args.episodes)
    sizes = args.sizes or list(SIZES)[: 2 if args.quick else None]
    worlds = {name: World(SIZES[name]).to(device).eval() for name in sizes}
    with torch.inference_mode():
        if "compact" in worlds:
            print("Plans of compact states, one episode")
            compare_with_arithmetic(worlds["compact"], repeats, args.quick)
        print("Imagination, 4 episodes")
        compare_imagination(worlds, repeats, args.quick)
        print("Plans of one episode, window 2")
        compare_budgets(worlds, repeats)
        print("Episodes at once against one by one, window 2")
        compare_batching(worlds, repeats, episodes)


if __name__ == "__main__":
    main()
