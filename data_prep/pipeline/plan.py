"""The plan: which split each recording goes to, and how the work is cut into jobs. A function of the input and the seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from data_prep.shards.sample import Sample, SampleGenerator
from data_prep.sources.base import Listing, Recording, sha256
from lam.data.schema import SPLITS, Split

ONE_SOURCE = "one usable source only: its last part is the validation split, which is easier than another recording"
"""What index.json notes where validation could not get a source of its own."""
_JOBS = 32  # enough for the cores of a machine
_SMALLEST, _LARGEST = 2**20, 512 * 2**20  # bytes of input: not too many shards, and not too much to redo after a stop


@dataclass(frozen=True)
class PlannedRecording:
    """Recording, or some of it, in a job.

    Attributes:
        recording: The recording.
        first: Its first clip to be written.
        stop: The clip before which to stop; None for all.
        cut: Where its only clip is cut in two: ``stop`` 0 takes the frames before, else those from there on.
    """

    recording: Recording
    first: int = 0
    stop: int | None = None
    cut: int | None = None


@dataclass(frozen=True)
class JobPlan:
    """Jobs of each split, a function of the input and the seed.

    Attributes:
        jobs: Recordings of each job, by split.
        note: What the summary should say of the splits.
    """

    jobs: dict[Split, list[list[PlannedRecording]]]
    note: str = ""


def make_plan(listing: Listing, generator: SampleGenerator, val_share: float, seed: int, min_frames: int) -> JobPlan:
    """Split recordings by their groups, never parting one, and cut them into jobs of about equal size.

    Both splits get a source that gives samples: some are read to see that, no more than needed.

    Args:
        listing: What the source holds.
        generator: Makes samples of it.
        val_share: Share of the groups that go to validation, by their size; at least one.
        seed: Chooses which.
        min_frames: Frames that a clip must have.

    Raises:
        ValueError: Nothing can be used, or the only usable clip is too short for two splits.
    """
    if not 0 <= val_share < 1:
        raise ValueError(f"--val_share is {val_share}, expected from 0 to below 1.")
    if not listing.recordings:
        raise ValueError("Nothing can be read: " + "; ".join(f"{name}: {reason}" for name, reason in listing.unreadable[:5]))
    total = sum(recording.size for recording in listing.recordings)
    if all(recording.split for recording in listing.recordings):
        chosen = {split: [PlannedRecording(r) for r in listing.recordings if r.split == split] for split in SPLITS}
        return JobPlan({split: _cut_jobs(entries, total) for split, entries in chosen.items()})
    groups: dict[str, list[Recording]] = {}
    for recording in listing.recordings:
        groups.setdefault(recording.group, []).append(recording)
    order = sorted(groups, key=lambda group: sha256(f"{seed}/{group}"))
    usable, poor = _two_usable(order, groups, generator)
    if len(usable) == 1:
        return _one_source(groups[usable[0]], [r for group in poor for r in groups[group]], generator, total, min_frames)
    sizes = {group: sum(recording.size for recording in groups[group]) for group in order}
    val, filled = {usable[0]}, sizes[usable[0]]
    for group in order:
        if group in usable or group in poor:
            continue
        if filled + sizes[group] / 2 > val_share * total:
            break
        val.add(group)
        filled += sizes[group]
    entries = {
        split: [PlannedRecording(r) for g in order if (g in val) == (split == "val") for r in groups[g]] for split in SPLITS
    }
    return JobPlan({split: _cut_jobs(entries[split], total) for split in SPLITS})


def _two_usable(
    order: list[str], groups: dict[str, list[Recording]], generator: SampleGenerator
) -> tuple[list[str], list[str]]:
    """Return the first two groups that give samples, and those before them that do not.

    Raises:
        ValueError: No group gives any.
    """
    usable: list[str] = []
    poor: list[str] = []
    reason = ""
    for group in order:
        found, why = _gives_sample(groups[group], generator)
        (usable if found else poor).append(group)
        reason = reason or f"{group}: {why}"
        if len(usable) == 2:
            break
    if not usable:
        raise ValueError(f"Nothing usable was found. {reason}.")
    return usable, poor


def _gives_sample(recordings: Iterable[Recording], generator: SampleGenerator) -> tuple[bool, str]:
    """Return whether any recording gives a sample, and why not."""
    reasons: list[str] = []
    for recording in recordings:
        try:
            for _ in generator.samples(recording, reasons.append):
                return True, ""
        except Exception as error:  # decoders of damaged files raise anything
            reasons.append(format_error(error))
    return False, reasons[0] if reasons else "it is empty"


def _one_source(
    only: list[Recording], poor: list[Recording], generator: SampleGenerator, total: int, min_frames: int
) -> JobPlan:
    """Plan the last part of the only source, in time, for validation."""
    train, val = [PlannedRecording(recording) for recording in poor], []
    for recording in only:
        frames = [len(sample.times) for sample in _readable(recording, generator)]
        if not frames:
            train.append(PlannedRecording(recording))
        elif len(frames) == 1:
            middle = frames[0] - max(min_frames, frames[0] // 5)
            if middle < min_frames:
                raise ValueError(
                    f"{recording.name} is the only usable source and gives one clip of {frames[0]} frames, training and "
                    f"validation need {min_frames} each. Add files or lower --min_frames."
                )
            train.append(PlannedRecording(recording, 0, 0, cut=middle))
            val.append(PlannedRecording(recording, 0, 1, cut=middle))
        else:
            first = len(frames) - max(1, len(frames) // 10)
            train.append(PlannedRecording(recording, 0, first))
            val.append(PlannedRecording(recording, first))
    return JobPlan({"train": _cut_jobs(train, total), "val": _cut_jobs(val, total)}, ONE_SOURCE)


def _readable(recording: Recording, generator: SampleGenerator) -> Iterator[Sample]:
    """Yield samples up to where the recording is damaged; the job that writes them meets the damage again and reports it."""
    try:
        yield from generator.samples(recording, lambda reason: None)
    except Exception:  # decoders of damaged files raise anything
        return


def _cut_jobs(entries: list[PlannedRecording], total: int) -> list[list[PlannedRecording]]:
    """Group consecutive entries to at least a job's size."""
    size = min(max(total / _JOBS, _SMALLEST), _LARGEST)
    jobs: list[list[PlannedRecording]] = []
    filled: float = size
    for entry in entries:
        if filled >= size:
            jobs.append([])
            filled = 0
        jobs[-1].append(entry)
        filled += entry.recording.size
    return jobs


def format_error(error: BaseException) -> str:
    """Return an error as a reason."""
    text = str(error).strip().rstrip(".") or "no reason given"
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
