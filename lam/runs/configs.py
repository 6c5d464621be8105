"""Files of settings: which files a setting builds on, what a file overrides, and a copy of them to edit.

A setting names the file that it builds on, relative to itself: ``extends: small.yaml``.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import lam
from lam.io.limits import LimitError, check_limit, check_values, read_file
from lam.runs.errors import SettingsError


def expand_configs(arguments: list[str]) -> list[str]:
    """Return arguments in which every ``--config`` is preceded by the files that it extends, each file once.

    A file given after one that builds on it overrides it, as a later file does, and a warning says so on stderr.

    Raises:
        SettingsError: A file does not exist, is not YAML or extends itself.
    """
    expanded: list[str] = []
    read: list[Path] = []
    given: list[Path] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in ("--config", "-c") or (not equals and (value := next(words, "")) == ""):
            expanded.append(word)
            continue
        if value.lstrip().startswith("{"):  # settings themselves instead of a file that holds them
            expanded.append(f"--config={value}")
            continue
        path = Path(value)
        chain = [one for one in with_bases(path) if one.resolve() not in read] or [path]
        expanded += [f"--config={one}" for one in chain]
        read += [one.resolve() for one in chain]
        _warn_of_overrides(path, given)
        given.append(path)
    return expanded


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the settings in a file.

    Raises:
        SettingsError: There is no such file, or it does not hold settings.
    """
    try:
        settings = parse_yaml(read_file(path, "MAX_SETTINGS_BYTES").decode(), str(path))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not YAML: it is no text.") from error
    except LimitError as error:
        raise SettingsError(str(error)) from error
    except OSError as error:
        there = sorted(str(one) for one in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        near = difflib.get_close_matches(str(path), there, n=3) or there
        raise SettingsError(
            f"No file of settings at {path}."
            + (f" Nearby: {', '.join(near)}." if near else " Relative paths start at the working directory.")
        ) from error
    if not isinstance(settings, dict):
        raise SettingsError(f"{path} holds {type(settings).__name__}, expected settings by their keys.")
    return settings


def parse_yaml(text: str, what: str, load: Callable[[str], Any] = yaml.safe_load) -> Any:
    """Return what a YAML text says.

    Args:
        text: The text.
        what: Where it stands, for messages.
        load: Reads it.

    Raises:
        SettingsError: It is not YAML, or more or deeper than settings are.
    """
    try:
        check_limit(f"the length of {what}", len(text), "MAX_SETTINGS_BYTES")
        value = load(text)
        check_values(what, value)
    except (yaml.YAMLError, ValueError) as error:
        raise SettingsError(f"{what} is not YAML: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise SettingsError(f"{what} is not YAML of settings: its values lie too deep in each other.") from error
    return value


def with_bases(path: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """Return the files that a file extends, the most general first, and the file.

    Raises:
        SettingsError: A file does not exist, is not YAML or extends itself.
    """
    if path.resolve() in above:
        raise SettingsError(f"{path} extends itself: {' -> '.join(str(one) for one in (*above, path.resolve()))}.")
    base = read_yaml(path).get("extends")
    if base is None:
        return [path]
    if not isinstance(base, str):
        raise SettingsError(f"{path}: extends is {base!r}, expected one file, relative to this one.")
    base_path = Path(os.path.normpath(path.parent / base))
    return [*with_bases(base_path, (*above, path.resolve())), path]


def _warn_of_overrides(path: Path, earlier: list[Path]) -> None:
    """Say on stderr which settings of earlier files a more general file replaces.

    A file is more general if an earlier one builds on it, or if it is a base, which alone says where runs are logged.
    """
    later = _flat(read_yaml(path))
    builds_on_it = any(path.resolve() in [base.resolve() for base in with_bases(one)] for one in earlier)
    if not builds_on_it and "trainer.logger.class_path" not in later:
        return
    before: dict[str, Any] = {}
    for one in earlier:
        for file in with_bases(one):
            before |= _flat(read_yaml(file))
    different = sorted(key for key in later.keys() & before.keys() if later[key] != before[key])
    if different:
        shown = ", ".join(different[:5]) + (", ..." if len(different) > 5 else "")
        settings = "1 setting" if len(different) == 1 else f"{len(different)} settings"
        print(
            f"lam: warning: {path}, the later file, overrides {settings} of an earlier one: {shown}. "
            "Give the more general file first.",
            file=sys.stderr,
        )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by their keys in full; a list is one setting."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    flat.pop("extends", None)
    return flat


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
