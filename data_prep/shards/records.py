"""Records of how far the jobs of a set have come, from which its summary is made once all are done."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from data_prep.shards.statistics import RunningStatistics
from lam.data.schema import FactorInfo, ShardInfo, Split
from lam.io import write_text

PARTS = ".parts"


@dataclass(frozen=True)
class ProgressRecord:
    """Progress of a job after a written shard, or at its end.

    Attributes:
        split: Split of the job.
        shard: The shard; None for the end of the job.
        statistics: What was counted since the record before.
        factors: Recorded factors, None before the first sample.
        recording: Which recording of the job to go on with.
        clip: Which of its clips to go on with.
    """

    split: Split
    shard: ShardInfo | None
    statistics: RunningStatistics
    factors: dict[str, FactorInfo] | None
    recording: int
    clip: int

    def save(self, path: Path) -> None:
        """Write the record atomically."""
        record = asdict(self)
        del record["factors"], record["statistics"]  # files have the names causes and tally
        record["causes"] = None if self.factors is None else {name: info.to_record() for name, info in self.factors.items()}
        record["tally"] = self.statistics.to_json()
        write_text(path, json.dumps(record))

    @classmethod
    def load(cls, path: Path) -> ProgressRecord:
        """Read a record."""
        record = json.loads(path.read_text())
        shard, factors = record.pop("shard"), record.pop("causes")
        if shard:
            shard = ShardInfo(**{**shard, "lengths": tuple(shard["lengths"]), "counts": tuple(shard["counts"])})
        if factors is not None:
            factors = {name: FactorInfo.from_record(factor) for name, factor in factors.items()}
        return cls(shard=shard, factors=factors, statistics=RunningStatistics.from_json(record.pop("tally")), **record)


def job_records(out: Path, split: Split, job: int) -> list[ProgressRecord]:
    """Return records of a job's shards so far, in order."""
    return [ProgressRecord.load(path) for path in sorted((out / PARTS).glob(f"{split}-{job:06d}-*.json"))]


def end_record_path(out: Path, split: Split, job: int) -> Path:
    """Return where the record of a job's end lies once it is done."""
    return out / PARTS / f"{split}-{job:06d}.end.json"
