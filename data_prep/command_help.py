"""Help of one command: what it does, then its options, those that most people change before all others."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from enum import Enum

from jsonargparse import ArgumentParser

MOST_USED = ("config", "encoder", "plots", "train", "val", "size", "frames", "fps", "max_seconds", "storage", "seed", "jobs")
_INDENT = 26


def format_help(parser: ArgumentParser, own: Sequence[str] = ()) -> str:
    """Return the help of a command.

    Args:
        parser: Its parser.
        own: Options of this command alone, which stand with those that most people change.
    """
    shown = [each for each in parser._actions if each.help != argparse.SUPPRESS and each.dest not in ("help", "print_config")]
    arguments = [each for each in shown if not each.option_strings]
    options = [each for each in shown if each.option_strings]
    first = [each for each in options if each.dest in (*own, *MOST_USED) or each.required]
    rest = [each for each in options if each not in first]
    usage = " ".join([f"usage: {parser.prog}", *(each.dest.upper() for each in arguments), "[options]"])
    about = "\n\n".join(_fill(" ".join(each.split())) for each in (parser.description or "").split("\n\n"))
    parts = [("Arguments", arguments), ("Options that most people change" if rest else "Options", first), ("All others", rest)]
    lists = ["\n".join([f"{title}:", *map(_format_option, group)]) for title, group in parts if group]
    return "\n\n".join([usage, about, *lists])


def _format_option(action: argparse.Action) -> str:
    """Return name, explanation and default of an option."""
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.rpartition(".")[2].upper()
    name = f"{action.option_strings[-1]} {metavar.replace(',null', '')}" if action.option_strings else action.dest.upper()
    text = " ".join((action.help or "").replace("%%", "%").split())
    if action.option_strings and action.required:
        text += " Required."
    elif action.default is not None and action.default != argparse.SUPPRESS:
        default = action.default.name if isinstance(action.default, Enum) else action.default
        text += f" [{str(default).lower() if isinstance(default, bool) else default}]"
    body = _fill(text, " " * _INDENT)
    head = f"  {name}"
    return head.ljust(_INDENT - 1) + body[_INDENT - 1 :] if len(head) < _INDENT - 1 else f"{head}\n{body}"


def _fill(text: str, indent: str = "") -> str:
    width = min(max(shutil.get_terminal_size().columns, 60), 110)
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
