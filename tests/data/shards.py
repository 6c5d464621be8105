"""Small folders of shards whose pixels say which sample and frame they are."""

from pathlib import Path

import numpy as np
import torch

from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.writer import ShardWriter
from lam.data.schema import ActionField, FeatureInfo, Storage


def picture(sample: int, frame: int) -> np.ndarray:
    """A flat color that survives compression."""
    return np.full((16, 16, 3), (8 * sample, 8 * frame, 128), dtype=np.uint8)


def frame_of(pixels: np.ndarray) -> np.ndarray:
    """(sample, frame) of pictures (..., 3, 16, 16)."""
    return np.rint(pixels[..., :2, :, :].astype(float).mean(axis=(-2, -1)) / 8).astype(int)


def write_set(
    out: Path,
    train: list[int],
    val: list[int],
    storage: Storage = Storage.jpeg,
    labels: bool = True,
    per_shard: int = 3,
    first: int = 0,
) -> Path:
    """A folder with one sample for each number of frames listed; samples are numbered through both splits."""
    actions = [ActionField("steps", 1, "sum"), ActionField("tens", 1, "last")] if labels else []
    with ShardWriter(out, DatasetSpec(16, 16, storage, actions, samples_per_shard=per_shard)) as writer:
        for sample, length in enumerate([*train, *val], start=first):
            steps = np.arange(length - 1)
            made = Sample(
                key=f"clip/{sample:03d}",
                source=f"source {sample // 2}",
                episode=f"episode {sample}",
                frames=np.stack([picture(sample, frame) for frame in range(length)]),
                times=np.arange(length) / 4 + 0.01 * sample,
                actions=np.stack([steps, steps * 10], axis=1) if labels else None,
                factors={"dx": steps + 0.5, "enters": steps % 3} if labels else {},
            )
            writer.add("train" if sample - first < len(train) else "val", made)
    return out


def write_states(
    out: Path, train: list[int], val: list[int], shards: str = "0", fingerprint: str = "made up"
) -> tuple[Path, list[torch.Tensor]]:
    """A feature cache of random states on a grid of 2 x 3 tokens of 5 numbers, three samples a shard."""
    features = FeatureInfo(fingerprint, {"class_path": "Random"}, dim=5, frames_per_state=1, shards=shards)
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(length, 6, 5, generator=generator).bfloat16() for length in [*train, *val]]
    with ShardWriter(out, DatasetSpec(2, 3, Storage.states, features=features, samples_per_shard=3)) as writer:
        for sample, each in enumerate(states):
            split = "train" if sample < len(train) else "val"
            frames = each.view(torch.int16).numpy().view(np.uint16)
            writer.add(split, Sample(f"clip/{sample:03d}", "source", "episode", frames, np.arange(len(each)) / 4))
    return out, states
