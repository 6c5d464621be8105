"""Knobs of families: what their bottlenecks say of the argument that sets their capacity."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import lam.bottlenecks  # noqa: F401  so that its classes are known by their short names
from lam.bottlenecks.base import Bottleneck
from lam.io.trust import check_import
from lam.runs.configs import read_yaml
from lam.runs.errors import SettingsError


@dataclass(frozen=True)
class Knob:
    """The argument of a bottleneck that sets its capacity.

    Attributes:
        name: Name of the argument.
        integer: Whether its values are integers: numbers of codes, levels, quantizers. Others are weights.
    """

    name: str
    integer: bool

    @property
    def factor(self) -> float:
        """How far a step beyond all rows goes."""
        return 2.0 if self.integer else 4.0

    def text(self, value: float) -> str:
        """Write a value: an integer, or three significant digits."""
        return str(round(value)) if self.integer else f"{value:.3g}"


def knob_of(family: str) -> tuple[Knob, str]:
    """Return a family's knob and the value that its file, or else the class, gives it.

    Raises:
        SettingsError: It has none.
    """
    path = Path(f"experiments/bottlenecks/{family}.yaml")
    given = read_yaml(path)["model"]["bottleneck"]
    owner = bottleneck_class(given["class_path"])
    name = owner.knob
    if name is None:
        raise SettingsError(f"{family} has no knob that could be matched. Leave it out: --match is for families with one.")
    value = given.get("init_args", {}).get(name)
    knob = Knob(name, integer=get_type_hints(owner.__init__)[name] is int)
    if value is None:
        value = inspect.signature(owner).parameters[name].default
    return knob, knob.text(float(value))


def bottleneck_class(class_path: str) -> type[Bottleneck]:
    """Return the class that a file of settings names, in full or shortly where it has been imported."""
    module, _, name = class_path.rpartition(".")
    if module:
        check_import(class_path, "The file of a family")
        owner: type[Bottleneck] = getattr(importlib.import_module(module), name)
        return owner
    known, found = [Bottleneck], None
    while known and found is None:
        known = [sub for one in known for sub in one.__subclasses__()]
        found = next((one for one in known if one.__name__ == name), None)
    if found is None:
        raise SettingsError(f"No bottleneck is named {class_path}. Name its class in full: my_module.{class_path}.")
    return found
