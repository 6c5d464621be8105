"""Donkey Car tubs, version 2: a manifest, catalogs of records and a folder of images.

Written by https://github.com/autorope/donkeycar donkeycar/parts/datastore_v2.py: manifest.json has five lines (names of what
is recorded, their types, two of metadata, and which catalogs there are); a catalog has a line of JSON a record.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ACTIONS = ("user/angle", "user/throttle")


@dataclass(frozen=True)
class Record:
    """What was recorded at a moment.

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
    """A tub.

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
        """Reads the manifest.

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

    def read(self, catalog: str) -> list[Record]:
        """Records of a catalog by which a person drove, without deleted ones.

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
                records.append(Record(record["_index"], record["_timestamp_ms"], record[self.image], action))
        return records
