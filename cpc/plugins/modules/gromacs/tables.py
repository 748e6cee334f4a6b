"""What GROMACS tools print: tables of energies and free energies, and what a run says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cpc.api import NotFound

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)"
_ENERGY = re.compile(
    rf"^(\S.*?)\s+({_NUMBER})\s+({_NUMBER}|--)\s+({_NUMBER})\s+({_NUMBER})\s+\((.*)\)\s*$", re.MULTILINE
)
_POINT = re.compile(
    rf"^(point|total)\s+(\d+(?:\.\d+)?)\s+-\s+(\d+(?:\.\d+)?),\s+DG\s+({_NUMBER})\s+\+/-\s+({_NUMBER})\s*$",
    re.MULTILINE,
)
_FATAL = re.compile(
    r"^(?:Fatal error|Error in user input|Inconsistency in user input|Software inconsistency error"
    r"|(?:File )?[Ii]nput/output error|Invalid command-line options):\n(.*?)(?=^For more information|^-{20,}$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_BEGINS = re.compile(r"^(?:Restarting from checkpoint|Started mdrun)", re.MULTILINE)
_STOPPED = re.compile(r"Run time exceeded .* will terminate the run|Received the \w+ signal, stopping")


@dataclass(frozen=True, slots=True)
class Energy:
    """The statistics of one energy term. `error` is None where the data are too few to estimate it."""

    average: float
    error: float | None
    rmsd: float
    drift: float
    unit: str


def energy(text: str) -> Energy:
    """The one row of `gmx energy`'s table; NotFound when there is none."""
    row = _ENERGY.search(text)
    if row is None:
        raise NotFound("gmx energy printed no statistics", "look at its output in the job")
    _, average, error, rmsd, drift, unit = row.groups()
    return Energy(float(average), None if error == "--" else float(error), float(rmsd), float(drift), unit)


@dataclass(frozen=True, slots=True)
class Difference:
    """A free energy difference between two lambda points, kJ/mol."""

    begin: float
    end: float
    value: float
    error: float


def differences(text: str) -> tuple[list[Difference], Difference]:
    """(each step, the whole) of `gmx bar`'s final results in kJ/mol; NotFound when there is no total."""
    final = text.partition("Final results in kJ/mol")[2]
    points: list[Difference] = []
    for what, *numbers in _POINT.findall(final):
        one = Difference(*map(float, numbers))
        if what == "total":
            return points, one
        points.append(one)
    if len(points) == 1:  # with two points only, there is nothing to add up
        return points, points[0]
    raise NotFound("gmx bar printed no total", "look at its output in the job")


def fatal(text: str) -> str:
    """What stands below 'Fatal error:' and the like; "" when the program did not say such a thing."""
    found = _FATAL.findall(text)
    return found[-1].strip() if found else ""


def stopped_early(log: str) -> bool:
    """Whether the last run that an md.log tells of was told to stop before its end: by -maxh, or by a signal."""
    begins = [found.start() for found in _BEGINS.finditer(log)]
    return _STOPPED.search(log, begins[-1] if begins else 0) is not None
