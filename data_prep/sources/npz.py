"""Source ``npz``: recordings in arrays, such as those of robots, with their actions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from typing_extensions import override

from data_prep.sources.action_rows import as_actions, group_fields
from data_prep.sources.arrays import (
    ArrayHeader,
    as_images,
    between_frames,
    check_images,
    check_rows,
    find_corruption,
    read_array,
    read_headers,
)
from data_prep.sources.base import Clock, Listing, Recording, Source, Stream, array_frames, file_state, find_files, relative
from lam.data.schema import ActionField


class Npz(Source):
    """Recordings in .npz files, searched in depth; each camera of an episode is a recording.

    Pictures are uint8, or integers 0 to 255, in one of three shapes: (T, H, W, 3), one episode a file; (E, T, H, W, 3),
    episodes of one length; (T, 3k, H, W), k stacked frames, of which only the newest, the last, is kept. An episode must fit
    in memory; in compressed files with many episodes each is reached by reading what comes before it.

    Args:
        src: Folder of .npz files, or one of them.
        frames: Name of the array of pictures; for several cameras [name,name], whose episodes and frames must agree.
        actions: Name of the array of actions, with a row for each frame, if they were recorded.
        shift: Whether a row of actions led to its frame, as in replay buffers; else it is what was done after its frame.
        recorded_fps: Frames a second at which they were recorded, which the files do not say.
        absolute: Which numbers of an action are targets, counted from 0: when frames are left out the last counts. All
            others are changes, which add up.
    """

    def __init__(
        self,
        src: Path,
        frames: list[str] | str = "image",
        actions: str | None = None,
        shift: bool = False,
        recorded_fps: float = 5.0,
        absolute: list[int] | None = None,
    ) -> None:
        self.src = Path(src)
        self.frames = [frames] if isinstance(frames, str) else frames
        if not self.frames or len(set(self.frames)) < len(self.frames):
            raise ValueError(f"--frames is {self.frames}, expected different names.")
        if absolute and actions is None:
            raise ValueError(f"--absolute is {absolute}, but --actions names no array.")
        self.actions, self.shift, self.absolute = actions, shift, absolute or []
        self.clock = Clock(recorded_fps)
        self._dim: int | None = None  # of actions; the first usable file sets it

    @override
    def find(self) -> Listing:
        """Return all episodes of all files whose arrays have fitting types and shapes.

        Raises:
            ValueError: Actions have no number that ``absolute`` names.
        """
        self._dim = None
        listing = Listing([])
        for file in find_files(self.src, {".npz"}, "arrays"):
            try:
                listing.recordings.extend(self._episodes(file))
            except ValueError as error:
                listing.unreadable.append((relative(self.src, file), str(error)))
        self.action_fields()
        return listing

    def _episodes(self, file: Path) -> list[Recording]:
        """Return a recording for each camera of each episode of a file.

        Raises:
            ValueError: The arrays do not fit.
        """
        headers = read_headers(file)
        if missing := [name for name in (*self.frames, self.actions) if name is not None and name not in headers]:
            found = ", ".join(map(repr, headers)) or "none"
            raise ValueError(f"no array {', '.join(map(repr, missing))}; it has {found}")
        first = self.frames[0]
        leading = check_images(first, headers[first])
        for camera in self.frames:
            if check_images(camera, headers[camera]) != leading:
                raise ValueError(
                    f"array {camera!r} is {headers[camera].shape} and {first!r} is {headers[first].shape}, "
                    "expected the same episodes and frames"
                )
        if self.actions is not None:
            dim = check_rows(self.actions, headers[self.actions], leading)
            if self._dim not in (None, dim):
                raise ValueError(f"actions have {dim} numbers, those before {self._dim}")
            self._dim = dim
        numbers: Iterable[int | None] = range(leading[0]) if len(leading) == 2 else [None]
        return [self._recording(file, headers, episode, camera) for episode in numbers for camera in self.frames]

    def _recording(self, file: Path, headers: dict[str, ArrayHeader], episode: int | None, camera: str) -> Recording:
        shape, name = headers[camera].shape, relative(self.src, file)
        group = name if episode is None else f"{name}/{episode:05d}"
        view = group if len(self.frames) == 1 else f"{group}/{camera}"
        size = math.prod(shape if episode is None else shape[1:]) * headers[camera].dtype.itemsize
        return Recording(view, group, size, {"file": str(file), "episode": episode, "camera": camera}, state=file_state(file))

    @override
    def action_fields(self) -> list[ActionField]:
        """Return runs of numbers that are changes or targets.

        Raises:
            ValueError: Actions have no number that ``absolute`` names.
        """
        return [] if self._dim is None else group_fields(self._dim, self.absolute)

    @override
    def open(self, recording: Recording) -> Stream:
        """Read an episode.

        Raises:
            ValueError: It is damaged, or its numbers are not those of pixels or actions.
        """
        file, episode, camera = Path(recording.place["file"]), recording.place["episode"], recording.place["camera"]
        for name in (camera, self.actions):
            if episode is not None and name is not None and (reason := find_corruption(file, name, recording.state)):
                raise ValueError(reason)
        pictures = as_images(camera, read_array(file, camera, episode))
        actions = None
        if self.actions is not None:
            actions = as_actions(between_frames(read_array(file, self.actions, episode), self.shift))
        times = self.clock.times(len(pictures))
        return Stream(zip(times, array_frames(pictures), strict=True), actions)
