"""The parser of all command lines that are made of classes: names in full, old names understood, errors in one line."""

from __future__ import annotations

import difflib
import re
import sys
from types import ModuleType
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from lam.io.trust import explain_refusal
from lam.runs.configs import parse_yaml
from lam.runs.errors import SettingsError
from lam.runs.upgrade import upgrade


def load_settings(text: str) -> Any:
    """Return what a YAML text says, with names of today; ``extends`` has been followed before (``lam.runs.configs``)."""
    try:
        settings = _with_own_loggers(upgrade(parse_yaml(text, "a value of the settings", get_loader("yaml"))))
    except SettingsError as error:
        if isinstance(error.__cause__, yaml.YAMLError):  # a text that is no YAML is a text, says the parser
            raise error.__cause__ from None
        raise
    if isinstance(settings, dict):
        settings.pop("extends", None)
    return settings


CSV_LOGGERS = ("CSVLogger", "lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.loggers.csv_logs.CSVLogger")
"""Names of Lightning's logger, which deletes the curves of a run that is resumed; ours takes its place."""
CURVE_TABLE = "lam.viz.curves.CurveTable"


def with_own_loggers(words: list[str]) -> list[str]:
    """Return arguments in which a logger that is given by a class alone is ours, where there is one."""
    flags = ("--trainer.logger", "--trainer.logger+")
    replaced = []
    for before, word in zip(["", *words], words, strict=False):
        name, equals, value = word.partition("=")
        given = name in flags and equals and value in CSV_LOGGERS
        replaced.append(f"{name}={CURVE_TABLE}" if given else CURVE_TABLE if before in flags and word in CSV_LOGGERS else word)
    return replaced


def _with_own_loggers(value: Any) -> Any:
    """Return settings with our logger in the place of Lightning's."""
    if isinstance(value, list):
        return [_with_own_loggers(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_own_loggers(item) for key, item in value.items()}
    return CURVE_TABLE if isinstance(value, str) and value in CSV_LOGGERS else value


set_loader("lam", load_settings, exceptions=(yaml.YAMLError,))


class LamParser(LightningArgumentParser):
    """A parser that tells in one line what is wrong, and wants every name in full."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "parser_mode": "lam", **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise instead of printing every option there is."""
        raise SettingsError(one_line(message, self._known())) from ex

    def _known(self) -> list[str]:
        """Return the names of all settings, those of subcommands too."""
        known = [word.lstrip("-") for action in self._actions for word in action.option_strings]
        for action in self._actions:
            if isinstance(action.choices, dict):
                known += [word for parser in action.choices.values() for word in parser._known()]
        return known


def one_line(message: str, known: list[str]) -> str:
    """Return a parser's message without the types and values that bury it, with the nearest name and where all are listed.

    Args:
        message: What the parser says.
        known: Names of settings.
    """
    if (refusal := explain_refusal(message)) is not None:
        return refusal
    text = "; ".join(line.strip(" -") for line in re.sub(r" `--[^`]*` lists what there is\.", "", message).splitlines())
    text = re.sub(r"Type \S*Callable\[.*?\] expects a function or a callable class: ", "", text)
    text = re.sub(r"Expected a path but .*Expected a dot import path string: (\S+)", r"no class is named \1", text)
    text = re.sub(r"\.? Got value: Namespace\(.*", "", text).replace(": ;", ":").replace(":;", ":").rstrip(".")
    key = re.search(r'key "((?:model|data|trainer)[.]\w+)"', text)
    listing = f"--{key[1]}.help CLASS" if key and "Expected a <class" not in text else "--help-all"
    return f"{text}.{_suggestion(text, known)} `{listing}` lists what there is."


def _suggestion(text: str, known: list[str]) -> str:
    """Return the name that was most likely meant, where one is close."""
    if "Did you mean" in text:
        return ""
    wrong = re.search(r"(?:unrecognized arguments: --|accept option '|Option ')([\w.]+)", text)
    unknown_class = re.search(r"no class is named (\w+)", text)
    if unknown_class:
        known = [name for module in _parts() for name in vars(module) if isinstance(vars(module)[name], type)]
    name = wrong or unknown_class
    near = difflib.get_close_matches(name[1], known, 1) if name else []
    return f" Did you mean {near[0]}?" if near else ""


def _parts() -> list[ModuleType]:
    """Return the packages of parts that have been imported."""
    return [module for name, module in sys.modules.items() if name.startswith("lam.")]
