"""Command line: ``python -m data_prep SOURCE ... OUT``; each source is one line in ``SOURCES``."""

from __future__ import annotations

import importlib
import sys

from jsonargparse import ArgumentParser

SOURCES = {
    "videos": "data_prep.videos:videos",  # a folder of videos
    "npz": "data_prep.npz:npz",  # recordings in arrays, with actions
    "world": "data_prep.worlds:world",  # a generated world with known causes
}


def main(args: list[str] | None = None) -> int:
    """Runs one source, imported only when it is asked for; returns the exit code (3: some input was left out)."""
    args = sys.argv[1:] if args is None else args
    parser = ArgumentParser(prog="python -m data_prep", description="Turns a source into a folder of shards.")
    parser.add_argument("source", choices=list(SOURCES), help="What to read; SOURCE --help lists its options.")
    source = parser.parse_args(args[:1]).source
    module, name = SOURCES[source].split(":")
    function = getattr(importlib.import_module(module), name)
    options = ArgumentParser(prog=f"python -m data_prep {source}")
    options.add_function_arguments(function, as_positional=True)
    try:
        return function(**options.parse_args(args[1:]).as_dict()) or 0
    except (ValueError, FileNotFoundError) as error:
        print(f"data_prep {source}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
