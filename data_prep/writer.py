"""The writer: the one place that makes shards, their side indices and index.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from data_prep.encoding import encode_jpegs, encode_mp4, encode_npy, encode_npz
from data_prep.shard import OpenShard
from lam.data.schema import SPLITS, CauseInfo, DataIndex, Quarantined, ShardInfo, Split, Storage

_KEY = re.compile(r"[A-Za-z0-9_/-]{1,90}")  # a dot ends the key in WebDataset, and plain tar names have 100 characters


def default_storage(size: int) -> Storage:
    """Packed JPEG up to 128 pixels, where small windows decode several times faster than mp4; larger frames as mp4."""
    return Storage.jpeg if size <= 128 else Storage.mp4


class ShardWriter:
    """Writes samples into shards, atomically: a shard gets its name when it is whole, index.json comes last.

    Args:
        out: Folder to write to; made if missing, refused if it holds shards.
        height: Height of the frames, pixels.
        width: Width of the frames, pixels.
        fps: Nominal frames a second.
        storage: How to store frames.
        samples_per_shard: A shard is closed after this many samples.
        bytes_per_shard: A shard is closed after this many bytes of members.
        settings: What the set is made with, for index.json.
    """

    def __init__(
        self,
        out: Path,
        height: int,
        width: int,
        fps: float,
        storage: Storage,
        samples_per_shard: int = 2000,
        bytes_per_shard: int = 256 * 2**20,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.out = Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        found = sorted(path.name for path in self.out.iterdir() if path.suffix in (".tar", ".parquet", ".json"))
        if found:
            raise ValueError(f"{out} already holds {found[0]}. Remove the folder or choose another.")
        self.height, self.width, self.fps, self.storage = height, width, fps, storage
        self.samples_per_shard, self.bytes_per_shard = samples_per_shard, bytes_per_shard
        self.settings = {} if settings is None else settings
        self.action_dim: int | None = None
        self.causes: dict[str, CauseInfo] = {}
        self._shards: dict[str, list[ShardInfo]] = {split: [] for split in SPLITS}
        self._open: dict[str, OpenShard] = {}
        self._keys: set[str] = set()
        self._pixels = _PixelStatistics()
        self._quarantined: list[Quarantined] = []
        self._started = False

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for split in list(self._open):
            if error is None:
                self._finish_shard(split)
            else:
                self._open.pop(split).discard()
        if error is None:
            self._save_index()

    def add(
        self,
        split: Split,
        key: str,
        source: str,
        episode: str,
        frames: np.ndarray,
        times: np.ndarray,
        actions: np.ndarray | None = None,
        causes: dict[str, np.ndarray] | None = None,
    ) -> None:
        """Writes one sample.

        Args:
            split: Which split it belongs to.
            key: Name of the sample, unique in the set: letters, digits, ``_``, ``-``, ``/``.
            source: The video or world it was cut from; splits and probes keep a source together.
            episode: The recording within the source.
            frames: Pixels, (F, H, W, 3) uint8.
            times: When each frame was taken, (F,) seconds from the start of the source, increasing.
            actions: Recorded actions between frames, (F-1, U).
            causes: Recorded causes between frames by name, each (F-1, ...), float (continuous) or integer (discrete).
        """
        causes = {name: _cause(value) for name, value in (causes or {}).items()}
        actions = None if actions is None else np.ascontiguousarray(actions, dtype=np.float32)
        times = np.asarray(times, dtype=np.float64)
        self._check(split, key, frames, times, actions, causes)
        if split == "train":
            self._pixels.add(frames)
        members = self._members(source, episode, frames, times, actions, causes)
        shard = self._open.get(split) or self._start_shard(split)
        shard.add(key, source, episode, times, members)
        self._keys.add(key)
        if shard.samples >= self.samples_per_shard or shard.size >= self.bytes_per_shard:
            self._finish_shard(split)

    def quarantine(self, source: str, reason: str) -> None:
        """Notes that something was left out, and why."""
        self._quarantined.append(Quarantined(source, reason))

    def _check(
        self,
        split: str,
        key: str,
        frames: np.ndarray,
        times: np.ndarray,
        actions: np.ndarray | None,
        causes: dict[str, np.ndarray],
    ) -> None:
        """Raises ValueError where a sample does not fit the set."""
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, expected one of {SPLITS}.")
        if not _KEY.fullmatch(key) or key in self._keys:
            raise ValueError(f"key {key!r} is taken or not 1 to 90 letters, digits, '_', '-', '/'.")
        if frames.dtype != np.uint8 or frames.shape[1:] != (self.height, self.width, 3) or len(frames) < 2:
            raise ValueError(
                f"{key}: frames are {frames.dtype} {frames.shape}, expected uint8 (2 or more, {self.height}, {self.width}, 3)."
            )
        if times.shape != (len(frames),) or not (np.diff(times) > 0).all():
            raise ValueError(f"{key}: times {times.shape} must be increasing, one for each of {len(frames)} frames.")
        for name, value in (causes if actions is None else {**causes, "actions": actions}).items():
            if len(value) != len(frames) - 1:
                raise ValueError(f"{key}: {name} has {len(value)} steps, expected {len(frames) - 1}, one between two frames.")
        kinds = {name: CauseInfo(value.shape[1:], _kind(value)) for name, value in causes.items()}
        action_dim = None if actions is None else actions.shape[1]
        if not self._started:
            self.action_dim, self.causes, self._started = action_dim, kinds, True
        if (action_dim, kinds) != (self.action_dim, self.causes):
            raise ValueError(
                f"{key}: actions {action_dim} and causes {kinds} differ from the first sample's {self.action_dim} and "
                f"{self.causes}; all samples of a set record the same."
            )

    def _members(
        self,
        source: str,
        episode: str,
        frames: np.ndarray,
        times: np.ndarray,
        actions: np.ndarray | None,
        causes: dict[str, np.ndarray],
    ) -> dict[str, bytes]:
        """Bytes of each member of a sample by its name in the tar."""
        record = {
            "fps": self.fps,
            "times": times.tolist(),
            "source": source,
            "episode": episode,
            "height": self.height,
            "width": self.width,
        }
        video = encode_jpegs(frames) if self.storage is Storage.jpeg else encode_mp4(frames, self.fps)
        members = {self.storage.value: video, "json": json.dumps(record).encode()}
        if actions is not None:
            members["actions.npy"] = encode_npy(actions)
        if causes:
            members["causes.npz"] = encode_npz(causes)
        return members

    def _start_shard(self, split: str) -> OpenShard:
        self._open[split] = OpenShard(self.out, f"{split}-{len(self._shards[split]):06d}.tar")
        return self._open[split]

    def _finish_shard(self, split: str) -> None:
        self._shards[split].append(self._open.pop(split).finish())

    def _save_index(self) -> None:
        mean, std = self._pixels.moments()
        DataIndex(
            path=self.out,
            storage=self.storage,
            height=self.height,
            width=self.width,
            fps=self.fps,
            pixel_mean=mean,
            pixel_std=std,
            action_dim=self.action_dim,
            causes=self.causes,
            splits=self._shards,
            settings=self.settings,
            quarantined=self._quarantined,
        ).save()


class _PixelStatistics:
    """Exact mean and standard deviation of all pixels added, by histogram."""

    def __init__(self) -> None:
        self.counts = np.zeros((3, 256), dtype=np.int64)

    def add(self, frames: np.ndarray) -> None:
        for channel in range(3):
            self.counts[channel] += np.bincount(frames[..., channel].ravel(), minlength=256)

    def moments(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        levels = np.arange(256) / 255
        weights = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        mean = weights @ levels
        std = np.sqrt((weights * (levels - mean[:, None]) ** 2).sum(axis=1))
        return tuple(mean.tolist()), tuple(std.tolist())


def _cause(value: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(value, dtype=np.float32 if np.issubdtype(value.dtype, np.floating) else np.int64)


def _kind(value: np.ndarray) -> Any:
    return "continuous" if np.issubdtype(value.dtype, np.floating) else "discrete"
