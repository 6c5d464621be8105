"""Runs: from a source and options to a finished folder of shards, begun anew or continued."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.options import OutputOptions, PreparationOptions
from data_prep.pipeline.engine import Engine
from data_prep.pipeline.job import ShardJob, lock
from data_prep.pipeline.plan import JobPlan, PlannedRecording, make_plan
from data_prep.pipeline.segment import SegmentGenerator
from data_prep.shards.finalize import assemble, missing_jobs
from data_prep.shards.records import PARTS
from data_prep.shards.sample import DatasetSpec, SampleGenerator
from data_prep.sources.base import Listing, Recording, Source, sha256
from lam.data.index import DataIndex
from lam.data.schema import INDEX_FILE, SPLITS, Storage, side_index_name
from lam.io import write_text

_PLAN = "plan.json"
_FINISH = "finish.lock"
_ENOUGH_SOURCES = 10  # of a split: fewer leave wide intervals, one leaves none
_SAID = 20  # reasons that are printed; all are in quarantined.txt


def default_storage(size: int) -> Storage:
    """Return packed JPEG up to 128 pixels, where small windows decode several times faster than mp4; mp4 for larger frames."""
    return Storage.jpeg if size <= 128 else Storage.mp4


def prepare_source(
    source: Source, options: dict[str, Any], out: Path, preparation: PreparationOptions, output: OutputOptions, engine: Engine
) -> int:
    """Turn a source into a folder of shards.

    Args:
        source: The source.
        options: What it was made with, for the index.
        out: Folder for the shards: new, or of the same command before, which then goes on.
        preparation: How recordings become samples.
        output: How the set is split and stored.
        engine: How the work is done.

    Returns:
        Exit code: 3 if something could not be read and was left out, else 0.
    """
    listing = source.find()
    storage = output.storage or default_storage(preparation.size)
    if storage is Storage.states:
        raise ValueError("--storage states holds features of an encoder; make it with data_prep features.")
    if storage is Storage.mp4 and preparation.size % 2:
        raise ValueError(f"mp4 needs an even --size, got {preparation.size}. Change it or choose --storage jpeg.")
    spec = DatasetSpec(
        height=preparation.size,
        width=preparation.size,
        storage=storage,
        actions=source.action_fields(),
        factor_aggregations=source.factor_aggregations(),
        bytes_per_shard=int(output.shard_megabytes * 2**20),
    )
    settings = {**options, **dataclasses.asdict(preparation), **dataclasses.asdict(output), "storage": storage.name}
    generator = SegmentGenerator(source, preparation)

    def plan() -> JobPlan:
        return make_plan(listing, generator, output.val_share, output.seed, preparation.min_frames)

    return write_set(out, generator, spec, listing, plan, settings, engine, preparation.duplicates_below)


def write_set(
    out: Path,
    generator: SampleGenerator,
    spec: DatasetSpec,
    listing: Listing,
    plan: Callable[[], JobPlan],
    settings: dict[str, Any],
    engine: Engine,
    duplicates_below: float = 0.0,
) -> int:
    """Do the jobs that are not done yet and, when none is missing, make the summary.

    Args:
        out: Folder for the shards.
        generator: Makes the samples.
        spec: What all samples have in common.
        listing: The recordings.
        plan: Makes the plan; only called for a folder without one.
        settings: What the set is made with.
        engine: How the work is done.
        duplicates_below: As in ``PreparationOptions``.

    Returns:
        Exit code: 3 if something could not be read and was left out, else 0.
    """
    settings = json.loads(json.dumps({**settings, "input_sha256": _fingerprint(listing)}))
    if (out / INDEX_FILE).is_file():
        shutil.rmtree(out / PARTS, ignore_errors=True)  # of a process that was killed in between
        index = DataIndex.load(out)
        _check_same(out, index.settings, settings)
        print(f"{out} is finished, with these settings and files: nothing to do.")
        return 3 if index.num_quarantined else 0
    try:
        planned = _load_plan(out, listing, plan, settings)
    except (FileNotFoundError, ValueError):
        if not (out / INDEX_FILE).is_file():
            raise
        # another process has finished the folder meanwhile
        return write_set(out, generator, spec, listing, plan, settings, engine, duplicates_below)
    jobs = [
        ShardJob(out, spec, generator, split, number, entries)
        for split in SPLITS
        for number, entries in enumerate(planned.jobs[split])
    ]
    try:
        engine.run(jobs, out.name)
    except OSError as error:
        raise ValueError(
            f"{out} cannot be written ({error}). What is finished stays: make room and run the same command again."
        ) from error
    counts = {split: len(planned.jobs[split]) for split in SPLITS}
    with lock(out / PARTS / _FINISH):  # processes that end at once make the summary one after the other
        if (out / INDEX_FILE).is_file():
            index = DataIndex.load(out)
            shutil.rmtree(out / PARTS, ignore_errors=True)
        elif missing := missing_jobs(out, counts):
            print(f"{out}: {len(missing)} jobs of other parts are not done. When all are, run the command without --part.")
            return 0
        else:
            notes = {"note": planned.note} if planned.note else {}
            index = assemble(out, spec, counts, {**settings, **notes}, listing.unreadable, duplicates_below)
    print(summary(index, listing.notes))
    return 3 if index.num_quarantined else 0


def summary(index: DataIndex, notes: list[str]) -> str:
    """Say what was made and what was left out."""
    totals = {split: sum(info.samples for info in index.splits[split]) for split in SPLITS}
    size = sum(info.bytes for infos in index.splits.values() for info in infos)
    lines = [f"{index.path}: {totals['train']} training and {totals['val']} validation clips, {size / 2**20:.1f} MiB."]
    lines += [f"Note: {index.settings['note']}."] if "note" in index.settings else []
    lines += [f"Warning: {text}" for text in _few_sources(index)]
    lines += notes
    lines += [f"Left out {count} segments: {reason}." for reason, count in index.dropped.items()]
    lines += [f"Left out {item.source}: {item.reason}." for item in index.quarantined[:_SAID]]
    if index.num_quarantined > _SAID:
        lines += [f"... and {index.num_quarantined - _SAID} more, all in {index.path}/quarantined.txt."]
    return "\n".join(lines)


def _few_sources(index: DataIndex) -> list[str]:
    """Say of each split that it has too few sources, if it does; its clips are of one source where their names say so."""
    consequences = {
        "train": "a model sees little variety",
        "val": "reports count the clips of a source as one, so that intervals are wide with few sources and missing with one",
    }
    lines = []
    for split in SPLITS:
        tables = (
            pq.ParquetFile(str(Path(index.path) / side_index_name(info.name))).read(["source"], use_threads=False)
            for info in index.splits[split]
        )
        sources = {name for table in tables for name in table["source"].to_pylist()}
        if 0 < len(sources) < _ENOUGH_SOURCES:
            number = f"{len(sources)} source" + "s" * (len(sources) > 1)
            lines.append(
                f"the split {split} has {number}, expected at least {_ENOUGH_SOURCES}: {consequences[split]}. "
                "Give it more recordings or clips."
            )
    return lines


def _load_plan(out: Path, listing: Listing, plan: Callable[[], JobPlan], settings: dict[str, Any]) -> JobPlan:
    """Return the plan that an interrupted run of the same command made, or a new one.

    Raises:
        ValueError: The folder holds something else.
    """
    path = out / PARTS / _PLAN
    if not path.is_file():
        found = sorted(entry.name for entry in out.iterdir() if entry.name != PARTS) if out.is_dir() else []
        if found and not path.is_file():  # another process may have begun meanwhile
            raise ValueError(f"{out} already holds {found[0]}, which is not of an interrupted run. Choose another folder.")
        made = plan()
        _save_plan(path, made, settings)
        return made
    record = json.loads(path.read_text())
    _check_same(out, record["settings"], settings)
    recordings = {recording.name: recording for recording in listing.recordings}
    print(f"{out}: going on where an earlier run stopped.", file=sys.stderr)
    return JobPlan(
        {
            split: [[PlannedRecording(recordings[name], *rest) for name, *rest in job] for job in record["jobs"][split]]
            for split in SPLITS
        },
        record["note"],
    )


def _save_plan(path: Path, plan: JobPlan, settings: dict[str, Any]) -> None:
    jobs = {split: [[(e.recording.name, e.first, e.stop, e.cut) for e in job] for job in plan.jobs[split]] for split in SPLITS}
    write_text(path, json.dumps({"settings": settings, "note": plan.note, "jobs": jobs}))


def _check_same(out: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise ValueError where a folder was made with other settings or from other files."""
    changed = [name for name in wanted if found.get(name) != wanted[name]]
    if changed:
        what = ", ".join("the input files" if name == "input_sha256" else name for name in changed)
        raise ValueError(f"{out} was made with other settings ({what}). Remove it or choose another folder.")


def _fingerprint(listing: Listing) -> str:
    """Return the hash of what was found."""
    return sha256("\n".join(_identity(recording) for recording in listing.recordings))


def _identity(recording: Recording) -> str:
    return f"{recording.name} {recording.group} {recording.size} {recording.split} {recording.state}"
