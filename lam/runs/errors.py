"""Errors that a person can mend, each told in one line: what came, what was expected, what to do."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

NOT_MET = re.compile(r"Requirement '\S+' not met\.\s+HINT:\s+Try running\s+`pip install [^`]+`")
"""What Lightning says of a package that is missing."""


class SettingsError(ValueError):
    """Settings that cannot be understood."""


def explain(error: BaseException) -> str | None:
    """Return an error that a person can mend as one line, or None for what must be a mistake in the program."""
    missing = next((one for one in causes(error) if isinstance(one, ModuleNotFoundError)), None)
    if missing is not None:
        return _missing_module(missing)
    # the parser puts it among all other types that a setting could have had
    needed = next((found for one in causes(error) if (found := NOT_MET.search(str(one)))), None)
    if needed is not None:
        return _flat(needed[0])
    text = str(error)
    if isinstance(error, RuntimeError) and "loading state_dict" in text:
        return _mismatch(text)
    if type(error).__name__ == "MisconfigurationException":  # known by its name, as Lightning takes seconds to import
        if "backend found" in text or "gpu" in text.lower() or "cuda" in text.lower():
            return f"{_flat(text)} Set --trainer.accelerator cpu, or auto, which takes what this machine has."
        return _with_cause(error)
    if isinstance(error, (ValueError, OSError)):
        return _with_cause(error)
    if isinstance(error, OverflowError):
        return f"A number is too large: {_with_cause(error)}. Look for inf, or a number of steps or sizes that is not meant."
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, the last thing that was said first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def leave(error: BaseException) -> int:
    """Tell an error on stderr and return the exit status.

    It is 2 for settings that cannot be understood, 130 after Ctrl-C, 143 after SIGTERM, else 1.

    Args:
        error: What ended the command. ``LAM_TRACEBACK=1`` raises it again.
    """
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        print("\nlam: stopped by Ctrl-C. Runs that have a checkpoint go on from it.", file=sys.stderr)
        return 130
    if type(error).__name__ == "SIGTERMException":  # Lightning's, which would end with 0, raised before a training has begun
        print("\nlam: stopped by SIGTERM.", file=sys.stderr)
        return 143
    if isinstance(error, SystemExit):
        raise error
    told = explain(error)
    if told is None:
        sys.excepthook(type(error), error, error.__traceback__)
        print("lam: error: this is a mistake in the program, not in your settings; the lines above say where.", file=sys.stderr)
        return 1
    if os.environ.get("LAM_TRACEBACK"):
        raise error
    print(f"lam: error: {told}", file=sys.stderr)
    return 2 if isinstance(error, SettingsError) else 1


def _flat(text: str) -> str:
    """Return a message in one line."""
    return " ".join(text.split())


def _with_cause(error: BaseException) -> str:
    """Return the message of an error, and that of the first cause that says more."""
    text = _flat(str(error)) or type(error).__name__
    if "Does not validate against any" in text:  # the parser lists every type that a value could have had
        deepest = list(causes(error))[-1]
        return _flat(str(deepest)) if deepest is not error else text.partition(" Given value type")[0]
    for cause in list(causes(error))[1:]:
        said = _flat(str(cause))
        # a message that was made of its cause's says it already, more shortly
        if said and said[:40] not in text and not isinstance(error, SettingsError):
            return f"{text} (caused by {type(cause).__name__}: {said})"
    return text


def _missing_module(error: ModuleNotFoundError) -> str:
    """Return which package is missing and how to install it."""
    text = _flat(str(error)).rstrip(".")
    return text if "pip install" in text else f"{text}. Install it: pip install {(error.name or 'it').partition('.')[0]}."


def _mismatch(text: str) -> str:
    """Return the first weight that does not fit and which setting it most likely follows from."""
    different = re.search(r"size mismatch for (\S+): .*?Size\(\[(.*?)\]\).*?Size\(\[(.*?)\]\)", text)
    if different:
        key, saved, built = different.groups()
        what = f"{key} is ({saved}) in the checkpoint and ({built}) in this model"
    else:
        found = re.search(r'(Missing|Unexpected) key\(s\) in state_dict: "([^"]+)"', text)
        if found is None:
            return _flat(text)
        key = found[2]
        where = (
            "in this model and not in the checkpoint" if found[1] == "Missing" else "in the checkpoint and not in this model"
        )
        what = f"{key} is {where}"
    part = key.partition(".")[0]
    likely = {
        "inverse_model": "model.inverse_model (width, depth) or model.latent_dim",
        "forward_model": "model.forward_model (width, depth) or model.latent_dim",
        "bottleneck": "model.bottleneck, its size or model.latent_dim",
        "encoder": "model.encoder",
        "heads": "model.width",
    }.get(part, f"model.{part}")
    return (
        f"The checkpoint does not fit the model: {what}. Most likely {likely} was set otherwise when it was trained; "
        "take the settings from the run's own config.yaml."
    )
