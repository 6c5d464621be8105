"""Time and memory of a training step: forward, backward and optimizer, for every bottleneck and head.

python benchmarks/train_step.py                      every row at LAPA's small sizes, CPU seconds on one thread
python benchmarks/train_step.py --attention          fused against written-out attention on this device
python benchmarks/train_step.py --grow grow.png      memory and throughput over tokens, width and clip length
python benchmarks/train_step.py --against step.py    interleaved with other code: that file defines step()
python benchmarks/train_step.py --device cuda --size published --precisions bf16 [--compile]

Rows are interleaved step by step, so that other load of the machine falls on all alike; medians are printed. On the CPU
time is process time on one thread. Memory is what forward keeps for backward (CPU) or the allocator's peak (CUDA).
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import runpy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import lam.bottlenecks
from lam.bottlenecks.base import Bottleneck
from lam.encoders.base import StateShape
from lam.models.forward import AdaLN, Cross, ForwardModel, Tokens
from lam.models.inverse import ChannelPair, Difference, InverseModel, SequencePair
from lam.models.layers import attend_explicitly

PEAK_TFLOPS = 989.0  # dense bf16 of an H100 or H200 SXM, from NVIDIA's data sheet; for model FLOP utilization


@dataclass(frozen=True)
class Size:
    """Sizes of heads and of their input."""

    batch: int = 16
    states: int = 2
    side: int = 8
    dim: int = 192
    width: int = 256
    inverse_depth: int = 4  # LAPA: 2 spatial and 2 temporal layers
    forward_depth: int = 2
    heads: int = 4
    num_latents: int = 4
    latent_dim: int = 32


SIZES = {
    "small": Size(),
    "published": Size(8, 8, 16, 1024, 1024, 24, 24, 16, 1, 128),
}


class Heads(nn.Module):
    """All that is trained, from states to loss."""

    def __init__(
        self, size: Size, inverse: type[InverseModel], bottleneck: type[Bottleneck], forward_model: type[ForwardModel]
    ) -> None:
        super().__init__()
        shape = StateShape(size.side, size.side, size.dim)
        sizes = (shape, size.num_latents, size.latent_dim, size.width)
        self.inverse = inverse(*sizes, size.inverse_depth, size.heads)  # type: ignore[call-arg]  # all heads have depth and heads
        self.bottleneck = bottleneck(size.latent_dim, size.num_latents)
        self.forward_model = forward_model(*sizes, size.forward_depth, size.heads)  # type: ignore[call-arg]  # likewise

    def forward(self, states: Tensor) -> Tensor:
        """Return the loss of a batch of states (B, T, N, D)."""
        out = self.bottleneck(self.inverse(states[:, :-1], states[:, 1:]))
        error = (self.forward_model(states[:, :-1], out.z) - states[:, 1:]).abs().mean()
        loss: Tensor = error + out.loss
        return loss


@dataclass
class Measurement:
    """One combination of heads and bottleneck to time."""

    name: str
    precision: str
    size: Size
    heads: Heads
    device: torch.device
    gflops: float = 0.0
    mebibytes: float = 0.0
    seconds: list[tuple[float, float, float]] = field(default_factory=list)

    def prepare(self, compiled: bool) -> None:
        """Count operations and kept memory, then make the optimizer."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.size.batch, self.size.states, self.size.side**2, self.size.dim)
        self.states = torch.randn(shape, generator=generator).to(self.device)
        self.heads.to(self.device)
        self.optimizer = torch.optim.AdamW(self.heads.parameters(), lr=1e-4, fused=True)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # it cannot see into the CPU's kernel
            self.loss(self.heads).backward()
        self.gflops = counter.get_total_flops() / 1e9
        self.mebibytes = kept_memory(lambda: self.loss(self.heads)) / 2**20
        self.step = torch.compile(self.heads) if compiled else self.heads

    def loss(self, heads: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the loss under the row's precision."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return heads(self.states)

    def run(self) -> None:
        """Take one step, timed in three parts."""
        start = clock(self.device)
        loss = self.loss(self.step)
        forward = clock(self.device)
        loss.backward()
        backward = clock(self.device)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.heads.bottleneck.on_optimizer_step(self.optimizer)
        self.seconds.append((forward - start, backward - forward, clock(self.device) - backward))

    @property
    def total(self) -> float:
        """Median seconds of a step."""
        return median(sum(parts) for parts in self.seconds)

    def __str__(self) -> str:
        parts = [1e3 * median(column) for column in zip(*self.seconds, strict=True)]
        rate = self.gflops / self.total
        used = f"{rate / PEAK_TFLOPS / 10:6.1%}".replace("%", " % of peak") if self.device.type == "cuda" else ""
        return (
            f"{self.name:32s} {self.precision} {1e3 * self.total:8.1f} ms ({parts[0]:.1f} + {parts[1]:.1f} + {parts[2]:.1f}) "
            f"{self.gflops:8.1f} GFLOP {rate:8.1f} GFLOP/s {self.mebibytes:8.1f} MiB {used}"
        )


def clock(device: torch.device) -> float:
    """Return seconds: of this process on the CPU, of the wall on a device that works beside it."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def kept_memory(forward: Callable[[], Tensor]) -> int:
    """Return the bytes of distinct storages that a forward pass keeps for its backward pass, weights included."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = forward()
    del loss
    return sum(storages.values())


def catalogue(size: Size, precisions: Iterable[str], device: torch.device) -> list[Measurement]:
    """Return every bottleneck under the default heads, then every other head under NSVQ."""
    nsvq = lam.bottlenecks.NSVQ
    bottlenecks = [getattr(lam.bottlenecks, name) for name in lam.bottlenecks.__all__]
    triples: list[tuple[type[InverseModel], type[Bottleneck], type[ForwardModel]]]
    triples = [(ChannelPair, bottleneck, AdaLN) for bottleneck in bottlenecks]
    triples += [(ChannelPair, nsvq, Cross), (ChannelPair, nsvq, Tokens), (Difference, nsvq, AdaLN)]
    triples += [(SequencePair, nsvq, AdaLN), (SequencePair, nsvq, Cross)]
    return [
        Measurement("-".join(part.__name__ for part in triple), precision, size, Heads(size, *triple), device)
        for triple in triples
        for precision in precisions
    ]


def measure(
    rows: list[Measurement], steps: int, compiled: bool = False, against: Callable[[], None] | None = None
) -> list[float]:
    """Time rows, interleaved; return the seconds of the steps of the code to compare with."""
    theirs: list[float] = []
    for row in rows:
        row.prepare(compiled)
    for i in range(steps + 2):
        for row in rows:
            row.run()
        if against is not None:
            start = time.process_time()
            against()
            theirs.append(time.process_time() - start)
        if i == 1:  # two steps to warm up
            theirs.clear()
            for row in rows:
                row.seconds.clear()
                if row.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
    for row in rows:
        if row.device.type == "cuda" and len(rows) == 1:
            row.mebibytes = torch.cuda.max_memory_allocated() / 2**20
    return theirs


def compare_attention(device: torch.device, precisions: Iterable[str], steps: int) -> None:
    """Print seconds of forward and backward of both forms of attention."""
    fused = nn.functional.scaled_dot_product_attention
    for precision in precisions:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        for tokens, channels in ((17, 32), (65, 32), (64, 64), (256, 64)):
            q, k, v = (torch.randn(16, 4, tokens, channels, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
            seconds: dict[str, list[float]] = {"fused": [], "explicit": []}
            for _ in range(steps + 2):
                for name, attention in (("fused", fused), ("explicit", attend_explicitly)):
                    start = clock(device)
                    attention(q, k, v).sum().backward()
                    seconds[name].append(clock(device) - start)
            times = "  ".join(f"{name} {1e3 * median(taken[2:]):7.2f} ms" for name, taken in seconds.items())
            print(f"attention {precision} 16 x 4 heads x {tokens} tokens x {channels} channels: {times}")


def grow(path: str, base: Size, steps: int, device: torch.device, precision: str) -> None:
    """Plot throughput and memory over three sizes, beside what the count of operations predicts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    sweeps = {"side": (4, 8, 12, 16), "width": (64, 128, 256, 512), "states": (2, 3, 5, 9)}
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    for column, (name, values) in enumerate(sweeps.items()):
        rows = []
        for value in values:
            size = dataclasses.replace(base, **{name: value})
            rows.append(
                Measurement(f"{name}={value}", precision, size, Heads(size, ChannelPair, lam.bottlenecks.NSVQ, AdaLN), device)
            )
        for row in rows:
            measure([row], steps)
            print(row)
        x = [value**2 if name == "side" else value for value in values]
        rate = [row.size.batch / row.total for row in rows]
        predicted = [rate[0] * rows[0].gflops / row.gflops for row in rows]
        axes[0, column].loglog(x, rate, "o-", label="measured")
        axes[0, column].loglog(x, predicted, "--", label="at equal operations per second")
        axes[1, column].loglog(x, [row.mebibytes for row in rows], "o-")
        for axis in axes[:, column]:
            axis.minorticks_off()
            axis.set_xticks(x, [str(value) for value in x])
        axes[1, column].set_xlabel({"side": "tokens of a state", "width": "width", "states": "states of a clip"}[name])
    axes[0, 0].set_ylabel("clips a second")
    axes[1, 0].set_ylabel("MiB kept for backward")
    axes[0, 0].legend(loc="lower left")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--rows", default="", help="only rows with this text in their name, such as NSVQ-Cross")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--attention", action="store_true")
    parser.add_argument("--grow", metavar="PNG")
    parser.add_argument("--against", metavar="FILE", help="Python file with a function step() to interleave with")
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(args.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    if args.attention:
        return compare_attention(device, args.precisions, args.steps)
    if args.grow:
        return grow(args.grow, SIZES[args.size], args.steps, device, args.precisions[0])
    rows = [row for row in catalogue(SIZES[args.size], args.precisions, device) if args.rows in row.name]
    if device.type == "cpu":
        theirs = measure(rows, args.steps, args.compile, runpy.run_path(args.against)["step"] if args.against else None)
        print(*rows, sep="\n")
        if theirs:
            print(f"{args.against}: {1e3 * median(theirs):.1f} ms")
        print(f"peak resident memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")
    else:
        for row in rows:  # one after the other: together they would not fit
            measure([row], args.steps, args.compile)
            print(row, flush=True)
            row.heads.to("cpu")
            del row.optimizer, row.states, row.step


if __name__ == "__main__":
    main()
