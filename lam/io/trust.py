"""Trust: which code settings may import and which commands they may run, as SECURITY.md says it.

Settings come along with data, runs and models of other people. They may name parts of known packages; of any other package,
and of commands to read data from (``pipe:``), the person at the command line has to say that it is trusted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jsonargparse import set_parsing_settings
from jsonargparse._common import parsing_settings  # no public function takes a policy back, and callers have parsers too

KNOWN = ("lam", "lightning.pytorch", "lightning.fabric", "torch.nn", "torch.optim")
"""Packages whose parts any settings may name. Of torch only layers and optimizers: ``torch.hub`` downloads code and runs it."""
_DEFINE = ("torch._C._nn",)
"""Where functions of torch.nn are defined, which parsers look at too."""
PIPE = "pipe:"
"""What is said to be trusted instead of a package where settings run commands to read data."""
VARIABLE = "LAM_TRUST"
"""Environment variable that carries what is trusted to processes that this one starts, one entry a line."""

_NAME = re.compile(r"[A-Za-z_]\w*")
_CLASS = re.compile(r"([A-Za-z_]\w*)(?:\.[A-Za-z_]\w*)*\.[A-Z]\w*")
_CLASS_PATH = re.compile(r"class_path[\"']?\s*:\s*[\"']?([A-Za-z_]\w*)\.")


class UntrustedError(ValueError):
    """Raised where settings would run what nobody has said to be trusted, before anything of it has run."""


def trust(*entries: str) -> None:
    """Trust packages, by their names, or commands: ``pipe:`` all of them, a whole ``pipe:`` URL that one.

    Settings that name their parts may then import them, in this process and those that it starts.

    Raises:
        ValueError: An entry is neither.
    """
    for entry in entries:
        if not entry.startswith(PIPE) and not _NAME.fullmatch(entry):
            raise ValueError(f"--trust got {entry!r}, expected the name of a package, such as my_module, or {PIPE}.")
    os.environ[VARIABLE] = "\n".join(dict.fromkeys([*_trusted(), *entries]))


def take_trust(words: Sequence[str]) -> list[str]:
    """Trust what ``--trust`` names and return the other words of a command line.

    Raises:
        ValueError: ``--trust`` names nothing, or no package.
    """
    rest: list[str] = []
    following = iter(words)
    for word in following:
        name, equals, value = word.partition("=")
        if name == "--trust":
            trust(*(value if equals else next(following, "")).split(","))
        else:
            rest.append(word)
    return rest


def trust_typed(words: Sequence[str]) -> None:
    """Trust what a person typed in full: a class (``--model.bottleneck my_module.MyBottleneck``), or a ``pipe:`` URL.

    Names of files of settings are no such words: what is in them was not typed.
    """
    before = ""
    for word in words:
        name, equals, value = word.partition("=")
        value = value if equals and name.startswith("-") else word
        of_config = (name if equals else before) in ("--config", "-c")
        before = word
        if not of_config and (named := _CLASS.fullmatch(value)):
            trust(named[1])
        if not of_config or value.lstrip().startswith("{"):
            trust(*_CLASS_PATH.findall(value))
            if PIPE in value:
                trust(PIPE + value.replace("\n", " "))


def check_import(path: str, says: str) -> None:
    """Refuse to import what settings name, unless its package is known or trusted.

    Args:
        path: Import path of a module or of something in it.
        says: What names it, for the message.

    Raises:
        UntrustedError: It is neither.
    """
    allowed = (*KNOWN, *_packages())
    if not any(path == one or path.startswith(f"{one}.") for one in allowed):
        raise UntrustedError(f"{says} names {path}. {_advice(path)}")


def check_pipe(url: str) -> None:
    """Refuse to run the command of a ``pipe:`` URL, unless it was typed or all commands are trusted.

    Raises:
        UntrustedError: It was not.
    """
    if not any(entry == PIPE or (entry.startswith(PIPE) and url in entry) for entry in _trusted()):
        raise UntrustedError(
            f"The settings read data from a command: {url}. It was not run, as it may do anything. If you know what it does, "
            f"add --trust {PIPE} (in Python lam.io.trust.trust({PIPE!r})), or type the address yourself: --data.shards '{url}'."
        )


@contextmanager
def only_trusted_imports() -> Iterator[None]:
    """Let parsers import nothing but parts of known and trusted packages, wherever in the settings they are named."""
    before = dict(parsing_settings)
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*KNOWN, *_DEFINE, *_packages()])
    try:
        yield
    finally:
        parsing_settings.update(before)


def explain_refusal(message: str) -> str | None:
    """Return what to do where a parser's message says that it refused to import something, else None."""
    found = re.search(r"Importing '([^']*)' is not allowed, denied by", message)
    return found and f"The settings name {found[1]}. {_advice(found[1])}"


def _advice(path: str) -> str:
    package = path.partition(".")[0]
    return (
        f"It was not imported, as importing a module runs it, and settings may name parts of {', '.join(KNOWN)} alone. If "
        f"{package} is your own or you trust it, add --trust {package} (in Python lam.io.trust.trust({package!r}))."
    )


def _trusted() -> list[str]:
    """Return what has been trusted, packages and commands."""
    return [entry for entry in os.environ.get(VARIABLE, "").splitlines() if entry]


def _packages() -> list[str]:
    """Return the packages that have been trusted."""
    return [entry for entry in _trusted() if _NAME.fullmatch(entry)]
