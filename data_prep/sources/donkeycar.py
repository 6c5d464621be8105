"""Source ``donkeycar``: drives of small cars, in tubs of Donkey Car, version 2.

A tub is a manifest, catalogs of records and a folder of images, written by https://github.com/autorope/donkeycar
donkeycar/parts/datastore_v2.py: manifest.json has five lines (names of what is recorded, their types, two of metadata, and
which catalogs there are); a catalog has a line of JSON a record.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from typing_extensions import override

from data_prep.sources.action_rows import as_actions
from data_prep.sources.base import Listing, Recording, Source, Stream, file_state
from data_prep.sources.image_files import read_images
from lam.data.schema import ActionField

ACTIONS = ("user/angle", "user/throttle")


@dataclass(frozen=True)
class TubRecord:
    """Image and action of a moment.

    Attributes:
        index: Its number in the tub.
        milliseconds: When, since 1970.
        image: Name of the image file.
        action: Angle of the steering, -1 to 1, and throttle.
    """

    index: int
    milliseconds: int
    image: str
    action: tuple[float, float]


@dataclass
class Tub:
    """Folder of a drive, opened by its manifest.

    Attributes:
        folder: Its folder.
        catalogs: Names of the catalogs that its manifest lists and that are there.
        absent: Names of those that are not there.
        deleted: Numbers of the records that were marked as deleted.
        image: Name of what is recorded as the picture.
        left_out: How many records were not taken, by reason; counted while they are read.
    """

    folder: Path
    catalogs: list[str]
    absent: list[str]
    deleted: set[int]
    image: str
    left_out: Counter[str] = field(default_factory=Counter)

    @classmethod
    def load(cls, folder: Path) -> Tub:
        """Read the manifest.

        Raises:
            ValueError: It is not that of a tub.
        """
        try:
            names, types, *_, catalogs = [
                json.loads(line) for line in (folder / "manifest.json").read_text().splitlines() if line
            ]
            listed, deleted = catalogs["paths"], set(catalogs["deleted_indexes"])
            image = names[types.index("image_array")]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"manifest.json is not that of a Donkey Car tub, version 2 ({error!r})") from error
        there = [name for name in listed if (folder / name).is_file()]
        return cls(folder, there, [name for name in listed if name not in there], deleted, image)

    def read(self, catalog: str) -> list[TubRecord]:
        """Read the records of a catalog by which a person drove, without deleted ones.

        Raises:
            ValueError: A record lacks what is needed.
        """
        records = []
        for line in (self.folder / catalog).read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                self.left_out["not JSON"] += 1
                continue
            if missing := [key for key in ("_index", "_timestamp_ms", self.image, *ACTIONS) if key not in record]:
                raise ValueError(f"{catalog} has a record without {', '.join(missing)}; it has {', '.join(record)}")
            if record["_index"] in self.deleted:
                self.left_out["marked as deleted"] += 1
            elif record.get("user/mode", "user") != "user":
                self.left_out["not driven by a person"] += 1
            else:
                action = (float(record[ACTIONS[0]]), float(record[ACTIONS[1]]))
                records.append(TubRecord(record["_index"], record["_timestamp_ms"], record[self.image], action))
        return records


class DonkeyCar(Source):
    """Drives of small cars: folders with a manifest.json (tubs of Donkey Car, version 2), searched in depth.

    A tub is cut into recordings where time stands still, jumps or goes back and where records are missing, deleted or without
    picture; longer ones are cut further, so that there is something to split. Recordings are split by chance, so one for
    validation may follow at once on one for training, and a track is the same in both: validation shows other moments of a
    drive, not another drive. Put drives into tubs of their own and prepare them apart where that matters.

    Actions are angle (-1 to 1) and throttle, averaged when frames are left out.

    Args:
        src: A tub, or a folder of tubs.
        max_gap: Longest time from a frame to the next of a recording, seconds.
        episode_seconds: Longest recording; what is longer is cut into equal parts.
        lag: How many frames later the steering shows in the picture, for servo and camera take time: the action from frame i
            to i + 1 is that recorded with frame i - lag. The first frames after a gap, which have none, are left out.
    """

    def __init__(self, src: Path, max_gap: float = 1.0, episode_seconds: float = 60.0, lag: int = 0) -> None:
        if not max_gap > 0 or not episode_seconds > 0 or lag < 0:
            raise ValueError(
                f"--max_gap is {max_gap} and --episode_seconds {episode_seconds}, expected above 0; "
                f"--lag is {lag}, expected 0 or more."
            )
        self.src = Path(src)
        self.max_gap, self.episode_seconds, self.lag = max_gap, episode_seconds, lag

    @override
    def find(self) -> Listing:
        """Return all recordings of all tubs."""
        listing = Listing([])
        manifests = sorted(self.src.rglob("manifest.json")) if self.src.is_dir() else []
        if not manifests:
            raise FileNotFoundError(f"{self.src} has no manifest.json in it, expected a Donkey Car tub, version 2.")
        for manifest in manifests:
            name = manifest.parent.relative_to(self.src).as_posix()
            try:
                self._add(listing, name, Tub.load(manifest.parent))
            except (ValueError, OSError) as error:
                listing.unreadable.append((name, str(error)))
        return listing

    def _add(self, listing: Listing, name: str, tub: Tub) -> None:
        """Add the recordings of a tub."""
        with os.scandir(tub.folder / "images") as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries}
        records = [(record, catalog) for catalog in tub.catalogs for record in tub.read(catalog)]
        records.sort(key=lambda pair: pair[0].index)
        catalogs = {record.index: catalog for record, catalog in records}
        if lost := [record.image for record, _ in records if record.image not in sizes]:
            listing.unreadable.append((f"{name}/images", f"{len(lost)} pictures are not there, the first {lost[0]}"))
        if tub.absent:
            listing.unreadable.append((f"{name}/manifest.json", f"catalogs it lists are not there: {', '.join(tub.absent)}"))
        listing.notes.extend(f"{count} records of {name} are {reason}." for reason, count in tub.left_out.items())
        for drive in drives((record for record, _ in records if record.image in sizes), self.max_gap):
            for part in equal_parts(drive[self.lag :], self.episode_seconds):
                first, last = part[0].index, part[-1].index
                used = sorted({catalogs[index] for index in range(first - self.lag, last + 1)})
                recording = f"{name}/{first:06d}" if name != "." else f"{first:06d}"
                place = {"tub": str(tub.folder), "catalogs": used, "first": first, "last": last}
                state = file_state(tub.folder / "manifest.json", *(tub.folder / catalog for catalog in used))
                size = sum(sizes[record.image] for record in part)
                listing.recordings.append(Recording(recording, recording, size, place, state=state))

    @override
    def action_fields(self) -> list[ActionField]:
        """Return angle and throttle."""
        return [ActionField("angle", 1, "mean"), ActionField("throttle", 1, "mean")]

    @override
    def open(self, recording: Recording) -> Stream:
        """Return the frames from one record to another.

        Raises:
            ValueError: Actions are not finite numbers.
        """
        tub, place = Tub.load(Path(recording.place["tub"])), recording.place
        records = {record.index: record for catalog in place["catalogs"] for record in tub.read(catalog)}
        frames = [records[index] for index in range(place["first"], place["last"] + 1)]
        factors = [records[frame.index - self.lag] for frame in frames]
        times = [(frame.milliseconds - frames[0].milliseconds) / 1000 for frame in frames]
        files = [tub.folder / "images" / frame.image for frame in frames]
        return Stream(read_images(files, times), as_actions(np.array([factor.action for factor in factors])))


def drives(records: Iterable[TubRecord], max_gap: float) -> list[list[TubRecord]]:
    """Return runs of consecutive records without a gap in time."""
    found: list[list[TubRecord]] = []
    for record in records:
        if found and record.index == (last := found[-1][-1]).index + 1:
            gap = (record.milliseconds - last.milliseconds) / 1000
            if 0 < gap <= max_gap:
                found[-1].append(record)
                continue
        found.append([record])
    return found


def equal_parts(drive: list[TubRecord], longest: float) -> list[list[TubRecord]]:
    """Split a drive into as few parts of equal time as are not longer than this many seconds; none of an empty one."""
    if not drive:
        return []
    start, length = drive[0].milliseconds, drive[-1].milliseconds - drive[0].milliseconds
    count = max(math.ceil(length / 1000 / longest), 1)
    parts = groupby(drive, lambda record: min((record.milliseconds - start) * count // max(length, 1), count - 1))
    return [list(part) for _, part in parts]
