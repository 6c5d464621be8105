"""Errors of the command line in one line: what came, what was expected, what to do."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Collection, Iterator


class UsageError(ValueError):
    """A command line that cannot be understood."""


def report_error(command: str, error: Exception) -> int:
    """Print an error as one line and return the exit code: 2 for a command line that cannot be understood, else 1.

    Raises:
        Exception: The error itself where ``LAM_TRACEBACK=1`` asks for all of it.
    """
    if os.environ.get("LAM_TRACEBACK"):
        raise error
    print(f"{command}: {explain(error)}", file=sys.stderr)
    return 2 if isinstance(error, UsageError) else 1


def explain(error: Exception) -> str:
    """Return what an error and its causes say; of one that no input should lead to also its name and how to see more."""
    text = _flat(error)
    for cause in _causes(error):
        said = _flat(cause)
        if said[:40] not in text and "pip install" not in text:  # most messages quote their cause, or say what is missing
            text = f"{text.rstrip('.')} (caused by {type(cause).__name__}: {said})."
    if isinstance(error, (ValueError, OSError)):
        return text
    return f"{type(error).__name__}: {text.rstrip('.')}. LAM_TRACEBACK=1 shows where."


def explain_usage(message: str, options: Collection[str], command: str) -> str:
    """Return a parser's message in plain English.

    Args:
        message: The message of jsonargparse.
        options: Names of the options that there are, without dashes.
        command: What was typed before the options.
    """
    text = " ".join(message.split())
    see = f"{command} --help explains all options."
    if unknown := re.fullmatch(r"unrecognized arguments: (.*)", text, re.IGNORECASE):
        name = unknown[1].split()[0].partition("=")[0]
        near = difflib.get_close_matches(name.lstrip("-"), options, 1)
        what = f"there is no option {name}" if name.startswith("-") else f"{name} is more than was expected"
        return f"{what}{f'; did you mean --{near[0]}?' if near else '.'} {see}"
    if missing := re.fullmatch(r"the following arguments are required: (.*)", text):
        return f"not given: {missing[1]}. {see}"
    found = re.match(r'Parser key "([\w.]+)": (.*)', text)
    value = re.search(r"Given value: (.*)", text) or re.search(r"Got value: (.*)", text)
    expected = [_plain_type(each) for each in re.findall(r"Expected an? (.+?)(?=\. Got| - Expected| Given|$)", text)]
    if found and (absent := re.search(r"Expected a dot import path string: (\S+)", text)):
        return f"--{found[1]} is {absent[1]}, expected a class or a file of one. {see}"
    if found and value and (wanted := [each for each in expected if each != "NoneType"]):
        return f"--{found[1]} is {value[1].rstrip('.')}, expected {' or '.join(wanted)}. {see}"
    return f"{f'--{found[1]}: {found[2]}' if found else text}".rstrip(".") + f". {see}"


def _plain_type(text: str) -> str:
    """Return a type as people write it."""
    if choices := re.search(r"\{(.*)\}|Literal\[(.*)\]", text):
        return "one of " + ", ".join(each.strip(" '\"") for each in (choices[1] or choices[2]).split(","))
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)


def _flat(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what an error was raised from, step by step."""
    while (cause := error.__cause__) is not None:
        yield cause
        error = cause
