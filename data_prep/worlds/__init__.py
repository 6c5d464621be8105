"""Generated worlds: video whose causes are known, because no real video says what an action was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm
from typing_extensions import Unpack

from data_prep.worlds.scene import make_clip
from data_prep.worlds.settings import REGIMES, Dials
from data_prep.writer import ShardWriter
from lam.data.schema import SPLITS, Storage


def world(
    out: Path,
    regime: Literal["demo", "arm", "nav", "wild", "contact"] = "demo",
    train: int = 4096,
    val: int = 512,
    seed: int = 0,
    storage: Storage = Storage.jpeg,
    **dials: Unpack[Dials],
) -> None:
    """Generates a world with recorded causes.

    Args:
        out: Folder for the shards, new or empty.
        regime: Named world, whose values the other options replace: demo (one clear agent, little else), arm (one agent,
            fixed camera, a camera pose drawn each clip), nav (a moving camera only), wild (everything), contact (an
            agent pushes blocks that are deflected at random).
        train: Clips to train on.
        val: Clips to validate on.
        seed: Seed of the world; clip i of a split is a function of seed and i, whatever the number of clips.
        storage: How to store frames.
    """
    settings = dataclasses.replace(REGIMES[regime], **dials)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}, expected 0 to 2^32 - 1. Change --seed.")
    record = {"generator": "world", "regime": regime, "seed": seed, **dataclasses.asdict(settings)}
    times = np.arange(settings.frames) / settings.fps
    with ShardWriter(out, settings.size, settings.size, settings.fps, storage, settings=record) as writer:
        for number, (split, clips) in enumerate(zip(SPLITS, (train, val), strict=True)):
            for index in tqdm(range(clips), desc=split, unit="clip"):
                made = make_clip(settings, seed, number, index)
                name = f"{split}-{index:06d}"
                writer.add(split, name, name, name, made.frames, times, made.actions, made.causes)
