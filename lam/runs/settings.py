"""The settings that an installation brings: where they are, and a copy of one's own to edit."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import lam

HISTORY = ("LOG.md", "*.png")
"""The log of experiments of this project and its pictures: history, not settings."""


def settings_folder() -> Path:
    """Return the folder of settings: package data of an installation, or ``experiments`` of a checkout."""
    package = Path(lam.__file__).parent
    installed = package / "experiments"
    return installed if installed.is_dir() else package.parent / "experiments"


def copy_settings(folder: Path) -> Path:
    """Copy the settings to ``folder/experiments``, where they can be edited.

    Raises:
        FileExistsError: There are settings already; they may have been edited, so they are never overwritten.
    """
    target = folder / "experiments"
    if target.exists():
        raise FileExistsError(f"{target} exists already and may hold your edits. Choose another folder, or remove it first.")
    shutil.copytree(settings_folder(), target, ignore=shutil.ignore_patterns(*HISTORY))
    return target


def init(arguments: list[str]) -> None:
    """Run ``lam init``."""
    parser = argparse.ArgumentParser(
        prog="lam init",
        description="Write an editable copy of the settings to DIR/experiments. Example: lam init .",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, nargs="?", default=Path(), help="where to (default: here)")
    target = copy_settings(parser.parse_args(arguments).folder)
    print(f"Settings are in {target}. Next: lam fit --help, or data_prep --help for your own video.")
