"""Simulators behind one small interface, each imported only when it is asked for."""

from __future__ import annotations

import importlib

from lam.io.trust import check_import
from lam.simulators.base import Simulator, SimulatorFactory, Step, Trajectory, check_policy, draw_action, record_episode

SIMULATORS = {
    "pusht": "pusht:PushT",  # a disc pushes a T
    "rooms": "rooms:Rooms",  # a disc in two rooms, wall and door anywhere
    "rooms-fixed": "rooms:RoomsFixed",  # the same, wall and door always there
    "tabletop": "tabletop:Tabletop",  # a disc pushes blocks to each other, seen from above
    "tabletop-tilted": "tabletop:TabletopTilted",  # the same aslant
    "tabletop-fork": "tabletop:TabletopFork",  # a fork that turns pushes them
    "minigrid": "minigrid:MiniGrid",  # an arrow in a room of cells
    "reacher": "reacher:Reacher",  # an arm of two links, seen from above
    "reacher-tilted": "reacher:ReacherTilted",  # the same aslant
    "rover": "rover:Rover",  # a rover in a room of boxes, seen by itself
}
"""Module and class by name."""


def find_simulator(name: str) -> SimulatorFactory:
    """Return what makes a simulator, given the side of its image.

    Args:
        name: A name of the list, ``gym:`` and the id of an environment of gymnasium, or the import path of a class of the
            user's own, ``my_module.MySimulator``.

    Raises:
        UntrustedError: It is of a package that is neither known nor trusted (``lam.io.trust``).
        ValueError: There is none of this name, or its package is missing.
    """
    try:
        if name.startswith("gym:"):
            if ":" in (env := name.removeprefix("gym:")):  # gymnasium imports the module in front of an id
                check_import(env.partition(":")[0], "simulator")
            from lam.simulators.gym import GymFactory

            return GymFactory(env)
        module, attribute = _locate(name)
        check_import(f"{module}.{attribute}", "simulator")
        factory: SimulatorFactory = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if name not in SIMULATORS and package == name.partition(".")[0]:
            raise ValueError(f"No module {error.name} for the simulator {name}. Is its folder on PYTHONPATH?") from error
        raise ValueError(f"{name} needs the package {package}. Install it with pip install 'lam[sim]'.") from error
    except AttributeError as error:
        raise ValueError(f"No simulator {attribute} in {module}.") from error
    return factory


def _locate(name: str) -> tuple[str, str]:
    """Return module and attribute of a name."""
    if name in SIMULATORS:
        module, attribute = SIMULATORS[name].split(":")
        return f"lam.simulators.{module}", attribute
    module, dot, attribute = name.rpartition(".")
    if not dot:
        raise ValueError(
            f"No simulator {name}. There are {', '.join(SIMULATORS)}, gym:ENV for an environment of gymnasium, and the import "
            "path of a class of your own, my_module.MySimulator."
        )
    return module, attribute


__all__ = [
    "SIMULATORS",
    "Simulator",
    "SimulatorFactory",
    "Step",
    "Trajectory",
    "check_policy",
    "draw_action",
    "find_simulator",
    "record_episode",
]
