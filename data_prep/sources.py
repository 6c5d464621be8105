"""Sources: the files below a folder, how samples cut from them are named, and what happens with only one of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from lam.data.schema import DataIndex

ONE_SOURCE = "one usable source only: its last part is the validation split, which is easier than another recording"
"""What index.json notes where validation could not get a source of its own."""


def find_files(src: Path, endings: Collection[str], kind: str) -> list[Path]:
    """Files below a folder, by the endings of their names, sorted; or the file itself.

    Raises:
        FileNotFoundError: There is no such folder, or no such file in it.
    """
    if not src.exists():
        raise FileNotFoundError(f"No folder or file at {src}.")
    found = [src] if src.is_file() else sorted(file for file in src.rglob("*") if file.suffix.lower() in endings)
    if not found:
        raise FileNotFoundError(f"{src} has no {kind}. Names must end in one of {' '.join(sorted(endings))}.")
    return found


def is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Whether a folder holds the finished result of these settings.

    Raises:
        ValueError: It holds the result of other settings.
    """
    if not (out / "index.json").is_file():
        return False
    found = DataIndex.load(out).settings
    wanted = json.loads(json.dumps(settings))
    if {name: found.get(name) for name in wanted} != wanted:
        changed = [name for name in wanted if found.get(name) != wanted[name]]
        raise ValueError(f"{out} was made with other settings ({', '.join(changed)}). Remove it or choose another folder.")
    return True


def clip_key(source: str, start: float, camera: int = 0) -> str:
    """Key of a clip: its source, its first millisecond, and its camera if there are several."""
    readable = re.sub(r"[^A-Za-z0-9_-]", "-", source)[-60:]
    return f"{readable}-{sha256(source)[:8]}/{round(start * 1000):08d}" + (f"-{camera}" if camera else "")


def cut_in_time(src: Path, frames: int, min_frames: int) -> int:
    """How many frames of the only usable clip are for training; the last fifth, or ``min_frames``, is for validation.

    Raises:
        ValueError: The clip is too short for two.
    """
    middle = frames - max(min_frames, frames // 5)
    if middle < min_frames:
        raise ValueError(
            f"{src} has one usable clip of {frames} frames, training and validation need {min_frames} each. "
            "Add files or lower --min_frames."
        )
    return middle


def relative(src: Path, file: Path) -> str:
    """Name of a file below the folder it was found in."""
    return file.name if file == src else file.relative_to(src).as_posix()


def fingerprint(src: Path, files: Sequence[Path]) -> str:
    """Hash of the files' names and sizes."""
    return sha256("\n".join(f"{relative(src, file)} {file.stat().st_size}" for file in sorted(files)))


def sha256(text: str) -> str:
    """Hash of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
