"""Training on a feature cache against encoding the same pictures at every step: time of a step, size of the cache.

python benchmarks/features.py                   ViT-S/14 at 112 pixels, windows of 3 frames, batches of 16, two threads
python benchmarks/features.py --shards DIR      pictures of one's own, of 112 pixels, in place of a panning texture
python benchmarks/features.py --quick           fewer clips and steps, heads of width 128 in fp32 alone
python benchmarks/features.py --threads 1       where other programs use the machine: two threads would wait for each other
python benchmarks/features.py --device cuda --batch_size 256

The encoder is DINOv2's architecture (12 layers, width 384, 6 heads) with random weights, made here: neither time nor size
depends on them. A step is what training does: read and decode a batch (in this process), encode or take states from the cache,
inverse model, bottleneck (NSVQ), forward model (AdaLN), backward, MuonAdamW. Both kinds alternate step by step, so that other
load of the machine falls on both alike; medians are printed, of wall time and of processor time over all threads.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from data_prep.pipeline.cache_features import features, pick_device
from data_prep.pipeline.convert import convert
from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.writer import ShardWriter
from lam.bottlenecks import NSVQ
from lam.data.clip import Clip
from lam.data.datamodule import ClipDataModule
from lam.data.index import DataIndex
from lam.data.schema import Storage
from lam.encoders import Cached, Encoder, Vision
from lam.models.forward import AdaLN
from lam.models.inverse import ChannelPair
from lam.models.latent_action import LatentActionModel
from lam.optimizers import MuonAdamW, parameter_groups

SIZE, FRAMES = 112, 40


def write_clips(out: Path, count: int) -> Path:
    """Write panning textures with some noise, as packed JPEG."""
    rng = np.random.default_rng(0)
    with ShardWriter(out, DatasetSpec(SIZE, SIZE, Storage.jpeg)) as writer:
        for i in range(count):
            texture = np.kron(rng.integers(0, 256, (SIZE // 8, SIZE // 8, 3)), np.ones((8, 8, 1)))
            pixels = np.stack([np.roll(texture, frame, axis=1) for frame in range(FRAMES)])
            pixels = np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)
            writer.add("train", Sample(f"{i}", "synthetic", "0", pixels, np.arange(FRAMES) / 4))
    return out


def save_weights(folder: Path) -> str:
    """Save ViT-S/14 with random weights, as transformers does."""
    from transformers import Dinov2Config, Dinov2Model
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, patch_size=14, image_size=518)
    Dinov2Model(config).save_pretrained(folder)
    return str(folder)


def bytes_per_frame(folder: Path) -> float:
    """Return the bytes of the tars for each of their frames."""
    shards = [info for infos in DataIndex.load(folder).splits.values() for info in infos]
    return sum(info.bytes for info in shards) / sum(info.frames for info in shards)


@dataclass
class TrainingLoop:
    """Training with an encoder, the set it reads, and heads."""

    folder: Path
    encoder: Encoder
    width: int
    precision: str
    device: torch.device
    batch_size: int
    seconds: list[tuple[float, float, float]] = field(default_factory=list)  # wall time, of it for data, processor time

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.model = LatentActionModel(
            encoder=self.encoder,
            inverse_model=functools.partial(ChannelPair, width=self.width),
            bottleneck=NSVQ,
            forward_model=functools.partial(AdaLN, width=self.width),
            optimizer=MuonAdamW,
            distance=nn.L1Loss(reduction="none"),
            latent_dim=32,
        ).to(self.device)
        self.model.log = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer
        self.model.copy_error.fill_(1.0)
        self.optimizer = self.model.make_optimizer(parameter_groups(self.model))
        self.clips = self.batches()

    def batches(self) -> Iterator[Clip]:
        """Yield training batches, decoded in this process."""
        yield from ClipDataModule(self.folder, frames=3, batch_size=self.batch_size, num_workers=0).train_dataloader()

    def step(self) -> None:
        """Take one training step."""
        start, processor = self.now(), time.process_time()
        clip = next(self.clips).to(self.device)
        read = self.now()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self.model.training_step(clip, 0)
        loss.backward()
        self.optimizer.step()
        self.model.bottleneck.on_optimizer_step(self.optimizer)
        self.optimizer.zero_grad()
        end = self.now()
        self.seconds.append((end - start, read - start, time.process_time() - processor))

    def now(self) -> float:
        """Return the wall time, when the device has done all it was asked for."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    def medians(self) -> list[float]:
        """Return the milliseconds of a step: wall time, of it for data, processor time."""
        return [1e3 * statistics.median(column) for column in zip(*self.seconds[2:], strict=True)]


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether the hardware has bf16 arithmetic; elsewhere it is emulated, and slower than fp32."""
    if device.type == "cuda":
        native: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return native
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, help="A set of pictures of 112 pixels.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--clips", type=int, default=24, help="Clips of the texture.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.clips = 5, 3
    rows = [(128, "fp32")] if options.quick else list(itertools.product((128, 192), ("fp32", "bf16")))
    device = pick_device(options.device)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stderr(io.StringIO()):
        root = Path(temporary)
        with contextlib.redirect_stdout(io.StringIO()):
            pictures = options.shards or write_clips(root / "pictures", options.clips)
            convert(pictures, root / "jpeg", Storage.jpeg, jobs=1)
            convert(pictures, root / "mp4", Storage.mp4, jobs=1)
            encoder = Vision(save_weights(root / "weights"), image_size=SIZE)
            start = time.perf_counter()
            features(pictures, root / "cache", encoder=encoder, device=options.device)
            taken = time.perf_counter() - start
        sizes = {name: bytes_per_frame(root / name) for name in ("jpeg", "mp4", "cache")}
        frames = sum(info.frames for infos in DataIndex.load(root / "cache").splits.values() for info in infos)
        print(f"{frames} frames encoded once in {taken:.1f} s, {frames / taken:.0f} a second (fp32, {device})")
        print("bytes a frame: " + ", ".join(f"{name} {size:.0f}" for name, size in sizes.items()))
        for width, precision in rows:
            emulated = precision == "bf16" and not computes_in_bf16(device)
            settings = (width, precision, device, options.batch_size)
            live = TrainingLoop(pictures, encoder, *settings)
            cached = TrainingLoop(root / "cache", Cached(str(root / "cache")), *settings)
            for _ in range((5 if emulated else options.steps) + 2):  # two to warm up
                live.step()
                cached.step()
            one, other = live.medians(), cached.medians()
            for name, (wall, data, processor) in (("encoding", one), ("cached", other)):
                print(
                    f"heads {width} {precision} {name:8s} {wall:7.1f} ms a step, {data:5.1f} of it for data; "
                    f"{processor:7.1f} ms of processors"
                )
            ratios = f"{one[0] / other[0]:.1f} by wall time, {one[2] / other[2]:.1f} by processor time"
            print(f"heads {width} {precision}: {ratios}" + (" (bf16 is emulated here)" if emulated else ""), flush=True)


if __name__ == "__main__":
    main()
