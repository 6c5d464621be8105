"""Inspection of a source before anything is written: what it holds and what looks like a mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.inspection.action_lag import ActionLag, format_lag, lag_targets, measure_lag
from data_prep.inspection.action_stats import ActionDimension, describe_dimensions, find_anomalies, starts_at_zero
from data_prep.inspection.image_motion import ENERGY
from data_prep.inspection.preview import RecordingPreview, preview_recordings
from data_prep.sources.base import Listing, Source

_PRINTED, _SIZES = 10, 4  # of what cannot be read, of sizes
_STILL = 2e-5  # mean absolute difference, of levels 0 to 1, below which a frame repeats the one before


def inspect_source(source: Source, name: str, plots: Path | None = None, recordings: int = 20, frames: int = 600) -> str:
    """Say what a source holds, from its list and from some of its recordings; writes no shards.

    Args:
        source: The source, with its options.
        name: What it is called.
        plots: Folder for a picture of what was found, ``<name>.png``; none is drawn if not given.
        recordings: Recordings to read, evenly spread.
        frames: Frames to read of each, from its beginning; more where there are fewer recordings.

    Returns:
        The text; what deserves a second look begins with an exclamation mark.

    Raises:
        FileNotFoundError: There is nothing of this kind.
        ValueError: What is there has another layout, or the numbers asked for are too small.
    """
    if recordings < 1 or frames < 2:
        raise ValueError(f"--recordings is {recordings}, expected 1 or more; frames is {frames}, expected 2 or more.")
    listing = source.find()
    lines = format_listing(name, source, listing)
    if not listing.recordings:
        return "\n".join(lines)
    seen, failed = preview_recordings(source, listing.recordings, recordings, frames)
    lines += [f"! Cannot be read: {which}: {reason}" for which, reason in failed[:_PRINTED]]
    lines += [f"! ... and {len(failed) - _PRINTED} more"] if len(failed) > _PRINTED else []
    if not seen:
        return "\n".join(lines)
    lines += ["", *format_frames(seen, len(listing.recordings)), ""]
    fields = source.action_fields()
    acted = [each for each in seen if each.actions is not None]
    numbers, lag = None, None
    if fields and acted:
        actions = [each.actions for each in acted if each.actions is not None]
        numbers = describe_dimensions(fields, np.concatenate(actions))
        lag = measure_lag(
            [each.motion for each in acted], [lag_targets(rows, fields) for rows in actions], [each.source for each in acted]
        )
        lines += format_actions(numbers, acted, actions, lag)
        lines += ["", *format_lag(lag, vars(source), starts_at_zero(actions))]
    else:
        lines += ["Actions: none."]
    if plots is not None:
        from data_prep.inspection.figure import draw_inspection  # matplotlib takes a second to import

        plots.mkdir(parents=True, exist_ok=True)
        lines += ["", f"Picture: {draw_inspection(plots / f'{name}.png', name, seen, numbers, lag)}"]
    return "\n".join(lines)


def format_listing(name: str, source: Source, listing: Listing) -> list[str]:
    """Return what was found, without opening it."""
    groups = len({each.group for each in listing.recordings})
    size = sum(each.size for each in listing.recordings) / 2**20
    lines = [f"{name} {source.src}: {len(listing.recordings)} recordings of {groups} sources, {size:.1f} MiB."]
    given = {split: sum(each.split == split for each in listing.recordings) for split in ("train", "val")}
    if any(given.values()):
        lines.append(f"The source says which split they are of: {given['train']} train, {given['val']} val.")
    lines += [f"! {note}" for note in listing.notes]
    if listing.unreadable:
        lines.append("! Cannot be used:")
        lines += [f"!   {which}: {reason}" for which, reason in listing.unreadable[:_PRINTED]]
        lines += [f"!   ... and {len(listing.unreadable) - _PRINTED} more"] if len(listing.unreadable) > _PRINTED else []
    return lines


def format_frames(seen: Sequence[RecordingPreview], listed: int) -> list[str]:
    """Return numbers of frames, lengths, sizes and frame rates."""
    counts, whole = np.array([len(each.times) for each in seen]), sum(each.whole for each in seen)
    seconds = np.array([each.times[-1] - each.times[0] for each in seen])
    begun = "" if whole == len(seen) else f", {whole} of them to the end"
    lines = [
        f"Read {len(seen)} of {listed} recordings{begun}: {counts.sum()} frames.",
        f"  frames each   {_spread(counts, '.0f')}",
        f"  seconds each  {_spread(seconds, '.2f')}",
    ]
    sizes = Counter(f"{each.width} x {each.height}" for each in seen)
    said = ", ".join(size if len(sizes) == 1 else f"{size} ({count})" for size, count in sizes.most_common(_SIZES))
    lines.append(f"  width x height  {said}{', ...' if len(sizes) > _SIZES else ''}")
    gaps = [np.diff(each.times) for each in seen if len(each.times) > 1]
    if not gaps:
        return [*lines, "! No recording has two frames."]
    rates = np.array([1 / np.median(each) for each in gaps])
    joined = np.concatenate([each / np.median(each) for each in gaps])
    low, high = np.quantile(joined, [0.01, 0.99])
    lines.append(f"  frames a second {_spread(rates, '.3g')}; 98 % of intervals are {low:.2f} to {high:.2f} of the middle one")
    if high > 1.1 or low < 0.9 or joined.max() > 1.5:
        longest = max(each.max() for each in gaps)
        lines.append(f"! The frame rate varies; the longest interval is {longest:.3g} s.")
    still = np.mean(np.concatenate([each.motion[:, ENERGY] for each in seen]) < _STILL)
    if still > 0.05:
        lines.append(f"! {still:.0%} of the frames repeat the one before: nothing moves, or the true frame rate is lower.")
    return lines


def _spread(values: np.ndarray, form: str) -> str:
    """Return smallest, middle and largest of some values."""
    low, middle, high = (format(value, form) for value in np.quantile(values, [0, 0.5, 1]))
    return low if low == high else f"{low} to {high}, middle {middle}"


def format_actions(
    numbers: Sequence[ActionDimension], acted: Sequence[RecordingPreview], actions: Sequence[np.ndarray], lag: ActionLag
) -> list[str]:
    """Return a table with a line for each number of an action that changes, and what looks like a mistake."""
    wide = max(len("number"), *(len(each.name) for each in numbers))
    lines = [
        f"Actions: {len(numbers)} numbers, {sum(map(len, actions))} rows.",
        f"  {'number':{wide}} join      min      max     mean      std  at min  at max  outside ±1  motion R² at lag",
    ]
    for i, each in enumerate(numbers):
        if each.constant:
            continue
        values = " ".join(f"{value:8.3g}" for value in (each.low, each.high, each.mean, each.std))
        shares = f"{each.at_low:7.1%} {each.at_high:7.1%} {each.outside:11.1%}"
        curve = lag.r2[:, i]
        best = f"{curve.max():8.2f} {lag.lags[curve.argmax()]:6d}" if lag.visible[i] else "       -"
        lines.append(f"  {each.name:{wide}} {each.aggregation:4} {values} {shares}    {best}")
    if short := [e.name for e, rows in zip(acted, actions, strict=True) if len(rows) < len(e.times) - 1]:
        lines.append(f"! {len(short)} recordings have fewer rows of actions than steps between frames, the first {short[0]}.")
    if acted[0].factors:
        lines.append(f"  also recorded: {', '.join(acted[0].factors)}")
    return lines + [f"! {remark}" for remark in find_anomalies(numbers, actions)]
