"""Command line: ``python -m data_prep SOURCE SRC OUT``, and what else can be done with sources and shards."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

SOURCES = {
    "videos": "data_prep.sources.videos:Videos",  # mp4, mkv, avi, webm, gif ...
    "frames": "data_prep.sources.frames:Frames",  # folders of images
    "lerobot": "data_prep.sources.lerobot.source:LeRobot",  # LeRobot data sets v2.0, v2.1, v3.0
    "rlds": "data_prep.sources.rlds.source:Rlds",  # TFRecord files of tfds: BridgeData, Open-X, DROID
    "hdf5": "data_prep.sources.hdf5:Hdf5",  # robomimic, RECON
    "npz": "data_prep.sources.npz:Npz",  # arrays
    "donkeycar": "data_prep.sources.donkeycar:DonkeyCar",  # tubs v2
    "kitti": "data_prep.sources.kitti:Kitti",  # odometry
}
COMMANDS = {
    "world": "data_prep.worlds.generate:world",  # a generated world with ground-truth factors
    "sim": "data_prep.sim:sim",  # episodes of public simulators
    "shards": "data_prep.pipeline.convert:convert",  # shards again, stored otherwise
    "features": "data_prep.pipeline.cache_features:features",  # states of a frozen encoder
    "show": "data_prep.page.show:show",  # a page to look at
}
HELP = """Turns video and robot data into shards to train on.

  SOURCE SRC OUT           prepare: {sources}
  inspect SOURCE SRC       look at a source before anything is written
  world OUT                generate a world with ground-truth factors
  sim ENV OUT              record episodes of a public simulator
  shards SRC OUT           store shards otherwise (mp4 or packed JPEG)
  features SRC OUT         run a frozen encoder once and store its states
  show SHARDS              a page with what the model will see

Each has --help. An interrupted command goes on where it stopped when it is given again. Exit code 3: some input could not
be read and was left out; the reasons are printed and stand in quarantined.txt."""


def main(args: list[str] | None = None) -> int:
    """Runs one command, imported only when it is asked for; returns the exit code (3: some input was left out)."""
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ("-h", "--help"):
        print(HELP.format(sources=", ".join(SOURCES)))
        return 0 if args else 2
    command = args[0]
    try:
        if command in COMMANDS:
            return _command(command, args[1:])
        if command == "inspect" and args[1:2] and args[1] in SOURCES:
            return _inspect(args[1], args[2:])
        if command in SOURCES:
            return _prepare(command, args[1:])
    except (ValueError, OSError) as error:
        print(f"data_prep {command}: {error}", file=sys.stderr)
        return 1
    known = [*SOURCES, "inspect SOURCE", *COMMANDS]
    print(f"data_prep: no command {' '.join(args[:2])}. There are {', '.join(known)}; see --help.", file=sys.stderr)
    return 2


def _find(where: str, name: str) -> Any:
    """A class or function by its module and name."""
    module, attribute = where.split(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != "h5py":
            raise
        raise ValueError(f"{name} needs h5py. Install it with pip install 'lam[hdf5]'.") from error


def _command(name: str, args: list[str]) -> int:
    function = _find(COMMANDS[name], name)
    about = function.__doc__.split("\n\n    Args:")[0]
    parser = ArgumentParser(prog=f"python -m data_prep {name}", description=about, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file of options; those that come after it replace its values.")
    parser.add_function_arguments(function, as_positional=True, sub_configs=True)
    try:
        given = parser.parse_args(args)
    except ArgumentError as error:
        raise ValueError(f"{' '.join(str(error).split())}. See --help.") from error
    options = parser.instantiate(given).as_dict()
    del options["config"]
    return function(**options) or 0


def _prepare(name: str, args: list[str]) -> int:
    from data_prep.options import OutputOptions, PreparationOptions
    from data_prep.pipeline.engine import Engine
    from data_prep.pipeline.run import prepare_source

    kind = _find(SOURCES[name], name)
    parser = ArgumentParser(prog=f"python -m data_prep {name}", description=kind.__doc__.split("\n\n    Args:")[0])
    own = parser.add_class_arguments(kind, as_positional=True)
    parser.add_argument("out", type=Path, help="Folder for the shards: new, or of the same command before, which then goes on.")
    kinds: tuple[type, ...] = (PreparationOptions, OutputOptions, Engine)
    parts = [parser.add_class_arguments(part) for part in kinds]
    parser.set_defaults(vars(kind.preparation))
    given = parser.parse_args(args).as_dict()
    given |= {key: given[key].absolute() for key in ("src", "out")}  # other machines start in other folders
    options = {key: given[key] for key in own}
    preparation, output, engine = (part(**{key: given[key] for key in keys}) for part, keys in zip(kinds, parts, strict=True))
    record = {"source": name, **{key: _plain(value) for key, value in options.items() if key != "src"}}
    return prepare_source(kind(**options), record, given["out"], preparation, output, engine)


def _inspect(name: str, args: list[str]) -> int:
    from data_prep.inspection.report import inspect_source

    kind = _find(SOURCES[name], name)
    parser = ArgumentParser(prog=f"python -m data_prep inspect {name}", description=kind.__doc__.split("\n\n    Args:")[0])
    own = parser.add_class_arguments(kind, as_positional=True)
    parser.add_argument("--plots", type=Path | None, default=None, help="Folder for pictures of what was found.")
    parser.add_argument("--recordings", type=int, default=20, help="Recordings to read, evenly spread.")
    given = parser.parse_args(args).as_dict()
    source = kind(**{key: given[key] for key in own})
    print(inspect_source(source, name, plots=given["plots"], recordings=given["recordings"]))
    return 0


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


if __name__ == "__main__":
    sys.exit(main())
