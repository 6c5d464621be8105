"""Checkpoints that a kill or a broken disk cannot take away: written whole, with their SHA-256, and the one before kept."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from typing_extensions import override

from lam.io import PART, AtomicFile, HashingFile, atomic_file, hash_file, remove_abandoned, write_text

BEFORE = "previous-"
"""Begins the name of the checkpoint that another one took the name of."""
DAMAGED = "damaged-"
"""Begins the name of a damaged checkpoint that was set aside."""


class DamagedCheckpointError(ValueError):
    """Raised for a checkpoint that is not the file that training left."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint beside its target, waits for the disk, and only then gives it its name.

    Lightning writes to the folder for temporary files and moves the file from there, which copies it where ``TMPDIR`` lies
    on another file system, over the only checkpoint. Here, at any moment, the target is the old checkpoint or the new one.
    The old one stays as ``previous-<name>``; the SHA-256 of both lie beside them in ``<stem>.sha256``, in the form that
    ``sha256sum -c`` reads, written before the checkpoint changes its name. Checkpoints at URLs are left to Lightning.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        whole = AtomicFile(path)
        try:
            hashed = HashingFile(whole.file)
            torch.save(checkpoint, hashed)  # type: ignore[arg-type]  # it needs write and flush alone
            known = _keep_previous(path)
            _write_checksums(path, {path.name: hashed.sha256, **known})
            whole.commit()
        except BaseException:
            whole.discard()
            raise

    @override
    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        if "://" not in str(path):
            check_checkpoint(Path(path))
        # type: ignore: a device's name is a place too, though Lightning's annotation has functions alone
        loaded: dict[str, Any] = super().load_checkpoint(path, map_location or "cpu", weights_only=True)  # type: ignore[arg-type]
        return loaded

    @override
    def remove_checkpoint(self, path: str | Path) -> None:
        super().remove_checkpoint(path)
        if "://" not in str(path):
            checksum_path(Path(path)).unlink(missing_ok=True)


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a checkpoint after a look whether it is the one that training wrote; nothing is unpickled but tensors.

    Raises:
        DamagedCheckpointError: It is not.
    """
    check_checkpoint(path)
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except RuntimeError as error:  # its table of contents, which has no checksum
        raise DamagedCheckpointError(f"{path} is not the file that training left: it cannot be read.") from error
    return checkpoint


def check_checkpoint(path: Path) -> None:
    """Compare a checkpoint with its SHA-256, or, where none was recorded, with the checksums inside it.

    Raises:
        DamagedCheckpointError: It is not the file that training left.
    """
    if path.is_file() and (what := damage(path)):
        older = previous(path)
        remedy = (
            f"{older} is whole: lam fit with --ckpt_path {path} sets the damaged file aside and goes on from it."
            if older is not None
            else "Copy the run again, or train it again."
        )
        raise DamagedCheckpointError(f"{path} is not the file that training left: {what}. {remedy}")


def damage(path: Path) -> str:
    """Say in what a checkpoint differs from the file that training left; empty where it is whole."""
    recorded = read_checksums(path)
    if recorded:
        found = hash_file(path)
        return "" if found in recorded.values() else f"its SHA-256 is {found[:12]}..., not the one in {checksum_path(path)}"
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, zlib.error, ValueError, NotImplementedError, OSError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return f"its part {broken} is damaged" if broken else ""


def restore_checkpoint(path: Path) -> Path | None:
    """Set a damaged checkpoint aside and put the one before into its place.

    Args:
        path: The checkpoint.

    Returns:
        The checkpoint, whole; None where there is none that is.
    """
    remove_abandoned(path)
    what = damage(path) if path.is_file() else "it is missing"
    if not what:
        return path
    older = previous(path)
    if not path.is_file() and older is None:
        return None
    said = f"lam: warning: {path} is damaged ({what})"
    if path.is_file():
        aside = _free_name(path.with_name(DAMAGED + path.name))
        if older is None:
            path.rename(aside)
        else:
            _name_again(path, aside)
        said += f" and was set aside as {aside.name}"
    if older is not None:
        os.replace(older, path)
        said += "; the checkpoint before it is used"
    print(f"{said}.", file=sys.stderr)
    return path if older is not None else None


def previous(path: Path) -> Path | None:
    """Return the checkpoint before a checkpoint, if it is there and whole."""
    older = path.with_name(BEFORE + path.name)
    recorded = read_checksums(path)
    if not older.is_file():
        return None
    whole = hash_file(older) in recorded.values() if recorded else not damage(older)
    return older if whole else None


def checksum_path(path: Path) -> Path:
    """Return where the SHA-256 of a checkpoint, and of the one before, are."""
    return path.with_suffix(".sha256")


def read_checksums(path: Path) -> dict[str, str]:
    """Return recorded SHA-256 by the names of files; empty for runs of releases that recorded none."""
    try:
        lines = checksum_path(path).read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _keep_previous(path: Path) -> dict[str, str]:
    """Give a checkpoint that is about to be replaced a second name; return its SHA-256 by that name, if it is known."""
    if not path.is_file():
        return {}
    older = path.with_name(BEFORE + path.name)
    recorded, found = read_checksums(path), hash_file(path)
    _name_again(path, older)
    # a kill may have come before the file that its own line tells of, so lines are compared whatever their names
    return {older.name: found} if not recorded or found in recorded.values() else {}


def _name_again(path: Path, name: Path) -> None:
    """Give a file a second name, which another file may have had."""
    link = name.with_name(f".{name.name}.link{PART}")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # a file system without hard links
        with path.open("rb") as file, atomic_file(name) as copy:
            shutil.copyfileobj(file, copy)
    else:
        os.replace(link, name)
        link.unlink(missing_ok=True)  # two names of one file are left as they are


def _write_checksums(path: Path, digests: dict[str, str]) -> None:
    """Write SHA-256 beside a checkpoint."""
    write_text(checksum_path(path), "".join(f"{digest}  {name}\n" for name, digest in digests.items()))


def _free_name(path: Path) -> Path:
    """Return a name that no file has."""
    count = 1
    while path.exists():
        path = path.with_name(f"{path.stem.rstrip('0123456789')}{count}{path.suffix}")
        count += 1
    return path
