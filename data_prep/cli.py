"""Command line: ``data_prep SOURCE SRC OUT``, and what else can be done with sources and shards."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jsonargparse import ArgumentError, ArgumentParser, get_loader, set_loader

from data_prep.command_help import format_help
from data_prep.errors import UsageError, explain_usage, report_error
from lam.io.trust import explain_refusal, only_trusted_imports, take_trust, trust_typed


class Entry(NamedTuple):
    """A line of the help.

    Attributes:
        target: Where the class of a source or the function of a command is, imported only when it is asked for.
        about: What it reads or does.
        arguments: What is typed after the name of a command.
    """

    target: str
    about: str
    arguments: str = ""


SOURCES = {
    "videos": Entry("data_prep.sources.videos:Videos", "video files: mp4, mkv, avi, webm, gif and what else PyAV decodes"),
    "frames": Entry("data_prep.sources.frames:Frames", "folders of images, a folder a recording"),
    "lerobot": Entry("data_prep.sources.lerobot.source:LeRobot", "LeRobot data sets v2.0, v2.1, v3.0, also those of GR00T"),
    "rlds": Entry("data_prep.sources.rlds.source:Rlds", "TFRecord files of tfds: BridgeData, Open X-Embodiment, DROID"),
    "hdf5": Entry("data_prep.sources.hdf5:Hdf5", "HDF5 files of robomimic and RECON"),
    "npz": Entry("data_prep.sources.npz:Npz", "arrays of frames and actions"),
    "donkeycar": Entry("data_prep.sources.donkeycar:DonkeyCar", "tubs of Donkey Car, version 2"),
    "kitti": Entry("data_prep.sources.kitti:Kitti", "drives of KITTI odometry"),
}
COMMANDS = {
    "world": Entry("data_prep.worlds.generate:world", "generate a world with ground-truth factors", "OUT"),
    "sim": Entry("data_prep.sim:sim", "record episodes of a public simulator", "ENV OUT"),
    "shards": Entry("data_prep.pipeline.convert:convert", "store shards otherwise: mp4 or packed JPEG", "SRC OUT"),
    "features": Entry("data_prep.pipeline.cache_features:features", "run a frozen encoder once, store its states", "SRC OUT"),
    "manifest": Entry("data_prep.pipeline.manifest:manifest", "write which sets a folder holds, with one hash", "ROOT OUT"),
    "show": Entry("data_prep.page.show:show", "make a page with what a model will see", "SHARDS"),
}
INSPECT = Entry("", "look at a source before anything is written", "SOURCE SRC")
EXTRAS = {"h5py": "hdf5"}
"""Optional packages that sources import, and what installs them."""


def main(args: list[str] | None = None) -> int:
    """Run a command and return the exit code: 1 for an error, 2 for a mistake in what was typed, 3 if some input was left out.

    Args:
        args: What is typed after ``data_prep``; that of the process if not given.
    """
    args = sys.argv[1:] if args is None else args
    command = " ".join(["data_prep", *args[:1]])
    try:
        return run(args)
    except KeyboardInterrupt:
        print(f"\n{command}: stopped. The same command goes on where it stopped.", file=sys.stderr)
        return 130
    except Exception as error:
        return report_error(command, error)


def run(args: list[str]) -> int:
    """Run a command and let its errors through.

    Raises:
        UsageError: It cannot be understood.
    """
    args = take_trust(args)
    trust_typed(args)
    if not args or args[0] in ("-h", "--help"):
        print(overview())
        return 0 if args else 2
    if "" not in sys.path:
        sys.path.append("")  # a simulator of one's own is most often a file in the working directory
    name, rest = args[0], args[1:]
    if name in SOURCES:
        return _prepare(name, rest)
    if name in COMMANDS:
        return _command(name, rest)
    if name == "inspect" and rest and rest[0] in SOURCES:
        return _inspect(rest[0], rest[1:])
    known: list[str] = [*SOURCES, "inspect", *COMMANDS]
    if name == "inspect":
        if not rest or rest[0] in ("-h", "--help"):
            raise UsageError(f"which source? data_prep inspect SOURCE SRC, with one of {', '.join(SOURCES)}.")
        name, known = rest[0], list(SOURCES)
    near = difflib.get_close_matches(name, known, 1)
    raise UsageError(f"there is no {name}{f'; did you mean {near[0]}?' if near else '.'} There are {', '.join(known)}.")


def overview() -> str:
    """Return the help of all."""
    sources = "\n".join(f"  {name:<20}{entry.about}" for name, entry in SOURCES.items())
    commands = "\n".join(
        f"  {f'{name} {entry.arguments}':<20}{entry.about}" for name, entry in {"inspect": INSPECT, **COMMANDS}.items()
    )
    return f"""usage: data_prep SOURCE SRC OUT [options]
       data_prep COMMAND ... [options]

