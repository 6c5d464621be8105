"""Source ``videos``: any folder of videos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from tqdm import tqdm

from data_prep.segments import Segment, read_segments
from data_prep.sources import ONE_SOURCE, clip_key, cut_in_time, find_files, fingerprint, is_finished, relative, sha256
from data_prep.writer import ShardWriter, default_storage
from lam.data.schema import Split, Storage

ENDINGS = {".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".gif", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp", ".ogv"}


def videos(
    src: Path,
    out: Path,
    fps: float = 4.0,
    size: int = 64,
    max_seconds: float = 10.0,
    min_frames: int = 8,
    val_share: float = 0.1,
    seed: int = 0,
    storage: Storage | None = None,
) -> int:
    """Turns a folder of videos (mp4, mkv, avi, webm, gif ...), searched in depth, into shards.

    A file that cannot be read is left out with a reason (in index.json) and the run goes on; it then ends with exit code 3.

    Args:
        src: Folder of videos, or one video.
        out: Folder for the shards.
        fps: Frames a second to keep; exact times are recorded, and no frame is repeated where a source has fewer.
        size: Height and width of the frames: the shorter side is resized to it, the middle of the longer kept.
        max_seconds: Longest clip; longer videos are cut into several.
        min_frames: Clips with fewer frames are left out.
        val_share: Share of the files that go to validation, at least one; clips of a file stay together.
        seed: Chooses which files.
        storage: How to store frames. Packed JPEG if not given and size is at most 128, because a window of a few small
            frames then decodes several times faster; else mp4, which is several times smaller.

    Returns:
        Exit code.
    """
    storage = storage or default_storage(size)
    files = find_files(src, ENDINGS, "videos")
    settings: dict[str, Any] = {
        "source": "videos",
        "files": len(files),
        "files_sha256": fingerprint(src, files),
        "fps": fps,
        "size": size,
        "max_seconds": max_seconds,
        "min_frames": min_frames,
        "val_share": val_share,
        "seed": seed,
        "storage": storage.name,
    }
    if is_finished(out, settings):
        print(f"{out} is finished, with these settings and files: nothing to do.")
        return 0
    length = max(int(max_seconds * fps), 1)
    if not 2 <= min_frames <= length:
        raise ValueError(f"--min_frames is {min_frames}, expected 2 to max_seconds x fps = {length}.")
    files.sort(key=lambda file: sha256(f"{seed}/{relative(src, file)}"))
    with ShardWriter(out, size, size, fps, storage, settings=settings) as writer:
        run = _Run(writer, src, num_val=max(1, min(round(val_share * len(files)), len(files) - 1)), min_frames=min_frames)
        with tqdm(total=sum(file.stat().st_size for file in files), unit="B", unit_scale=True, desc=out.name) as progress:
            for file in files:
                run.add_file(file, read_segments(file, fps, size, length))
                progress.update(file.stat().st_size)
        run.finish()
    print(run.summary(out))
    return 3 if run.reasons else 0


@dataclass
class _Run:
    """Which split each file goes to, and what was left out.

    The first readable file waits: it goes to training once a second one is found, so that both splits get some; if it stays
    the only one it is split in time.
    """

    writer: ShardWriter
    src: Path
    num_val: int
    min_frames: int
    clips: dict[str, int] = field(default_factory=lambda: {"train": 0, "val": 0})
    reasons: list[tuple[str, str]] = field(default_factory=list)
    tails: int = 0
    note: str = ""
    _readable: int = 0
    _waiting: list[tuple[str, Segment]] = field(default_factory=list)

    def add_file(self, file: Path, segments: Iterator[Segment]) -> None:
        name, count, kept = relative(self.src, file), 0, 0
        try:
            for segment in segments:
                count += 1
                if len(segment.times) < self.min_frames:
                    self.tails += 1
                    continue
                self._add_segment(name, segment, first=kept == 0)
                kept += 1
        except (av.error.FFmpegError, ValueError) as error:
            until = f"damaged after {kept} clips, which are kept: " if kept else ""
            self._leave_out(name, until + (str(error).strip() or type(error).__name__))
            return
        if not kept:
            self.tails -= count
            self._leave_out(name, f"fewer than {self.min_frames} frames at this rate" if count else "it has no frames")

    def _leave_out(self, name: str, reason: str) -> None:
        self.reasons.append((name, reason))
        self.writer.quarantine(name, reason)

    def _add_segment(self, name: str, segment: Segment, first: bool) -> None:
        self._readable += first
        if self._readable == 1:
            self._waiting.append((name, segment))
            return
        self._release()
        self._write("val" if self._readable <= 1 + self.num_val else "train", name, segment)

    def _release(self) -> None:
        for name, segment in self._waiting:
            self._write("train", name, segment)
        self._waiting = []

    def _write(self, split: Split, name: str, segment: Segment) -> None:
        self.writer.add(
            split, clip_key(name, segment.times[0]), source=name, episode=name, frames=segment.frames, times=segment.times
        )
        self.clips[split] += 1

    def finish(self) -> None:
        """Writes what still waits: the only readable file, its end for validation."""
        if not self._readable:
            name, reason = self.reasons[0]
            raise ValueError(f"{self.src} has no usable video; {name}: {reason}.")
        if not self._waiting:
            return
        if len(self._waiting) == 1:
            name, only = self._waiting[0]
            middle = cut_in_time(self.src, len(only.times), self.min_frames)
            cuts = slice(None, middle), slice(middle, None)
            self._waiting = [(name, Segment(only.frames[cut], only.times[cut])) for cut in cuts]
        val = self._waiting[-max(1, len(self._waiting) // 10) :]
        self._waiting = self._waiting[: -len(val)]
        self._release()
        for name, segment in val:
            self._write("val", name, segment)
        self.note = ONE_SOURCE
        self.writer.settings["note"] = self.note

    def summary(self, out: Path) -> str:
        """What was done, for people."""
        lines = [f"{out}: {self.clips['train']} training and {self.clips['val']} validation clips."]
        lines += [f"Note: {self.note}."] if self.note else []
        lines += [f"{self.tails} ends of videos had fewer than {self.min_frames} frames."] if self.tails else []
        lines += [f"Left out {name}: {reason}." for name, reason in self.reasons]
        return "\n".join(lines)
