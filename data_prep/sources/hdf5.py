"""Source ``hdf5``: robot data in HDF5 files, in the layouts of robomimic and RECON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import av
import h5py
from typing_extensions import override

from data_prep.sources.action_rows import as_actions
from data_prep.sources.base import Clock, Listing, Recording, Source, Stream, array_frames, file_state, find_files, relative
from data_prep.sources.hdf5_layout import LAYOUTS, check_rows, count_frames
from data_prep.sources.image_files import decode_images, natural_order
from lam.data.schema import ActionField, Split


class Hdf5(Source):
    """Robot data in .hdf5 and .h5 files, searched in depth; each camera of an episode is a recording.

    The layout robomimic (also of robosuite, MimicGen, LIBERO) has an episode in each group of ``data``, its pictures as
    arrays (T, H, W, 3). A file of the layout recon (RECON, as GNM, ViNT and NoMaD read it) is one episode, its pictures JPEGs;
    actions are the commanded velocities, or with recon_motion how far the robot came: forward, to its left, turned. Such
    motions add up to first order only: over a turn of a radians their sum is off by about a/2 of the way.
    Where a file has the filter keys train and valid of robomimic, they say what is for training and for validation.

    Args:
        src: Folder of files, or one of them.
        layout: Where the files hold what.
        images: Data sets of pictures within an episode, one a camera; if not given, obs/agentview_image or images/rgb_left.
        actions: Data sets of actions within an episode, put beside each other; if not given, those of the layout, [] for none.
        absolute: Which numbers of an action are targets, counted from 0: when frames are left out the last counts. All
            others are changes, which add up. If not given, the gripper of each arm where robomimic has 7 numbers for each.
            Not for recon, whose velocities are averaged.
        recorded_fps: Frames a second at which they were recorded, which the files do not say; if not given, 20 for
            robomimic, 4 for RECON.
    """

    def __init__(
        self,
        src: Path,
        layout: Literal["robomimic", "recon", "recon_motion"] = "robomimic",
        images: list[str] | None = None,
        actions: list[str] | None = None,
        absolute: list[int] | None = None,
        recorded_fps: float | None = None,
    ) -> None:
        preset = LAYOUTS[layout]
        if absolute is not None and preset.aggregation != "sum":
            raise ValueError(f"--absolute is {absolute}, but the actions of --layout {layout} are velocities.")
        if layout == "recon_motion" and actions is not None:
            raise ValueError(
                "--layout recon_motion makes its actions of jackal/position and jackal/yaw, --actions is not for it."
            )
        if images is not None and (not images or len(set(images)) < len(images)):
            raise ValueError(f"--images is {images}, expected different names.")
        self.src = Path(src)
        self.layout = dataclasses.replace(
            preset,
            images=preset.images if images is None else tuple(images),
            actions=preset.actions if actions is None else tuple(actions),
        )
        self.absolute = absolute
        self.clock = Clock(preset.fps if recorded_fps is None else recorded_fps)
        self._dims: list[int] = []  # numbers of each data set of actions; the first usable episode sets it

    @override
    def find(self) -> Listing:
        """Return all episodes of all files that have the data sets.

        Raises:
            ValueError: Actions have no number that ``absolute`` names.
        """
        self._dims = []
        listing = Listing([])
        for file in find_files(self.src, {".hdf5", ".h5"}, "HDF5 files"):
            name = relative(self.src, file)
            try:
                with h5py.File(file, "r") as opened:
                    self._add(listing, name, file, opened)
            except (OSError, RuntimeError, KeyError, ValueError) as error:  # h5py has no error of its own
                listing.unreadable.append((name, f"damaged or not of this layout ({error})"))
        self.action_fields()
        return listing

    def _add(self, listing: Listing, name: str, file: Path, opened: h5py.File) -> None:
        """Add the episodes of a file."""
        group = self.layout.group
        if group is None:
            paths = {name: "/"}
        elif isinstance(opened.get(group), h5py.Group):
            episodes = [key for key, member in opened[group].items() if isinstance(member, h5py.Group)]
            paths = {f"{name}/{episode}": f"{group}/{episode}" for episode in sorted(episodes, key=natural_order)}
        else:
            raise ValueError(f"no group {group!r}; it has {', '.join(opened) or 'none'}")
        splits, state = _splits(opened), file_state(file)
        size = file.stat().st_size // max(len(paths) * len(self.layout.images), 1)
        for source, path in paths.items():
            try:
                self._check(opened[path])
            except ValueError as error:
                listing.unreadable.append((source, str(error)))
                continue
            split = splits.get(path.rpartition("/")[2])
            for camera in self.layout.images:
                view = source if len(self.layout.images) == 1 else f"{source}/{camera}"
                place = {"file": str(file), "episode": path, "camera": camera}
                listing.recordings.append(Recording(view, source, size, place, split, state))

    def _check(self, episode: h5py.Group) -> None:
        counts = {camera: count_frames(episode, camera) for camera in self.layout.images}
        if len(set(counts.values())) != 1:
            raise ValueError(f"cameras have different numbers of frames: {counts}")
        dims = [check_rows(episode, path, next(iter(counts.values()))) for path in self.layout.actions]
        if self._dims not in ([], dims):
            raise ValueError(f"actions have {dims} numbers, those before {self._dims}")
        self._dims = dims

    @override
    def action_fields(self) -> list[ActionField]:
        """Return runs of numbers that are changes or targets, the velocities, or the motion.

        Raises:
            ValueError: Actions have no number that ``absolute`` names.
        """
        return self.layout.action_fields(self._dims, self.absolute) if self._dims else []

    @override
    def open(self, recording: Recording) -> Stream:
        """Open a camera's view of an episode.

        Raises:
            ValueError: Actions are not finite numbers.
        """
        place = recording.place
        with h5py.File(place["file"], "r") as opened:
            parts = [opened[place["episode"]][path][()] for path in self.layout.actions]
        actions = as_actions(self.layout.rows(parts)) if parts else None
        return Stream(self._pictures(place["file"], f"{place['episode']}/{place['camera']}"), actions)

    def _pictures(self, file: str, path: str) -> Iterator[tuple[float, av.VideoFrame]]:
        with h5py.File(file, "r") as opened:
            dataset = opened[path]
            times = self.clock.times(len(dataset))
            if dataset.ndim == 1:
                images = ((f"picture {i}", bytes(dataset[i])) for i in range(len(dataset)))
                yield from decode_images(images, times)
                return
            block = dataset.chunks[0] if dataset.chunks else 1  # a chunk is read and decompressed as a whole
            for first in range(0, len(dataset), block):
                yield from zip(times[first : first + block], array_frames(dataset[first : first + block]), strict=True)


def _splits(opened: h5py.File) -> dict[str, Split]:
    """Return splits of episodes by the filter keys of robomimic, where a file has both."""
    if "mask/train" not in opened or "mask/valid" not in opened:
        return {}
    keys: dict[str, Split] = {"mask/train": "train", "mask/valid": "val"}
    return {name.decode(): split for key, split in keys.items() for name in opened[key][()]}
