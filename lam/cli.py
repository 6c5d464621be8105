"""The front door: ``lam COMMAND``.

Parts that take long to import are imported by the command that needs them, and by no other.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import NamedTuple

from lam.io.trust import take_trust
from lam.runs.errors import SettingsError, leave
from lam.short_help import SHORT_HELP


class Command(NamedTuple):
    """A command.

    Attributes:
        about: What it does, in a line of ``lam --help``.
        target: The function that does it, module:function, and the words that it gets before those of the user.
        parts: Packages whose classes YAML may call by their short names.
    """

    about: str
    target: str
    parts: tuple[str, ...] = ()


WATCHERS = ("lam.evals", "lam.viz")
"""Packages of callbacks that settings name."""

COMMANDS = {
    "fit": Command("train a latent action model", "lam.runs.cli:main fit", WATCHERS),
    "validate": Command("evaluate a trained model on its validation clips", "lam.runs.cli:main validate", WATCHERS),
    "test": Command("evaluate a trained model on other data", "lam.runs.cli:main test", WATCHERS),
    "predict": Command("write the latent actions of a set of shards to a file", "lam.runs.cli:main predict", WATCHERS),
    "sweep": Command("make the rows of a table that are missing or stale", "lam.runs.sweep.command:main", WATCHERS),
    "external": Command("evaluate a model that was trained elsewhere", "lam.runs.external:main", WATCHERS),
    "control fit": Command("train heads between actions and latents", "lam.control.cli:main fit", WATCHERS),
    "control validate": Command("plan and act with trained heads", "lam.control.cli:main validate", WATCHERS),
    "control sweep": Command("make the heads and plans of a table's rows", "lam.control.sweep:main", WATCHERS),
    "control oracle": Command("plan in the true simulator, an upper bound", "lam.control.ladder.oracle:main", WATCHERS),
    "control ladder": Command("say what success is lost to", "lam.control.ladder.command:main", WATCHERS),
    "encoder fit": Command("train an encoder on the shards of a setting", "lam.runs.encoder:main fit"),
    "report": Command("make tables, figures and a page of finished runs", "lam.report.cli:main"),
    "export": Command("write a trained model into a folder to give away", "lam.runs.export:main"),
    "init": Command("write an editable copy of the settings", "lam.runs.configs:init"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error that a person can mend is one line, ``LAM_TRACEBACK=1`` shows where it came from.

    Args:
        arguments: What is typed after ``lam``; that of the process if not given.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        run(words)
    except BaseException as error:
        sys.exit(leave(error))


def run(words: list[str]) -> None:
    """Run a command and let its errors through.

    Raises:
        SettingsError: There is no such command.
    """
    words = take_trust(words)
    name = next((name for name in (" ".join(words[:2]), *words[:1]) if name in COMMANDS), None)
    if name is None:
        group = words[0] if words and any(known.startswith(f"{words[0]} ") for known in COMMANDS) else ""
        asked = words[1:] if group else words
        if not asked or asked[0] in ("-h", "--help", "--help-all"):
            print(overview(group))
            return
        near = difflib.get_close_matches(" ".join(words[:2]), COMMANDS, 1) or difflib.get_close_matches(words[0], COMMANDS, 1)
        raise SettingsError(
            f"There is no command lam {' '.join(words[: 2 if group else 1])}."
            + (f" Did you mean lam {near[0]}?" if near else " lam --help lists all.")
        )
    rest = words[len(name.split()) :]
    if name in SHORT_HELP and ("-h" in rest or "--help" in rest):
        print(SHORT_HELP[name])
        return
    if "" not in sys.path:
        sys.path.append("")  # parts of one's own are most often files in the working directory
    command = COMMANDS[name]
    target, *before = command.target.split()
    module, _, function = target.partition(":")
    for part in command.parts:
        importlib.import_module(part)
    everything = ["--help" if word == "--help-all" else word for word in rest]
    getattr(importlib.import_module(module), function)([*before, *everything])


def overview(group: str = "") -> str:
    """Return the list of commands, or of those of a group."""
    names = [name for name in COMMANDS if not group or name.startswith(f"{group} ")]
    width = max(map(len, names)) + 2
    lines = [f"  {name:<{width}}{COMMANDS[name].about}" for name in names]
    intro = "" if group else "Latent action models, compared fairly.\n\n"
    example = "" if group else "\n\nFrom nothing to a trained model:\n" + FIRST_STEPS
    return f"{intro}usage: lam {group + ' ' if group else ''}COMMAND ...\n\n" + "\n".join(lines) + example + MORE


FIRST_STEPS = """\
  data_prep videos CLIPS/ shards/wild
  lam fit --config experiments/wild.yaml --config experiments/bottlenecks/noisy.yaml --name wild/noisy"""

MORE = (
    "\n\nlam COMMAND --help explains a command. LAM_TRACEBACK=1 shows where an error came from. --trust PACKAGE lets settings "
    "name parts of a package of your own."
)
