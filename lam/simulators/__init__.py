"""Simulators behind one small interface, each imported only when it is asked for."""

from __future__ import annotations

import importlib

from lam.simulators.base import Simulator, SimulatorFactory, Step, Trajectory, record_episode

SIMULATORS = {
    "pusht": "pusht:PushT",  # a disc pushes a T
    "minigrid": "minigrid:MiniGrid",  # an arrow in a room of cells
    "reacher": "reacher:Reacher",  # an arm of two links, seen from above
    "reacher-tilted": "reacher:ReacherTilted",  # the same aslant
    "rover": "rover:Rover",  # a rover in a room of boxes, seen by itself
}
"""Module and class by name."""


def find_simulator(name: str) -> SimulatorFactory:
    """Return what makes a simulator, given the side of its image.

    Raises:
        ValueError: There is none of this name, or its package is missing.
    """
    if name not in SIMULATORS:
        raise ValueError(f"No simulator {name}. There are {', '.join(SIMULATORS)}.")
    module, attribute = SIMULATORS[name].split(":")
    try:
        factory: SimulatorFactory = getattr(importlib.import_module(f"lam.simulators.{module}"), attribute)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ValueError(f"{name} needs the package {package}. Install it with pip install 'lam[sim]'.") from error
    return factory


__all__ = ["SIMULATORS", "Simulator", "SimulatorFactory", "Step", "Trajectory", "find_simulator", "record_episode"]
