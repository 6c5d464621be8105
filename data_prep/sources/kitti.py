"""Source ``kitti``: drives of a car with its poses, the KITTI odometry benchmark (http://www.cvlibs.net/datasets/kitti)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation
from typing_extensions import override

from data_prep.sources.action_rows import as_actions, check_finite
from data_prep.sources.base import Listing, Recording, Source, Stream, file_state
from data_prep.sources.image_files import ImageFolder, natural_order, read_images
from lam.data.schema import ActionField


class Kitti(Source):
    """Drives of a car in the layout of KITTI odometry: sequences/NN/image_2, sequences/NN/times.txt and poses/NN.txt.

    Actions are the motion of the camera from frame to frame, seen from the earlier frame: translation (m; right, down,
    forward) and rotation vector (rad). They add up when frames are left out, which is right to first order only: rotations
    about one axis add up exactly, but over a turn of a radians the translation is off by about a/2 of the way. Leave frames
    out with ``every`` where that matters: then motion is that between the frames which are read, exactly.

    Args:
        src: Folder that holds sequences and poses.
        camera: Folder of images within a sequence.
        poses: Whether to read poses; sequences without any (11 to 21 of the benchmark) are left out then.
        every: Only the first of every so many frames is read.
    """

    def __init__(self, src: Path, camera: str = "image_2", poses: bool = True, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"--every is {every}, expected 1 or more.")
        self.src = Path(src)
        self.camera, self.poses, self.every = camera, poses, every

    @override
    def find(self) -> Listing:
        """Return all sequences."""
        folder = self.src / "sequences"
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{self.src} has no folder sequences, expected that and poses of the KITTI odometry benchmark."
            )
        listing = Listing([])
        for sequence in sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: natural_order(path.name)):
            name = sequence.relative_to(self.src).as_posix()
            needed = [sequence / self.camera, sequence / "times.txt", *([self._poses(sequence.name)] if self.poses else [])]
            if missing := [path.relative_to(self.src).as_posix() for path in needed if not path.exists()]:
                listing.unreadable.append((name, f"there is no {', no '.join(missing)}"))
                continue
            images = ImageFolder.scan(needed[0])
            state = f"{images.state} {file_state(*needed[1:])}"
            listing.recordings.append(Recording(name, name, images.size, {"sequence": sequence.name}, state=state))
        if not listing.recordings and not listing.unreadable:
            raise FileNotFoundError(f"{folder} has no sequence.")
        return listing

    @override
    def action_fields(self) -> list[ActionField]:
        """Return translation and rotation of the camera."""
        return [ActionField("translation", 3, "sum"), ActionField("rotation", 3, "sum")] if self.poses else []

    @override
    def open(self, recording: Recording) -> Stream:
        """Read times and poses of a sequence.

        Raises:
            ValueError: Numbers of images, times and poses differ, times do not increase, or poses are not finite numbers.
        """
        number = recording.place["sequence"]
        sequence = self.src / "sequences" / number
        files = ImageFolder.scan(sequence / self.camera).files
        times = _read_numbers(sequence / "times.txt", len(files), columns=1)[:: self.every, 0]
        if not (np.diff(times) > 0).all():
            raise ValueError(f"times.txt does not increase after {times[:-1][~(np.diff(times) > 0)][0]} s")
        actions = None
        if self.poses:
            poses = _read_numbers(self._poses(number), len(files), columns=12)[:: self.every]
            actions = as_actions(relative_motion(check_finite(poses, "poses").reshape(-1, 3, 4)))
        return Stream(read_images(files[:: self.every], (times - times[:1]).tolist()), actions)

    def _poses(self, number: str) -> Path:
        return self.src / "poses" / f"{number}.txt"


def relative_motion(poses: np.ndarray) -> np.ndarray:
    """Return motion (T-1, 6) from each pose to the next, seen from the earlier: translation and rotation vector.

    Args:
        poses: Poses (T, 3, 4): each takes points from its own frame of reference to one that stands still.
    """
    rotation, place = poses[:, :, :3], poses[:, :, 3]
    back = rotation[:-1].transpose(0, 2, 1)
    translation = (back @ np.diff(place, axis=0)[..., None])[..., 0]
    turn = Rotation.from_matrix(back @ rotation[1:]).as_rotvec() if len(back) else np.empty((0, 3))
    return np.concatenate([translation, turn], axis=1)


def _read_numbers(path: Path, rows: int, columns: int) -> np.ndarray:
    """Return numbers (rows, columns) of a text file."""
    numbers = np.array(path.read_text().split(), dtype=np.float64)
    if numbers.size != rows * columns:
        raise ValueError(f"{path.name} has {numbers.size} numbers, expected {rows} x {columns}, a row for each image")
    return numbers.reshape(rows, columns)
