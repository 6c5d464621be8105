"""HDF5 layouts: where the files of a data set hold pictures and actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from data_prep.sources.action_rows import group_fields
from lam.data.schema import ActionField, Aggregation


def per_frame(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return recorded numbers (T, U), those of several data sets beside each other."""
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def planar_motion(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return motion between frames (T-1, 3) as the robot saw it: forward and to its left (m), turn to the left (rad).

    Args:
        parts: Positions (T, 2 or more) and headings (T,) in a frame of reference that stands still, x forward at heading 0.
    """
    position, heading = parts[0][:, :2], parts[1].reshape(-1)
    step, cos, sin = np.diff(position, axis=0), np.cos(heading[:-1]), np.sin(heading[:-1])
    turn = (np.diff(heading) + np.pi) % (2 * np.pi) - np.pi
    return np.stack([cos * step[:, 0] + sin * step[:, 1], cos * step[:, 1] - sin * step[:, 0], turn], axis=1)


@dataclass(frozen=True)
class Hdf5Layout:
    """Where the files of a data set hold what; paths are relative to an episode.

    Attributes:
        group: Group whose members are the episodes, None where a file is one.
        images: Pictures, for each camera.
        actions: What actions are made of.
        aggregation: How several steps become one, where numbers are not absolute.
        fps: Frames a second.
        rows: Makes actions of what ``actions`` name, a row for each frame, or for each but the last.
        names: Names of the numbers that ``rows`` makes, where they are not those of ``actions``.
    """

    group: str | None
    images: tuple[str, ...]
    actions: tuple[str, ...]
    aggregation: Aggregation
    fps: float
    rows: Callable[[Sequence[np.ndarray]], np.ndarray] = per_frame
    names: tuple[str, ...] = ()

    def action_fields(self, dims: Sequence[int], absolute: Sequence[int] | None) -> list[ActionField]:
        """Return what actions consist of.

        Args:
            dims: How many numbers each of ``actions`` has.
            absolute: Which of all of them are targets; None for those that the layout is known to have.

        Raises:
            ValueError: Actions have no number that ``absolute`` names.
        """
        if self.names:
            return [ActionField(name, 1, self.aggregation) for name in self.names]
        if self.aggregation != "sum":
            return [ActionField(name, dim, self.aggregation) for name, dim in zip(self.actions, dims, strict=True)]
        total = sum(dims)
        # of an arm of robosuite six numbers move the hand and the seventh says where the gripper should be
        known = range(6, total, 7) if total % 7 == 0 else ()
        return group_fields(total, known if absolute is None else absolute)


RECON_IMAGES = ("images/rgb_left",)
LAYOUTS = {
    # https://robomimic.github.io/docs/datasets/overview.html; its simulated robots are controlled at 20 Hz
    "robomimic": Hdf5Layout("data", ("obs/agentview_image",), ("actions",), "sum", 20.0),
    # https://github.com/robodhruv/visualnav-transformer train/process_recon.py (pictures, position, yaw) and
    # https://github.com/gkahn13/badgr src/badgr/jackal (commands; 0.25 s a step in envs/jackal_env.py)
    "recon": Hdf5Layout(None, RECON_IMAGES, ("commands/linear_velocity", "commands/angular_velocity"), "mean", 4.0),
    "recon_motion": Hdf5Layout(
        None, RECON_IMAGES, ("jackal/position", "jackal/yaw"), "sum", 4.0, planar_motion, ("forward", "left", "turn")
    ),
}


def count_frames(episode: h5py.Group, path: str) -> int:
    """Return the number of pictures in a data set: (T, H, W, 3) uint8, or (T,) whose members are the bytes of image files.

    Raises:
        ValueError: There is no such data set, or none of pictures.
    """
    dataset = _dataset(episode, path)
    encoded = dataset.ndim == 1 and dataset.dtype.kind in "OSV"
    if not encoded and not (dataset.ndim == 4 and dataset.shape[3] == 3 and dataset.dtype == np.uint8):
        raise ValueError(
            f"{path} is {dataset.shape} {dataset.dtype}, expected pictures (T, H, W, 3) uint8 or the bytes of T image files"
        )
    return len(dataset)


def check_rows(episode: h5py.Group, path: str, frames: int) -> int:
    """Return numbers in a row of a data set that has one for each frame.

    Raises:
        ValueError: There is no such data set, or none of rows of numbers.
    """
    dataset = _dataset(episode, path)
    if dataset.dtype.kind not in "fiub" or dataset.ndim not in (1, 2) or len(dataset) != frames:
        raise ValueError(f"{path} is {dataset.shape} {dataset.dtype}, expected ({frames}, U), a row of numbers for each frame")
    return dataset.shape[1] if dataset.ndim == 2 else 1


def _dataset(episode: h5py.Group, path: str) -> h5py.Dataset:
    found = episode.get(path)
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"no data set {path!r}; it has {', '.join(_names(episode)) or 'none'}")
    return found


def _names(group: h5py.Group) -> list[str]:
    names: list[str] = []
    group.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return names
