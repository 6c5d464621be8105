"""Source ``npz``: recordings in arrays, such as those of robots, with their actions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from tqdm import tqdm

from data_prep.arrays import Layout
from data_prep.segments import Squares
from data_prep.sources import ONE_SOURCE, clip_key, cut_in_time, find_files, fingerprint, is_finished, relative, sha256
from data_prep.writer import ShardWriter, default_storage
from lam.data.schema import Split, Storage


def npz(
    src: Path,
    out: Path,
    frames: list[str] | str = "image",
    actions: str | None = None,
    shift: bool = False,
    fps: float = 5.0,
    size: int = 64,
    min_frames: int = 8,
    val_share: float = 0.1,
    seed: int = 0,
    storage: Storage | None = None,
) -> int:
    """Turns recordings in .npz files, searched in depth, into shards; an episode becomes one sample a camera.

    Pictures are uint8, or integers 0 to 255, in one of three shapes: (T, H, W, 3), one episode a file; (E, T, H, W, 3),
    episodes of one length; (T, 3k, H, W), k stacked frames, of which only the newest, the last, is kept. What does not fit
    or cannot be read is left out with a reason (in index.json) and the run goes on; it then ends with exit code 3. Files
    are read whole, so one must fit in memory, and twice, so that only what can be used is split.

    Args:
        src: Folder of .npz files, or one of them.
        out: Folder for the shards.
        frames: Name of the array of pictures; for several cameras [name,name], whose episodes and frames must agree.
        actions: Name of the array of actions, with a row for each frame, if they were recorded.
        shift: Whether a row of actions led to its frame, as in replay buffers; else it is what was done after its frame.
        fps: Frames a second at which they were recorded, which the files do not say.
        size: Height and width of the frames: the shorter side is resized to it, the middle of the longer kept.
        min_frames: Episodes with fewer frames are left out.
        val_share: Share of the episodes that go to validation, at least one; cameras of an episode stay together.
        seed: Chooses which episodes.
        storage: How to store frames. Packed JPEG if not given and size is at most 128, else mp4.

    Returns:
        Exit code.
    """
    layout = Layout([frames] if isinstance(frames, str) else frames, actions, shift)
    if min_frames < 2 or not 0 < fps < float("inf") or not layout.frames or len(set(layout.frames)) < len(layout.frames):
        raise ValueError(
            f"--min_frames is {min_frames}, expected 2 or more; --fps is {fps}, expected above 0; "
            f"--frames is {layout.frames}, expected different names."
        )
    storage = storage or default_storage(size)
    files = find_files(src, {".npz"}, "arrays")
    settings: dict[str, Any] = {
        "source": "npz",
        "files": len(files),
        "files_sha256": fingerprint(src, files),
        "frames": layout.frames,
        "actions": actions,
        "shift": shift,
        "fps": fps,
        "size": size,
        "min_frames": min_frames,
        "val_share": val_share,
        "seed": seed,
        "storage": storage.name,
    }
    if is_finished(out, settings):
        print(f"{out} is finished, with these settings and files: nothing to do.")
        return 0
    check = check_files(src, files, layout, min_frames)
    parts = _split(src, check.frames, min_frames, val_share, seed)
    note = {"note": ONE_SOURCE} if len(parts) == 1 else {}
    with ShardWriter(out, size, size, fps, storage, settings=settings | note) as writer:
        for name, reason in check.reasons:
            writer.quarantine(name, reason)
        for file in tqdm(sorted(check.files, key=lambda file: sha256(f"{seed}/{relative(src, file)}")), desc=out.name):
            for name, views, between in layout.read(file).episodes(relative(src, file)):
                for split, part in parts.get(name, []):
                    _write(writer, split, name, views, between, part)
    print(_summary(out, parts, len(layout.frames), check))
    return 3 if check.reasons else 0


@dataclass
class Check:
    """What can be used and what was left out.

    Attributes:
        files: Files with something to use.
        frames: Number of frames of each episode that can be used, by name.
        reasons: Names of files and episodes that were left out, and why.
    """

    files: list[Path] = field(default_factory=list)
    frames: dict[str, int] = field(default_factory=dict)
    reasons: list[tuple[str, str]] = field(default_factory=list)


def check_files(src: Path, files: list[Path], layout: Layout, min_frames: int) -> Check:
    """Reads all files once.

    Raises:
        ValueError: There is nothing to use.
    """
    check = Check()
    width: int | None = None  # of actions; the first usable episode sets it
    for file in tqdm(files, desc="check"):
        try:
            recording = layout.read(file)
        except ValueError as error:
            check.reasons.append((relative(src, file), str(error)))
            continue
        for name, views, actions in recording.episodes(relative(src, file)):
            if reason := _reason(len(views[0]), min_frames, actions, width):
                check.reasons.append((name, reason))
                continue
            width = None if actions is None else actions.shape[1]
            check.frames[name] = len(views[0])
            if file not in check.files[-1:]:
                check.files.append(file)
    if not check.frames:
        name, reason = check.reasons[0]
        raise ValueError(f"{src} has no usable episode; {name}: {reason}.")
    return check


def _reason(frames: int, min_frames: int, actions: np.ndarray | None, width: int | None) -> str | None:
    """Why an episode that could be read cannot be used, or None."""
    if frames < min_frames:
        return f"{frames} frames, fewer than {min_frames}"
    if actions is not None and width not in (None, actions.shape[1]):
        return f"actions have {actions.shape[1]} numbers, those before {width}"
    if actions is not None and not np.isfinite(actions).all():
        return "actions have infinite numbers or none (NaN)"
    return None


_Parts = dict[str, list[tuple[Split, slice]]]


def _split(src: Path, frames: dict[str, int], min_frames: int, val_share: float, seed: int) -> _Parts:
    """For each episode its split and the frames of it; the only one is in both, cut in time."""
    names = sorted(frames, key=lambda name: sha256(f"{seed}/{name}"))
    if len(names) == 1:
        middle = cut_in_time(src, frames[names[0]], min_frames)
        return {names[0]: [("train", slice(0, middle)), ("val", slice(middle, None))]}
    num_val = max(1, min(round(val_share * len(names)), len(names) - 1))
    return {name: [("val" if i < num_val else "train", slice(0, None))] for i, name in enumerate(names)}


def _write(
    writer: ShardWriter, split: Split, name: str, views: list[np.ndarray], actions: np.ndarray | None, part: slice
) -> None:
    """Writes some frames of an episode, one sample a camera."""
    squares = Squares(writer.height)
    times = np.arange(len(views[0]))[part] / writer.fps
    between = None if actions is None else actions[part][: len(times) - 1]
    for camera, view in enumerate(views):
        pictures = (av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24") for picture in view[part])
        frames = np.stack([squares.cut(picture) for picture in pictures])
        writer.add(split, clip_key(name, times[0], camera), name, name, frames, times, between)


def _summary(out: Path, parts: _Parts, cameras: int, check: Check) -> str:
    splits = [split for episode in parts.values() for split, _ in episode]
    lines = [
        f"{out}: {splits.count('train')} training and {splits.count('val')} validation episodes"
        + (f" from {cameras} cameras each." if cameras > 1 else ".")
    ]
    lines += [f"Note: {ONE_SOURCE}."] if len(parts) == 1 else []
    return "\n".join(lines + [f"Left out {name}: {reason}." for name, reason in check.reasons])
