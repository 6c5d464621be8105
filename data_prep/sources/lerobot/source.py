"""Source ``lerobot``: robot data sets in the layouts v2.0, v2.1 and v3.0 of LeRobot."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
from typing_extensions import override

from data_prep.sources.base import Listing, Recording, Source, Stream, file_state
from data_prep.sources.lerobot.actions import ActionSlice, find_action_slices, read_numbers
from data_prep.sources.lerobot.frames import find_frames, image_column_frames, video_frames
from data_prep.sources.lerobot.metadata import LeRobotEpisode, LeRobotMetadata
from lam.data.schema import ActionField, Aggregation

STATE = "observation.state"


class LeRobot(Source):
    """Data sets in the layouts v2.0, v2.1 and v3.0 of LeRobot, also those of GR00T; a camera of an episode is a recording.

    Row i of the actions is the command at frame i, carried out until frame i + 1. The numbers of an action get their names
    from meta/modality.json where there is one (numbers in none of its groups are left out), else from meta/info.json.

    Args:
        src: Folder of the data set, which holds meta, data and videos.
        cameras: Features that are videos or pictures; all but depth if not given.
        actions: Column of the actions; for several [name,name].
        deltas: Names of numbers, groups or whole columns of the actions that are changes, which add up when frames are left
            out. All others are targets, of which the last counts, unless meta/modality.json says "absolute": false.
        rates: Names of those that are rates, such as velocities, which are averaged.
        state: Whether to record observation.state, of which row i is that of frame i + 1, as factor "state".
    """

    def __init__(
        self,
        src: Path,
        cameras: list[str] | None = None,
        actions: list[str] | str = "action",
        deltas: list[str] | None = None,
        rates: list[str] | None = None,
        state: bool = False,
    ) -> None:
        self.src = Path(src)
        self.cameras = cameras
        self.actions = [actions] if isinstance(actions, str) else actions
        self.deltas, self.rates = deltas or [], rates or []
        self.state = state

    @functools.cached_property
    def _metadata(self) -> LeRobotMetadata:
        return LeRobotMetadata(self.src)

    @functools.cached_property
    def _slices(self) -> list[ActionSlice]:
        return [part for column in self.actions for part in find_action_slices(self._metadata, column)]

    @override
    def find(self) -> Listing:
        """List the episodes whose files are there, a recording for each camera.

        Raises:
            FileNotFoundError: There is no data set, or no episode of it.
            ValueError: It has another layout, or lacks what the options name.
        """
        self.action_fields()
        if self.state:
            find_action_slices(self._metadata, STATE)
        cameras = self._cameras()
        listed = list(self._metadata.episodes(cameras))
        here = [episode for episode in listed if episode.rows is not None]
        if not any(episode.views for episode in here):
            raise FileNotFoundError(f"{self.src} lists {len(listed)} episodes, of none of them rows and pictures are there.")
        unreadable = [_absent("meta", "listed episodes", [each for each in listed if each.rows is None], listed)]
        for camera in cameras:
            unreadable.append(_absent(camera, "videos of episodes", [each for each in here if camera not in each.views], here))
        return Listing(_recordings(self.src, here, self._metadata.version), [name for name in unreadable if name is not None])

    def _cameras(self) -> list[str]:
        found = self._metadata.cameras()
        cameras = found if self.cameras is None else self.cameras
        if not cameras or (unknown := [name for name in cameras if name not in found]):
            asked = ", ".join(map(repr, unknown)) if cameras else "that could be read"
            raise ValueError(f"{self.src} has no camera {asked}, expected one of: {', '.join(found) or 'none'}.")
        return cameras

    @override
    def action_fields(self) -> list[ActionField]:
        """Return the groups of modality.json, or a field for each number.

        Raises:
            ValueError: There is no such column, or no such field to be a delta or a rate.
        """
        known = {name for part in self._slices for name in (part.name, part.column)}
        if unknown := [name for name in (*self.deltas, *self.rates) if name not in known]:
            raise ValueError(
                f"{self.src} has no actions {', '.join(map(repr, unknown))} to be deltas or rates, expected: "
                f"{', '.join([*self.actions, *(part.name for part in self._slices)])}."
            )
        return [part.field(self.deltas, self.rates) for part in self._slices]

    @override
    def factor_aggregations(self) -> dict[str, Aggregation]:
        """Return that of states the last counts."""
        return {"state": "last"} if self.state else {}

    @override
    def open(self, recording: Recording) -> Stream:
        """Open what a camera saw of an episode.

        Raises:
            ValueError: Rows, frames and metadata do not have one number, or actions are not finite numbers.
        """
        place = recording.place
        rows = self.src / place["rows"]
        wanted = None if place["episode"] is None else pc.field("episode_index") == place["episode"]
        columns = [*self.actions, *([STATE] if self.state else [])]
        table = ds.dataset(rows).to_table(columns=columns, filter=wanted, use_threads=False)
        if len(table) != place["length"]:
            raise ValueError(f"{place['rows']} has {len(table)} rows, the metadata list {place['length']}")
        if place["video"] is None:
            pictures = image_column_frames(rows, place["camera"], wanted, self._metadata.fps)
        else:
            span = find_frames(self.src / place["video"], place["start"], place["end"])
            if len(span.stamps) != len(table):
                raise ValueError(f"{place['video']} has {len(span.stamps)} frames of the episode, which has {len(table)} rows")
            pictures = video_frames(span, self._metadata.fps)
        arrays = {column: read_numbers(table, column) for column in columns}
        actions = np.concatenate([arrays[part.column][:, part.start : part.end] for part in self._slices], axis=1)
        return Stream(pictures, actions[:-1], {"state": arrays[STATE][1:]} if self.state else {})


def _absent(name: str, what: str, absent: list[LeRobotEpisode], of: list[LeRobotEpisode]) -> tuple[str, str] | None:
    """Return one line for all that is missing of a kind, since whole blocks are when only a part of a data set was copied."""
    if not absent:
        return None
    first = ", ".join(str(episode.index) for episode in absent[:5]) + (" ..." if len(absent) > 5 else "")
    return name, f"{len(absent)} of {len(of)} {what} {'is' if len(absent) == 1 else 'are'} not there: {first}"


def _recordings(src: Path, episodes: list[LeRobotEpisode], version: str) -> list[Recording]:
    lengths: Counter[Path] = Counter()  # frames in each file, all cameras together
    for episode in episodes:
        for view in episode.views.values():
            lengths[view.file] += episode.length
    state = functools.cache(file_state)
    recordings = []
    for episode in episodes:
        assert episode.rows is not None
        group = f"episode_{episode.index:06d}"
        for camera, view in episode.views.items():
            place = {
                "rows": episode.rows.relative_to(src).as_posix(),
                "episode": episode.index if version == "v3.0" else None,
                "length": episode.length,
                "camera": camera,
                "video": None if view.file == episode.rows else view.file.relative_to(src).as_posix(),
                "start": view.start,
                "end": view.end,
            }
            size = view.file.stat().st_size * episode.length // max(lengths[view.file], 1)
            both = state(episode.rows, view.file)
            recordings.append(Recording(f"{group}/{camera}", group, size, place, state=both))
    return recordings
