"""Finalization: from the records of all jobs to the summary of a finished folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from data_prep.shards.duplicates import leave_out_duplicates
from data_prep.shards.records import PARTS, ProgressRecord, end_record_path, job_records
from data_prep.shards.sample import DatasetSpec
from data_prep.shards.statistics import RunningStatistics
from lam.data.index import DataIndex
from lam.data.schema import SPLITS, FactorInfo, Quarantined, ShardInfo, Split
from lam.io import write_text

_LISTED = 100  # quarantined items in index.json; the rest is in quarantined.txt


def missing_jobs(out: Path, jobs: dict[Split, int]) -> list[tuple[Split, int]]:
    """Return jobs that are not done yet, of so many in each split."""
    return [
        (split, job) for split, count in jobs.items() for job in range(count) if not end_record_path(out, split, job).is_file()
    ]


def assemble(
    out: Path,
    spec: DatasetSpec,
    jobs: dict[Split, int],
    settings: dict[str, Any],
    unreadable: list[tuple[str, str]] | None = None,
    duplicates_below: float = 0.0,
) -> DataIndex:
    """Make the summary of a folder whose jobs are all done, and remove their records.

    Args:
        out: The folder.
        spec: What all samples have in common.
        jobs: Number of jobs of each split.
        settings: What the set was made with.
        unreadable: What was left out before any job began, and why.
        duplicates_below: Segments whose thumbnails differ by less than this many of 255 levels are kept once; 0 keeps all.

    Raises:
        ValueError: There are no samples, or the jobs recorded different factors.
    """
    total = RunningStatistics(quarantined=list(unreadable or []))
    shards: dict[Split, list[ShardInfo]] = {split: [] for split in SPLITS}
    factors: dict[str, FactorInfo] | None = None
    for split, count in jobs.items():
        for job in range(count):
            for record in [*job_records(out, split, job), ProgressRecord.load(end_record_path(out, split, job))]:
                total.merge(record.statistics)
                if record.shard is not None:
                    shards[split].append(record.shard)
                if None not in (factors, record.factors) and record.factors != factors:
                    raise ValueError(f"{out}: some samples recorded {record.factors}, others {factors}. Prepare them apart.")
                factors = record.factors if factors is None else factors
    if duplicates_below > 0:
        shards, found = leave_out_duplicates(out, shards, duplicates_below)
        total.dropped.update({"near-duplicate": found} if found else {})
    if not any(shards.values()):
        reasons = [f"{name}: {reason}" for name, reason in total.quarantined]
        reasons += [f"{count} segments: {reason}" for reason, count in total.dropped.items()]
        raise ValueError(f"Nothing usable was found. {'; '.join(reasons[:5])}.")
    index = _index(out, spec, total, shards, factors or {}, settings)
    if total.quarantined:
        write_text(out / "quarantined.txt", "".join(f"{name}\t{reason}\n" for name, reason in total.quarantined))
    index.save()
    shutil.rmtree(out / PARTS, ignore_errors=True)  # another process that ends now may make its lock there
    return DataIndex.load(out)


def _index(
    out: Path,
    spec: DatasetSpec,
    total: RunningStatistics,
    shards: dict[Split, list[ShardInfo]],
    factors: dict[str, FactorInfo],
    settings: dict[str, Any],
) -> DataIndex:
    mean, std = total.pixel_moments()
    return DataIndex(
        path=out,
        storage=spec.storage,
        height=spec.height,
        width=spec.width,
        fps=round(total.steps / total.seconds, 6),
        pixel_mean=mean,
        pixel_std=std,
        splits={split: shards[split] for split in SPLITS},
        actions=list(spec.actions),
        action_statistics=total.actions.statistics(),
        factors=factors,
        features=spec.features,
        settings=settings,
        dropped=dict(sorted(total.dropped.items())),
        quarantined=[Quarantined(name, reason) for name, reason in total.quarantined[:_LISTED]],
        num_quarantined=len(total.quarantined),
    )
