"""A job: some recordings of a split, written to shards of its own. What is written stays; a job goes on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

from data_prep.pipeline.plan import PlannedRecording, format_error
from data_prep.shards.records import PARTS, end_record_path
from data_prep.shards.sample import DatasetSpec, Sample, SampleGenerator
from data_prep.shards.writer import JobWriter
from lam.data.schema import INDEX_FILE, Split


@dataclass(frozen=True)
class ShardJob:
    """Some recordings of a split, which a worker writes to shards of their own.

    Attributes:
        out: Folder to write to.
        spec: What all samples have in common.
        generator: Makes the samples.
        split: Split of the job.
        number: Its number in the split.
        entries: Its recordings.
        crashing: Names of recordings that killed their reader, and what happened; they are left out.
    """

    out: Path
    spec: DatasetSpec
    generator: SampleGenerator
    split: Split
    number: int
    entries: list[PlannedRecording]
    crashing: Mapping[str, str] = field(default_factory=dict)

    @property
    def note(self) -> Path:
        """Return the file that names the recording being read and locks the job against a second process."""
        return self.out / PARTS / f"{self.split}-{self.number:06d}.reading"

    @property
    def is_done(self) -> bool:
        """Return whether it has been done."""
        return end_record_path(self.out, self.split, self.number).is_file()

    @property
    def size(self) -> int:
        """Return how much work it is, in bytes."""
        return sum(entry.recording.size for entry in self.entries)

    def run(self, progress: Callable[[int], None]) -> None:
        """Do what is not done yet.

        Args:
            progress: Called with the size of every recording that is done.

        Raises:
            OSError: It cannot be written; what has been finished stays.
        """
        with _locked(self.note) as reading:
            if self.is_done or (self.out / INDEX_FILE).is_file():  # another process may have done all that was left
                return
            writer = JobWriter(self.out, self.spec, self.split, self.number)
            try:
                for place in range(writer.recording, len(self.entries)):
                    writer.recording = place
                    name = self.entries[place].recording.name
                    reading(name)
                    if name in self.crashing:
                        writer.statistics.quarantined.append((name, self.crashing[name]))
                    else:
                        _write_recording(writer, self.generator, self.entries[place])
                    writer.recording, writer.clip = place + 1, 0
                    progress(self.entries[place].recording.size)
                writer.finish()
            except BaseException:
                writer.discard()
                raise


def _write_recording(writer: JobWriter, generator: SampleGenerator, entry: PlannedRecording) -> None:
    """Write the clips of a recording that are not written yet; what cannot be read is noted with its reason."""
    name, done, made = entry.recording.name, writer.clip, 0

    def drop(reason: str) -> None:
        if made >= done and entry.first <= made and (entry.stop is None or made < entry.stop):
            writer.statistics.dropped[reason] += 1

    samples = generator.samples(entry.recording, drop)
    try:
        while (sample := _next(samples)) is not None:
            made += 1
            if made <= done or (chosen := _chosen(entry, made - 1, sample)) is None:
                continue
            writer.add(chosen)
            writer.clip = made
            writer.close_full_shard()
    except _UnreadableError as error:
        until = f"damaged after {made} clips, which are kept: " if made else ""
        writer.statistics.quarantined.append((name, until + format_error(error.__cause__ or error)))
    except ValueError as error:  # a sample does not fit the set
        writer.statistics.quarantined.append((name, format_error(error)))


class _UnreadableError(Exception):
    """Failure to read a recording, or to read it to its end."""


def _next(samples: Iterator[Sample]) -> Sample | None:
    """Return the next sample, None at the end; whatever goes wrong while reading is told apart from errors of writing."""
    try:
        return next(samples, None)
    except MemoryError:
        raise
    except Exception as error:
        raise _UnreadableError from error


def _chosen(entry: PlannedRecording, clip: int, sample: Sample) -> Sample | None:
    """Return the clip, or the part of it, that an entry asks for."""
    if entry.cut is not None:
        return _frames(sample, slice(0, entry.cut) if entry.stop == 0 else slice(entry.cut, None))
    inside = clip >= entry.first and (entry.stop is None or clip < entry.stop)
    return sample if inside else None


def _frames(sample: Sample, part: slice) -> Sample:
    """Return some frames of a sample, and the steps between them."""
    times = sample.times[part]
    steps = slice(part.start, part.start + len(times) - 1)
    return dataclasses.replace(
        sample,
        key=f"{sample.key.rsplit('/', 1)[0]}/{round(times[0] * 1000):09d}",
        frames=sample.frames[part],
        times=np.asarray(times),
        actions=None if sample.actions is None else sample.actions[steps],
        factors={name: value[steps] for name, value in sample.factors.items()},
        first=sample.first if part.start == 0 else -1,
    )


@contextlib.contextmanager
def lock(path: Path) -> Iterator[TextIO]:
    """Hold a file's lock, waiting for whoever has it, and give the file; who had it may have removed its folder meanwhile."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            file = path.open("w")
            break
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[Callable[[str], None]]:
    """Hold a lock, waiting for whoever has it, and give a function that notes what is being read."""
    with lock(path) as file:

        def reading(name: str) -> None:
            file.seek(0)
            file.truncate()
            file.write(name)
            file.flush()

        yield reading
