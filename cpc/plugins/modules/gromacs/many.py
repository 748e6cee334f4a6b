"""Many simulations at once: a sub-instance for each element of the arrays, which may have one element or N."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from cpc.api import BadInput, File, RunDesc, Step, controller
from cpc.plugins.modules.gromacs.mdp import Setting

Files: TypeAlias = list[File | None]
#: Arrays of inputs by name; what is not set at all is None.
Arrays: TypeAlias = Mapping[str, Sequence[Any] | None]


@dataclass(frozen=True, slots=True)
class Runs:
    """What the simulations leave, each at its place."""

    conf: Files
    xtc: Files
    trr: Files
    edr: Files
    log: Files
    cpt: Files
    stdout: Files
    stderr: Files


RUN = tuple(Runs.__dataclass_fields__)


@controller(outputs={"tpr": Files, "stdout": Files, "stderr": Files})
def grompps(
    step: Step,
    *,
    conf: Files,
    mdp: Files,
    top: Files,
    include: list[list[File]] | None = None,
    settings: list[list[Setting]] | None = None,
    ndx: Files | None = None,
    restraint: Files | None = None,
    maxwarn: list[int] | None = None,
) -> None:
    """As `grompp`, for arrays. What has one element serves all; the others have N. New elements make new runs."""
    arrays: Arrays = {
        "conf": conf, "mdp": mdp, "top": top, "include": include, "settings": settings, "ndx": ndx, "restraint": restraint,
        "maxwarn": maxwarn,
    }  # fmt: skip
    for index in new(step, "grompp", number(arrays)):
        name = step.add(f"grompp_{index}", "grompp")
        feed(step, name, index, arrays)
        collect(step, name, index, ("tpr", "stdout", "stderr"))


@controller(outputs=Runs)
def mdruns(
    step: Step,
    *,
    tpr: Files,
    priority: list[int] | None = None,
    cmdline_options: list[str] | None = None,
    resources: list[RunDesc] | None = None,
    hours: list[float] | None = None,
) -> None:
    """As `mdrun`, for arrays. What has one element serves all; the others have N. New elements make new simulations."""
    arrays: Arrays = {
        "tpr": tpr, "priority": priority, "cmdline_options": cmdline_options, "resources": resources, "hours": hours,
    }  # fmt: skip
    for index in new(step, "mdrun", number(arrays)):
        name = step.add(f"mdrun_{index}", "mdrun")
        feed(step, name, index, arrays)
        collect(step, name, index, RUN)


@controller(outputs=Runs)
def grompp_mdruns(
    step: Step,
    *,
    conf: Files,
    mdp: Files,
    top: Files,
    include: list[list[File]] | None = None,
    settings: list[list[Setting]] | None = None,
    ndx: Files | None = None,
    restraint: Files | None = None,
    maxwarn: list[int] | None = None,
    priority: list[int] | None = None,
    cmdline_options: list[str] | None = None,
    resources: list[RunDesc] | None = None,
    hours: list[float] | None = None,
) -> None:
    """As `grompp` and then `mdrun`, for arrays. What has one element serves all. New elements make new simulations."""
    prepared: Arrays = {
        "conf": conf, "mdp": mdp, "top": top, "include": include, "settings": settings, "ndx": ndx, "restraint": restraint,
        "maxwarn": maxwarn,
    }  # fmt: skip
    run: Arrays = {"priority": priority, "cmdline_options": cmdline_options, "resources": resources, "hours": hours}
    for index in new(step, "mdrun", number({**prepared, **run})):
        before = step.add(f"grompp_{index}", "grompp")
        name = step.add(f"mdrun_{index}", "mdrun")
        feed(step, before, index, prepared)
        feed(step, name, index, run)
        step.connect(f"{before}:out.tpr", f"{name}:in.tpr")
        collect(step, name, index, RUN)


def number(arrays: Arrays) -> int:
    """How many elements there are: all arrays that are set have one, or this many. BadInput where they do not agree."""
    lengths = {name: len(array) for name, array in arrays.items() if array}
    found = max(lengths.values(), default=0)
    odd = [f"{name} has {length}" for name, length in lengths.items() if length not in (1, found)]
    if odd:
        longest = next(name for name, length in lengths.items() if length == found)
        raise BadInput(
            f"inconsistent number of items: {longest} has {found}, {', '.join(odd)}", "give one item, or as many"
        )
    return found


def new(step: Step, what: str, count: int) -> list[int]:
    """Of the indexes below `count`, those that have no instance yet."""
    return [index for index in range(count) if f"{what}_{index}" not in step.instances]


def feed(step: Step, name: str, index: int, arrays: Arrays) -> None:
    """Connect the inputs of an instance with its elements of the arrays that are set."""
    for item, array in arrays.items():
        if array:
            step.connect(f"self:ext_in.{item}[{index if len(array) > 1 else 0}]", f"{name}:in.{item}")


def collect(step: Step, name: str, index: int, items: Sequence[str]) -> None:
    """Connect the outputs of an instance with its elements of the output arrays."""
    for item in items:
        step.connect(f"{name}:out.{item}", f"self:ext_out.{item}[{index}]")
