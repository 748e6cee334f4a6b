"""Preparing simulations: structures, topologies and run parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cpc.api import File, Finished, Job, Result, command, function
from cpc.plugins.modules.gromacs import mdp as parameters
from cpc.plugins.modules.gromacs.mdp import Setting
from cpc.plugins.modules.gromacs.tools import GMX, VERSIONS, beside, place, tool


@command(
    executable=GMX,
    versions=VERSIONS,
    outputs={"tpr": "topol.tpr", "mdp": "mdout.mdp", "stdout": "stdout", "stderr": "stderr"},
)
def grompp(
    conf: Annotated[File, "the structure to start from"],
    mdp: Annotated[File, "run parameters"],
    top: Annotated[File, "the topology"],
    include: Annotated[list[File] | None, "files that the topology includes"] = None,
    settings: Annotated[list[Setting] | None, "run parameters that go before those in `mdp`"] = None,
    ndx: Annotated[File | None, "index groups"] = None,
    restraint: Annotated[File | None, "the structure that position restraints hold to"] = None,
    cpt: Annotated[File | None, "a trajectory or checkpoint to start from"] = None,
    maxwarn: Annotated[int, "so many warnings are accepted"] = 0,
) -> Job:
    """Puts structure, topology and run parameters together to one file that `mdrun` runs."""
    return prepare(conf, mdp, top, include, settings, ndx, restraint, cpt, maxwarn)


def prepare(
    conf: File,
    mdp: File,
    top: File,
    include: list[File] | None,
    settings: list[Setting] | None,
    ndx: File | None,
    restraint: File | None = None,
    cpt: File | None = None,
    maxwarn: int = 0,
) -> Job:
    """The job of `gmx grompp`."""
    files: dict[str, File | bytes | None] = {
        place("conf", conf): conf,
        "grompp.mdp": parameters.merge(mdp.read_text(), settings or []).encode(),
        "topol.top": top,
    }
    arguments: list[str | int] = ["-f", "grompp.mdp", "-c", place("conf", conf), "-p", "topol.top", "-o", "topol.tpr"]
    for flag, name, file in (("-n", "index", ndx), ("-r", "restraint", restraint), ("-t", "start", cpt)):
        if file is not None:
            files[place(name, file)] = file
            arguments += [flag, place(name, file)]
    return tool("grompp", [*arguments, "-maxwarn", maxwarn], {**files, **beside(include, files)})


@function(output="mdp")
def merge_mdp(mdp: File, settings: list[Setting]) -> File:
    """The run parameters in `mdp` with those in `settings` in their place."""
    target = Path("grompp.mdp")
    target.write_text(parameters.merge(mdp.read_text(), settings))
    return File(target)


@function(output="value")
def extract_mdp(mdp: File, name: str, settings: list[Setting] | None = None) -> str:
    """What the run parameters, with those in `settings` in their place, say of the parameter `name`."""
    return parameters.value(parameters.merge(mdp.read_text(), settings or []), name)


@command(
    executable=GMX,
    versions=VERSIONS,
    outputs={"conf": "conf.gro", "top": "topol.top", "stdout": Result("stdout"), "include": list[File]},
)
def pdb2gmx(
    conf: Annotated[File, "coordinates: .pdb or .gro"],
    ff: Annotated[str, "the force field: amber99sb-ildn, charmm27, oplsaa, …"],
    water: Annotated[str, "the water model: spc, spce, tip3p, tip4p, none, …"] = "none",
    ignh: Annotated[bool, "leave the hydrogens out that are there, and make them anew"] = False,
    cmdline_options: Annotated[str, "more arguments of gmx pdb2gmx"] = "",
) -> Job:
    """Makes a topology for a protein, with the hydrogens that the force field has."""
    source = place("source", conf)
    hydrogens = ["-ignh"] if ignh else []
    return tool(
        "pdb2gmx",
        ["-f", source, "-o", "conf.gro", "-p", "topol.top", "-i", "posre.itp", "-ff", ff, "-water", water, *hydrogens],
        {source: conf},
        options=cmdline_options,
    )


@pdb2gmx.collect
def included(job: Finished) -> dict[str, list[File]]:
    """The files that the topology includes."""
    return {"include": [job.file(path) for path in sorted(job.files) if path.endswith(".itp")]}
