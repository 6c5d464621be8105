"""Everything worth knowing of a machine with one GPU, in one command and under eight minutes, as a section of Markdown.

python benchmarks/gpu.py                      prints the section and saves it as gpu.md
python benchmarks/gpu.py --minutes 4          degrades: what no longer fits is left out, with a line that says so
python benchmarks/gpu.py --tiny --device cpu  every part at toy sizes, seconds on a CPU; the test suite runs it

Parts: devices and versions; equality of one training step of every bottleneck on CPU and GPU; the rate of a large matrix
product; a training step at the small and the published size with and without torch.compile, with model FLOP utilization
against that rate and peak memory; every bottleneck once; the loader feeding it; planning. The file is written anew after
every line, so an interrupted run leaves what it has, and a part that fails is one line with its reason.
"""

from __future__ import annotations

import argparse
import copy
import gc
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import lightning
import planning
import torch
import train_step
from loader import stream_rate, write_clips
from torch import Tensor

import lam.bottlenecks
from lam.bottlenecks.base import Bottleneck
from lam.data.datamodule import ClipDataModule
from lam.data.schema import Storage
from lam.models.forward import AdaLN
from lam.models.inverse import ChannelPair

TINY = train_step.Size(2, 3, 2, 12, 16, 1, 1, 2, 1, 16)
TOLERANCE = 1e-4
"""Largest difference of a loss or a weight after one step of single precision, relative to the largest weight."""


@dataclass
class Section:
    """A growing section of Markdown that is saved after every line.

    Args:
        path: Where to save it.
        deadline: Time of ``time.monotonic()`` after which no part is begun.
    """

    path: Path
    deadline: float
    lines: list[str] = field(default_factory=list)

    def add(self, *lines: str) -> None:
        """Print and save some lines."""
        print(*lines, sep="\n", flush=True)
        self.lines += lines
        self.path.write_text("\n".join(self.lines) + "\n")

    def part(self, title: str, seconds: float, run: Callable[[Section], None]) -> None:
        """Run a part that is expected to take some seconds, if they are left; a failure costs this part alone."""
        self.add("", f"### {title}", "")
        left = self.deadline - time.monotonic()
        if seconds and left < seconds:
            self.add(f"Left out: {max(0.0, left):.0f} s were left of the time given, it takes about {seconds:.0f} s.")
            return
        try:
            run(self)
        except Exception as error:  # whatever a driver or a compiler raises, the other parts are still worth having
            self.add("", f"Failed: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")


def devices(device: torch.device, section: Section) -> None:
    """List devices and versions."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        section.add(
            f"- GPU: {properties.name}, {properties.total_memory / 2**30:.0f} GiB, compute capability "
            f"{properties.major}.{properties.minor}, CUDA {torch.version.cuda}"
        )
    section.add(
        f"- processor: {platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        f"- Python {platform.python_version()}, torch {torch.__version__}, lightning {lightning.__version__}",
    )


def families() -> dict[str, type[Bottleneck]]:
    """Return every bottleneck by its class name."""
    return {name: getattr(lam.bottlenecks, name) for name in lam.bottlenecks.__all__}


def one_step(heads: train_step.Heads, states: Tensor) -> tuple[float, Tensor]:
    """Take one step of gradient descent; return the loss and all weights after it, on the CPU."""
    keys = torch.arange(len(states), device=states.device)  # noise is a function of the clip, so alike on all devices
    output = heads.bottleneck(heads.inverse(states[:, :-1], states[:, 1:]), noise_keys=keys)
    loss = (heads.forward_model(states[:, :-1], output.z) - states[:, 1:]).abs().mean() + output.loss
    loss.backward()
    with torch.no_grad():
        weights = [p - 0.1 * p.grad for p in heads.parameters() if p.grad is not None]
    return loss.item(), torch.cat([weight.detach().cpu().flatten() for weight in weights])


def equality(device: torch.device, size: train_step.Size, section: Section) -> None:
    """Compare one step of every bottleneck on this device with the CPU's, in single precision."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    section.add(
        "| bottleneck | loss on CPU | difference of loss | of weights | within tolerance |",
        "| --- | ---: | ---: | ---: | --- |",
    )
    for name, bottleneck in families().items():
        torch.manual_seed(0)
        heads = train_step.Heads(size, ChannelPair, bottleneck, AdaLN)
        states = torch.randn(size.batch, size.states, size.side**2, size.dim)
        there, weights_there = one_step(copy.deepcopy(heads).to(device), states.to(device))
        here, weights_here = one_step(heads, states)
        loss, weight = abs(there - here) / abs(here), (weights_there - weights_here).abs().max() / weights_here.abs().max()
        good = "yes" if max(loss, weight.item()) < TOLERANCE else "**no**"
        section.add(f"| {name} | {here:.6f} | {loss:.1e} | {weight.item():.1e} | {good} |")


