"""Which episodes closed loops were in: how many were solved before anything was done, and whether all rows had the same."""

from __future__ import annotations

from lam.report.stats.control import ALL_LABELS
from lam.report.stats.measures import CLOSED_LOOP
from lam.report.stats.rows import Comparison

UNKNOWN = "unknown episodes (acted before episodes had manifests)"


def episode_notes(comparison: Comparison, budget: str) -> list[str]:
    """Say which episodes the rows at a label budget and the true simulator acted in; nothing where none acted.

    Args:
        comparison: All rows of a setting.
        budget: Label budget in clips.
    """
    rows: dict[str, list[str]] = {}
    counts: dict[str, tuple[int, int, int]] = {}
    for row in [*comparison.unlabeled, *comparison.bounds.values()]:
        for seed, run in row.runs.items():
            own = ALL_LABELS if row.family == "simulator" else budget
            if f"{CLOSED_LOOP}success@{own}" not in run.metrics:
                continue
            acted = run.episodes.get(own)
            digest = acted.sha256 if acted else ""
            rows.setdefault(digest, []).append(f"{row.name} seed {seed}")
            if acted:
                counts[digest] = (acted.num, acted.solved_at_start, acted.drawn)
    said = {
        digest: "{} episodes ({} of {} drawn pairs were solved at the start and replaced; SHA-256 {})".format(
            *counts[digest], digest[:12]
        )
        for digest in counts
    }
    if not said:
        return []
    if len(rows) == 1:
        return [f"Closed loops: all acted in the same {next(iter(said.values()))}."]
    most = max(rows, key=lambda digest: len(rows[digest]))
    others = [f"{said.get(digest, UNKNOWN)}: {', '.join(names)}" for digest, names in rows.items() if digest != most]
    return [
        f"Closed loops: **not all acted in the same episodes**, so their success is not paired. Most in "
        f"{said.get(most, UNKNOWN)}; {'; '.join(others)}. Validate the older ones again with lam control validate."
    ]
