"""Source ``rlds``: robot data sets in TFRecord files, an episode a record, as BridgeData, DROID and Open X-Embodiment have.

How the steps of an episode become features of a record: tensorflow/datasets@1755ca4, core/example_serializer.py.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from typing_extensions import override

from data_prep.sources.base import Listing, Recording, Source, Stream, file_state, image_frame, relative
from data_prep.sources.rlds.features import OBSERVATION, Feature, is_blank, read_features, step_images, step_numbers
from data_prep.sources.rlds.tfrecord import find_records, read_record
from lam.data.schema import ActionField, Aggregation, Split

_NAME = re.compile(r"(-(?P<split>[^-]+))?\.tfrecord(-\d+-of-\d+)?$")
_LOOKS = 8  # episodes that are looked at to tell which cameras were not there


@dataclass(frozen=True)
class _Record:
    """Episode: its file, its number there, the byte it begins at, and its bytes."""

    file: Path
    number: int
    offset: int
    length: int


class Rlds(Source):
    """TFRecord files of TensorFlow Datasets in the layout RLDS, such as BridgeData, DROID and the sets of Open X-Embodiment.

    The folder has features.json beside the files. Row i of the actions is what was done from step i to step i + 1, so the
    last is dropped. A camera of an episode is a recording. Files of a validation or test split are used for validation.

    Args:
        src: Folder of the files, or one of them.
        images: Features of an observation that are pictures. If not given all with three channels, except those that are the
            same picture in all steps of the episodes looked at, which stands where a camera was not there.
        actions: Feature of a step that holds the actions; of a group group/name; for several [name,name].
        absolute: Which numbers of the actions, counted from 0 over all of them, are targets, of which the last counts when
            steps are left out, such as [6], the gripper of BridgeData. All others are changes, which add up.
        rates: Which are rates, such as velocities, which are averaged.
        recorded_fps: Steps a second, which the files do not say: 5 in BridgeData, 3 in RT-1, 15 in DROID.
    """

    def __init__(
        self,
        src: Path,
        images: list[str] | None = None,
        actions: list[str] | str = "action",
        absolute: list[int] | None = None,
        rates: list[int] | None = None,
        recorded_fps: float = 5.0,
    ) -> None:
        self.src = Path(src)
        self.images = images
        self.actions = [actions] if isinstance(actions, str) else actions
        self.absolute, self.rates = absolute or [], rates or []
        self.recorded_fps = recorded_fps

    @functools.cached_property
    def _files(self) -> list[Path]:
        if not self.src.exists():
            raise FileNotFoundError(f"No folder or file at {self.src}.")
        files = [self.src] if self.src.is_file() else sorted(file for file in self.src.rglob("*") if _NAME.search(file.name))
        if not files:
            raise FileNotFoundError(
                f"{self.src} has no TFRecord files, whose names are like set-train.tfrecord-00000-of-00009."
            )
        if folders := sorted({str(file.parent) for file in files})[1:]:
            raise ValueError(f"{self.src} has TFRecord files in {files[0].parent} and {', '.join(folders)}. Give one of them.")
        return files

    @functools.cached_property
    def _features(self) -> dict[str, Feature]:
        return read_features(self._files[0].parent / "features.json")

    @override
    def find(self) -> Listing:
        """List the episodes, a recording for each camera, by the lengths of records.

        Raises:
            FileNotFoundError: There are no TFRecord files, or no features.json beside them.
            ValueError: There are several sets, or not the features that the options name.
        """
        self.action_fields()
        images = self._find_images()
        records, unreadable = self._find_records()
        blank = self._blank(records, images) if self.images is None else []
        notes = [f"Left out {name}: the same picture in all steps of the episodes looked at." for name in blank]
        kept = [name for name in images if name not in blank]
        if not kept:
            raise ValueError(f"{self.src}: {', '.join(images)} are the same picture in all steps of the episodes looked at.")
        return Listing(self._recordings(records, kept), unreadable, notes)

    def _find_images(self) -> list[str]:
        found = {name.removeprefix(OBSERVATION): each for name, each in self._features.items() if name.startswith(OBSERVATION)}
        pictures = [name for name, each in found.items() if each.kind == "image" and each.dtype == "uint8"]
        images = [name for name in pictures if found[name].shape[-1:] == (3,)] if self.images is None else self.images
        if unknown := [name for name in images if name not in pictures]:
            raise ValueError(f"{self.src} has no images {', '.join(unknown)}, expected some of: {', '.join(pictures)}.")
        if not images:
            raise ValueError(f"{self.src} has no images of three channels. Its observations have: {', '.join(found)}.")
        return images

    def _find_records(self) -> tuple[list[_Record], list[tuple[str, str]]]:
        records: list[_Record] = []
        unreadable = []
        for file in self._files:
            before = len(records)
            try:
                for number, (offset, length) in enumerate(find_records(file)):
                    records.append(_Record(file, number, offset, length))
            except ValueError as error:
                kept = len(records) - before
                unreadable.append((relative(self.src, file), f"{error}; episodes before it that are kept: {kept}"))
        return records, unreadable

    def _blank(self, records: list[_Record], images: list[str]) -> list[str]:
        """Return cameras that gave one picture, byte for byte, in all steps of some episodes all over the set."""
        blank: list[set[str]] = []
        for record in records[:: max(1, math.ceil(len(records) / _LOOKS))]:
            try:
                features = read_record(record.file, record.offset)
                blank.append({name for name in images if is_blank(step_images(features, name))})
            except ValueError:
                continue  # it becomes the reason when the episode is opened
        return [name for name in images if blank and all(name in names for names in blank)]

    def _recordings(self, records: list[_Record], images: list[str]) -> list[Recording]:
        splits = {file: _split(file) for file in self._files}
        told = set(splits.values()) == {"train", "val"}
        states = {file: file_state(file) for file in self._files}
        recordings = []
        for record in records:
            name = relative(self.src, record.file)
            group = f"{name}/{record.number:05d}"
            size, split = record.length // len(images), splits[record.file] if told else None
            for image in images:
                place = {"file": "" if self.src.is_file() else name, "offset": record.offset, "image": image}
                recordings.append(Recording(f"{group}/{image}", group, size, place, split, states[record.file]))
        return recordings

    @override
    def open(self, recording: Recording) -> Stream:
        """Open what a camera saw of an episode.

        Raises:
            ValueError: The record is damaged, the camera was not there, or actions are not finite numbers, one row a step.
        """
        image = recording.place["image"]
        features = read_record(self.src / recording.place["file"], recording.place["offset"])
        pictures = step_images(features, image)
        if is_blank(pictures):
            raise ValueError(f"{image!r} is the same picture in all {len(pictures)} steps, so the camera was not there")
        parts = [step_numbers(features, name, self._features[name].dim, len(pictures)) for name in self.actions]
        frames = ((i / self.recorded_fps, image_frame(picture)) for i, picture in enumerate(pictures))
        return Stream(frames, np.concatenate(parts, axis=1)[:-1])

    @override
    def action_fields(self) -> list[ActionField]:
        """Return the features, or parts of them where their numbers aggregate in different ways.

        Raises:
            ValueError: There are no such features or numbers.
        """
        numbers = {name: each for name, each in self._features.items() if each.kind == "numbers" and -1 not in each.shape}
        if unknown := [name for name in self.actions if name not in numbers]:
            known = ", ".join(f"{name} ({each})" for name, each in numbers.items())
            raise ValueError(f"{self.src} has no actions {', '.join(unknown)}, expected some of: {known}.")
        total = sum(numbers[name].dim for name in self.actions)
        if bad := [number for number in (*self.absolute, *self.rates) if not 0 <= number < total]:
            raise ValueError(f"--absolute and --rates name {bad}, the actions have numbers 0 to {total - 1}.")
        aggregations: list[Aggregation] = [
            "last" if i in self.absolute else "mean" if i in self.rates else "sum" for i in range(total)
        ]
        fields, first = [], 0
        for name in self.actions:
            dim = numbers[name].dim
            fields += _runs(name, aggregations[first : first + dim])
            first += dim
        return fields


def _runs(name: str, aggregations: Sequence[Aggregation]) -> list[ActionField]:
    """Return fields of consecutive numbers that aggregate in the same way."""
    fields, start = [], 0
    for aggregation, run in itertools.groupby(aggregations):
        stop = start + len(list(run))
        part = "" if stop - start == len(aggregations) else f"[{start}]" if stop - start == 1 else f"[{start}:{stop}]"
        fields.append(ActionField(name + part, stop - start, aggregation))
        start = stop
    return fields


def _split(file: Path) -> Split | None:
    found = _NAME.search(file.name)
    return _SPLITS.get(found["split"]) if found and found["split"] else None


_SPLITS: dict[str, Split] = {"train": "train", "val": "val", "validation": "val", "test": "val"}
