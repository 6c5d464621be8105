"""The writer: the one place that makes shards, their side indices and records of how far a job has come.

A job writes ``<split>-<job>-<part>.tar``. A shard counts as written once its record lies in ``.parts/``: what was counted
while it was filled, and where to go on after it. ``data_prep.shards.finalize`` makes the summary of all records.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from data_prep.shards.encoding import encode_jpegs, encode_mp4, encode_npy, encode_npz
from data_prep.shards.finalize import assemble
from data_prep.shards.records import PARTS, ProgressRecord, end_record_path, job_records
from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.statistics import RunningStatistics
from data_prep.shards.tar_writer import TarShardWriter
from data_prep.shards.thumbnails import sample_thumbnail
from lam.data.codec import pack_states
from lam.data.schema import SPLITS, Aggregation, FactorInfo, ShardInfo, Split, Storage

_KEY = re.compile(r"[A-Za-z0-9_/-]{1,90}")  # a dot ends the key in WebDataset, and plain tar names have 100 characters


class JobWriter:
    """Writer of the samples of one job, all of one split, from where it stopped before.

    Attributes:
        recording: Which recording of the job is being read; kept by the caller.
        clip: Which of its clips comes next; kept by the caller.
        statistics: What was counted since the last record; the caller adds what is left out.

    Args:
        out: Folder to write to.
        spec: What all samples have in common.
        split: Split of the job.
        job: Number of the job in the split.
    """

    def __init__(self, out: Path, spec: DatasetSpec, split: Split, job: int) -> None:
        self.out, self.spec, self.split, self.job = out, spec, split, job
        records = job_records(out, split, job)
        self.recording, self.clip = (records[-1].recording, records[-1].clip) if records else (0, 0)
        self.statistics = RunningStatistics()
        self._parts = len(records)
        self._factors = records[-1].factors if records else None
        self._open: TarShardWriter | None = None
        self._keys: set[str] = set()

    def add(self, sample: Sample) -> None:
        """Write one sample.

        Raises:
            ValueError: It does not fit the set.
        """
        sample = _with_types(sample)
        self._check(sample)
        members = self._members(sample)
        thumbnail = b""
        if self.spec.storage is not Storage.states:
            thumbnail = sample_thumbnail(sample.frames)
            if self.split == "train":
                self.statistics.add_pixels(sample.frames)
        if sample.actions is not None and self.split == "train":
            self.statistics.actions.add(sample.actions)
        self.statistics.steps += len(sample.times) - 1
        self.statistics.seconds += float(sample.times[-1] - sample.times[0])
        if self._open is None:
            self._open = TarShardWriter(self.out, f"{self.split}-{self.job:06d}-{self._parts:03d}.tar")
        self._open.add(sample, members, thumbnail)
        self._keys.add(sample.key)

    def close_full_shard(self) -> None:
        """Close the shard if it is full; called when ``recording`` and ``clip`` say what comes next."""
        full = self.spec.samples_per_shard, self.spec.bytes_per_shard
        if self._open is not None and (self._open.samples >= full[0] or self._open.size >= full[1]):
            self._finish_shard()

    def finish(self) -> None:
        """Close the last shard and note that the job is done."""
        if self._open is not None:
            self._finish_shard()
        self._record(None).save(end_record_path(self.out, self.split, self.job))

    def discard(self) -> None:
        """Give up what has no record yet."""
        if self._open is not None:
            self._open.discard()

    def _finish_shard(self) -> None:
        assert self._open is not None
        info = self._open.finish()
        self._open = None
        self._record(info).save(self.out / PARTS / f"{self.split}-{self.job:06d}-{self._parts:03d}.json")
        self._parts += 1
        self.statistics = RunningStatistics()

    def _record(self, shard: ShardInfo | None) -> ProgressRecord:
        return ProgressRecord(self.split, shard, self.statistics, self._factors, self.recording, self.clip)

    def _check(self, sample: Sample) -> None:
        """Raise ValueError where a sample does not fit the set."""
        key, frames, times, spec = sample.key, sample.frames, sample.times, self.spec
        if not _KEY.fullmatch(key) or key in self._keys:
            raise ValueError(f"key {key!r} is taken or not 1 to 90 letters, digits, '_', '-', '/'")
        shape: tuple[int, ...] = (spec.height, spec.width, 3)
        kind: np.dtype = np.dtype(np.uint8)
        if spec.features is not None:
            shape, kind = (spec.height * spec.width, spec.features.dim), np.dtype(np.uint16)
        if frames.dtype != kind or frames.shape[1:] != shape or len(frames) < 2:
            raise ValueError(f"frames are {frames.dtype} {frames.shape}, expected {kind} (2 or more, *{shape})")
        if times.shape != (len(frames),) or not (np.diff(times) > 0).all():
            raise ValueError(f"times {times.shape} must be increasing, one for each of {len(frames)} frames")
        sample.check_labels(sum(each.dim for each in spec.actions))
        factors = {name: _factor_info(name, value, spec.factor_aggregations) for name, value in sample.factors.items()}
        if self._factors is None:
            self._factors = factors
        if factors != self._factors:
            raise ValueError(f"factors are {factors}, those before {self._factors}; all samples of a set record the same")

    def _members(self, sample: Sample) -> dict[str, bytes]:
        """Return bytes of each member of a sample by its name in the tar."""
        record = {
            "fps": frame_rate(sample.times),
            "times": sample.times.tolist(),
            "source": sample.source,
            "episode": sample.episode,
            "height": self.spec.height,
            "width": self.spec.width,
        }
        members = {self.spec.storage.value: _video(sample, self.spec), "json": json.dumps(record).encode()}
        if sample.actions is not None:
            members["actions.npy"] = encode_npy(sample.actions)
        if sample.factors:
            members["causes.npz"] = encode_npz(sample.factors)
        return members


class ShardWriter:
    """Writer of a set, sample by sample, in this process: for data made by a program. The folder must be new or empty.

    Args:
        out: Folder to write to; made if missing.
        spec: What all samples have in common.
        settings: What the set is made with, for index.json.
    """

    def __init__(self, out: Path, spec: DatasetSpec, settings: dict[str, Any] | None = None) -> None:
        self.out, self.spec, self.settings = Path(out), spec, settings or {}
        self.out.mkdir(parents=True, exist_ok=True)
        if found := sorted(path.name for path in self.out.iterdir()):
            raise ValueError(f"{out} already holds {found[0]}. Remove the folder or choose another.")
        self._jobs: dict[Split, JobWriter] = {split: JobWriter(self.out, spec, split, 0) for split in SPLITS}

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for job in self._jobs.values():
            job.finish() if error is None else job.discard()
        if error is None:
            assemble(self.out, self.spec, dict.fromkeys(SPLITS, 1), self.settings)

    def add(self, split: Split, sample: Sample) -> None:
        """Write one sample.

        Raises:
            ValueError: It does not fit the set.
        """
        if any(sample.key in job._keys for job in self._jobs.values()):
            raise ValueError(f"key {sample.key!r} is taken")
        self._jobs[split].add(sample)
        self._jobs[split].close_full_shard()


def frame_rate(times: np.ndarray) -> float:
    """Return mean frames a second, rounded to a millionth."""
    return round((len(times) - 1) / float(times[-1] - times[0]), 6)


def _video(sample: Sample, spec: DatasetSpec) -> bytes:
    """Return the frames as bytes of a member."""
    if spec.storage is Storage.states:
        return pack_states(sample.frames)
    return encode_jpegs(sample.frames) if spec.storage is Storage.jpeg else encode_mp4(sample.frames, frame_rate(sample.times))


def _with_types(sample: Sample) -> Sample:
    """Return the sample with the types that shards hold."""
    actions = None if sample.actions is None else np.ascontiguousarray(sample.actions, dtype=np.float32)
    factors = {
        name: np.ascontiguousarray(value, dtype=np.float32 if value.dtype.kind == "f" else np.int64)
        for name, value in sample.factors.items()
    }
    return Sample(
        **{**vars(sample), "times": np.asarray(sample.times, dtype=np.float64), "actions": actions, "factors": factors}
    )


def _factor_info(name: str, value: np.ndarray, aggregations: dict[str, Aggregation]) -> FactorInfo:
    continuous = value.dtype.kind == "f"
    return FactorInfo(
        value.shape[1:], "continuous" if continuous else "discrete", aggregations.get(name, "sum" if continuous else "max")
    )
