"""The parser of all command lines that are made of classes: names in full, old names understood, errors in one line."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import yaml
from jsonargparse import get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from lam.runs.errors import SettingsError
from lam.runs.upgrade import upgrade


def load_settings(text: str) -> Any:
    """Return what a YAML text says, with names of today; ``extends`` has been followed before (``lam.runs.configs``)."""
    settings = upgrade(get_loader("yaml")(text))
    if isinstance(settings, dict):
        settings.pop("extends", None)
    return settings


set_loader("lam", load_settings, exceptions=(yaml.YAMLError,))


class LamParser(LightningArgumentParser):
    """Says in one line what is wrong, and wants every name in full."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "parser_mode": "lam", **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise instead of printing every option there is."""
        raise SettingsError(one_line(message)) from ex


def one_line(message: str) -> str:
    """Return a parser's message without the types and values that bury it, with the option that shows what is possible."""
    text = "; ".join(line.strip(" -") for line in re.sub(r" `lam fit.*", "", message).splitlines())
    text = re.sub(r"Type \S*Callable\[.*?\] expects a function or a callable class: ", "", text)
    text = re.sub(r"Expected a path but .*Expected a dot import path string: (\S+)", r"no class is named \1", text)
    text = re.sub(r"\.? Got value: Namespace\(.*", "", text).replace(": ;", ":").replace(":;", ":").rstrip(".")
    key = re.search(r'key "((?:model|data|trainer)[.]\w+)"', text)
    return f"{text}. `lam fit {f'--{key[1]}.help CLASS' if key else '--help'}` lists what there is."
