"""Where modules written in Python are found, and so what they are called."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

GROUP = "cpc.modules.v1"  # of the entry points of installed packages
SHIPPED = "cpc.plugins.modules"


def offered_as(thing: object, python: str) -> str:
    """The name of the module that offers `thing`, which is written in the Python module `python`.

    That is the outermost package that has it: `gromacs` for a function that is written in one of its files.
    """
    parts = python.split(".")
    packages = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    offering = next((name for name in packages if _has(name, thing)), python)
    installed = {entry.value: entry.name for entry in entry_points(group=GROUP)}
    return installed.get(offering) or offering.removeprefix(f"{SHIPPED}.").replace(".", "::")


def _has(package: str, thing: object) -> bool:
    return package in sys.modules and any(one is thing for one in vars(sys.modules[package]).values())