def matrix_rate(device: torch.device, side: int) -> float:
    """Return the TFLOP/s of a square bfloat16 matrix product, the median of five timings of ten."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(7):
        start = train_step.clock(device)
        for _ in range(10):
            a @ b
        seconds.append((train_step.clock(device) - start) / 10)
    return 2 * side**3 / statistics.median(seconds[2:]) / 1e12


def training(device: torch.device, size: train_step.Size, steps: int, peak: float, compiled: bool, section: Section) -> None:
    """Time training steps; model FLOP utilization is against the measured matrix product."""
    torch.manual_seed(0)
    heads = train_step.Heads(size, ChannelPair, lam.bottlenecks.Noisy, AdaLN)
    row = train_step.Measurement("Noisy", "bf16", size, heads, device)
    start = time.monotonic()
    train_step.measure([row], steps, compiled)
    rate = row.gflops / row.total / 1e3
    section.add(
        f"{size.batch} clips of {size.states} states of {size.side**2} tokens, width {size.width}, depth {size.inverse_depth} "
        f"and {size.forward_depth}: {1e3 * row.total:.1f} ms a step, {size.batch / row.total:.0f} clips/s, {rate:.3g} TFLOP/s, "
        f"utilization {rate / peak:.0%}, {row.mebibytes / 1024:.2f} GiB, {time.monotonic() - start:.0f} s with all preparation."
    )
    del row, heads
    free(device)


def bottlenecks(device: torch.device, size: train_step.Size, steps: int, section: Section) -> None:
    """Time a training step of every bottleneck, in turns."""
    section.add("| bottleneck | ms a step | of the plainest |", "| --- | ---: | ---: |")
    rows = [
        train_step.Measurement(name, "bf16", size, train_step.Heads(size, ChannelPair, bottleneck, AdaLN), device)
        for name, bottleneck in families().items()
    ]
    train_step.measure(rows, steps)
    plainest = min(row.total for row in rows)
    section.add(*(f"| {row.name} | {1e3 * row.total:.1f} | {row.total / plainest:.2f} |" for row in rows))


def loading(device: torch.device, pixels: int, clips: int, seconds: float, workers: int, section: Section) -> None:
    """Measure how many windows a second arrive on the device."""
    section.add("| format | pixels | workers | windows/s on the device |", "| --- | ---: | ---: | ---: |")
    for storage in (Storage.jpeg, Storage.mp4):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, storage.name)
            write_clips(folder, storage, pixels, clips, frames=16)
            data = ClipDataModule(folder, 8, min(64, clips), num_workers=workers)
            arrived = (clip.to(device) for clip in data.train_dataloader())
            rate = stream_rate(arrived, seconds)
            section.add(f"| {storage.name} | {pixels} | {workers} | {rate:.0f} |")


def plans(device: torch.device, budget: str, size: str, episodes: int, repeats: int, section: Section) -> None:
    """Measure planning with the cross-entropy method through controller and world model."""
    world = planning.World(planning.SIZES[size]).to(device).eval()
    problem = world.problem(episodes, 2, planning.CHUNK)
    search = planning.BUDGETS[budget]
    seconds = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            start = train_step.clock(device)
            search.plan(problem)
            seconds.append(train_step.clock(device) - start)
    taken = statistics.median(seconds[1:])
    steps = search.num_samples * search.num_iterations * world.size.horizon * episodes
    section.add(
        f"{size}, CEM {search.num_samples} x {search.num_iterations} of {budget}, {episodes} episodes: "
        f"{steps / taken:.0f} candidate-steps/s, {episodes / taken:.1f} plans/s."
    )
    del world, problem
    free(device)


def free(device: torch.device) -> None:
    """Give memory back, that of reference cycles too, so that no measurement takes another's room or counts there."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def run_parts(section: Section, device: torch.device, tiny: bool) -> None:
    """Run every part, what takes longest last."""
    small, published = (TINY, TINY) if tiny else (train_step.SIZES["small"], train_step.SIZES["published"])
    steps, workers = (1, 0) if tiny else (10, min(8, os.cpu_count() or 1))
    rates: list[float] = []

    def matrix_product(section: Section) -> None:
        side = 64 if tiny else 8192
        rates.append(matrix_rate(device, side))
        section.add(f"bfloat16, {side} x {side} x {side}: {rates[0]:.3g} TFLOP/s. Utilization below is a share of this.")

    section.part("Devices and versions", 0, partial(devices, device))
    section.part("CPU and GPU agree: one step of every bottleneck", 20, partial(equality, device, replace(TINY, batch=8)))
    section.part("Matrix product", 5, matrix_product)
    best = rates[0] if rates else float("nan")
    section.part("Training step, small", 20, partial(training, device, small, steps, best, False))
    section.part("Training step, published", 40, partial(training, device, published, steps, best, False))
    section.part("Every bottleneck, small", 30, partial(bottlenecks, device, small, steps))
    section.part("Loader", 30, partial(loading, device, *((16, 4, 0.1) if tiny else (224, 256, 4.0)), workers))
    search = ("control.yaml", "arm", 1, 1) if tiny else ("paper", "64px-64", 8, 5)
    section.part("Planning", 20, partial(plans, device, *search))
    if not tiny:
        section.part("Training step, small, compiled", 60, partial(training, device, small, steps, best, True))
        section.part("Training step, published, compiled", 300, partial(training, device, published, steps, best, True))


def main() -> None:
    """Read the command line, run all parts and save the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.md"), help="file of the section (default: gpu.md)")
    parser.add_argument("--minutes", type=float, default=7.5, help="time given; parts that no longer fit are left out")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to see that every part runs")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use; --tiny --device cpu runs every part on the CPU")
    start = time.monotonic()
    section = Section(options.out, start + 60 * options.minutes)
    section.add("## One GPU" if device.type == "cuda" else "## Without a GPU", "", "`python benchmarks/gpu.py`")
    run_parts(section, device, options.tiny)
    section.add("", f"{(time.monotonic() - start) / 60:.1f} minutes in all.")


if __name__ == "__main__":
    main()
