"""Simulators behind one small interface, each imported only when it is asked for."""

from __future__ import annotations

import importlib

from lam.simulators.base import Played, Simulator, play

SIMULATORS = {
    "pusht": "pusht:PushT",  # a disc pushes a T
    "minigrid": "minigrid:MiniGrid",  # an arrow in a room of cells
    "reacher": "reacher:Reacher",  # an arm of two links, seen from above
    "reacher-tilted": "reacher:ReacherTilted",  # the same aslant
    "rover": "rover:Rover",  # a rover in a room of boxes, seen by itself
}
"""Module and class by name."""


def find_simulator(name: str) -> type[Simulator]:
    """A simulator's class.

    Raises:
        ValueError: There is none of this name, or its package is missing.
    """
    if name not in SIMULATORS:
        raise ValueError(f"No simulator {name}. There are {', '.join(SIMULATORS)}.")
    module, attribute = SIMULATORS[name].split(":")
    try:
        return getattr(importlib.import_module(f"lam.simulators.{module}"), attribute)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ValueError(f"{name} needs the package {package}. Install it with pip install 'lam[sim]'.") from error


__all__ = ["SIMULATORS", "Played", "Simulator", "find_simulator", "play"]