Turn video and robot data into shards to train on.

Sources:
{sources}

Commands:
{commands}

Example:
  data_prep inspect videos CLIPS/
  data_prep videos CLIPS/ shards/wild --max_seconds 10
  data_prep show shards/wild

Each has --help. An interrupted command goes on where it stopped when it is given again. Exit code 3: some input could not
be read and was left out; the reasons are printed and stand in quarantined.txt. LAM_TRACEBACK=1 shows where an error came
from."""


def _find(entry: Entry, name: str) -> Any:
    """Return a class or function by its module and name; which of them it is, the tables above know."""
    module, attribute = entry.target.split(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        raise ValueError(f"{name} needs {error.name}. Install it with pip install 'lam[{EXTRAS[error.name]}]'.") from error


def _load(text: str) -> Any:
    """Return what a YAML text says; of a file that sets the encoder of a model (experiments/encoders), the encoder."""
    settings = get_loader("yaml")(text)
    if isinstance(settings, dict) and isinstance(model := settings.get("model"), dict) and list(model) == ["encoder"]:
        return model["encoder"]
    return settings


set_loader("data_prep", _load, exceptions=(yaml.YAMLError,))


def _parser(command: str, documented: Callable[..., Any]) -> ArgumentParser:
    about = (documented.__doc__ or "").split("\n\n    Args:")[0]
    return ArgumentParser(
        prog=f"data_prep {command}", description=about, exit_on_error=False, allow_abbrev=False, parser_mode="data_prep"
    )


def _parse(parser: ArgumentParser, args: list[str], own: list[str]) -> Any:
    """Return the namespace of what was typed, or None where help was asked for and printed.

    Raises:
        UsageError: It cannot be understood.
    """
    if "-h" in args or "--help" in args:
        print(format_help(parser, own))
        return None
    try:
        with only_trusted_imports():
            return parser.parse_args(args)
    except ArgumentError as error:
        if (refusal := explain_refusal(str(error))) is not None:
            raise UsageError(refusal) from None
        options = [name.lstrip("-") for action in parser._actions for name in action.option_strings]
        raise UsageError(explain_usage(str(error), options, parser.prog)) from None


def _command(name: str, args: list[str]) -> int:
    function = _find(COMMANDS[name], name)
    parser = _parser(name, function)
    parser.add_argument("--config", action="config", help="YAML file of options; those that come after it replace its values.")
    parser.add_function_arguments(function, as_positional=True, sub_configs=True)
    given = _parse(parser, args, [])
    if given is None:
        return 0
    with only_trusted_imports():
        options = parser.instantiate(given).as_dict()
    del options["config"]
    return function(**options) or 0


def _prepare(name: str, args: list[str]) -> int:
    from data_prep.options import OutputOptions, PreparationOptions
    from data_prep.pipeline.engine import Engine
    from data_prep.pipeline.run import prepare_source

    kind = _find(SOURCES[name], name)
    parser = _parser(name, kind)
    own = parser.add_class_arguments(kind, as_positional=True)
    parser.add_argument("out", type=Path, help="Folder for the shards: new, or of the same command before, which then goes on.")
    kinds: tuple[type, ...] = (PreparationOptions, OutputOptions, Engine)
    parts = [parser.add_class_arguments(part) for part in kinds]
    parser.set_defaults(vars(kind.preparation))
    if (namespace := _parse(parser, args, own)) is None:
        return 0
    given = namespace.as_dict()
    given |= {key: given[key].absolute() for key in ("src", "out")}  # other machines start in other folders
    options = {key: given[key] for key in own}
    preparation, output, engine = (part(**{key: given[key] for key in keys}) for part, keys in zip(kinds, parts, strict=True))
    record = {"source": name, **{key: _plain(value) for key, value in options.items() if key != "src"}}
    return prepare_source(kind(**options), record, given["out"], preparation, output, engine)


def _inspect(name: str, args: list[str]) -> int:
    from data_prep.inspection.report import inspect_source

    kind = _find(SOURCES[name], name)
    parser = _parser(f"inspect {name}", kind)
    own = parser.add_class_arguments(kind, as_positional=True)
    parser.add_argument("--plots", type=Path | None, default=None, help="Folder for pictures of what was found.")
    parser.add_argument("--recordings", type=int, default=20, help="Recordings to read, evenly spread.")
    if (namespace := _parse(parser, args, [*own, "recordings"])) is None:
        return 0
    given = namespace.as_dict()
    source = kind(**{key: given[key] for key in own})
    print(inspect_source(source, name, plots=given["plots"], recordings=given["recordings"]))
    return 0


def _plain(value: object) -> object:
    """Return an option as index.json records it."""
    return str(value) if isinstance(value, Path) else value
