"""Looking at what simulations have left: energies, trajectories, free energies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from cpc.api import BadInput, File, Finished, Job, Result, command
from cpc.plugins.modules.gromacs import tables
from cpc.plugins.modules.gromacs.tables import Difference
from cpc.plugins.modules.gromacs.tools import GMX, VERSIONS, place, tool


@command(
    executable=GMX,
    versions=VERSIONS,
    outputs={
        "xvg": "energy.xvg",
        "average": float,
        "error": float | None,
        "drift": float,
        "rmsd": float,
        "unit": str,
    },
)
def g_energy(edr: File, item: Annotated[str, "the energy term: Potential, Temperature, …"]) -> Job:
    """The course and the statistics of one energy term."""
    return tool("energy", ["-f", "ener.edr", "-o", "energy.xvg"], {"ener.edr": edr}, choices=[item, ""])


@g_energy.collect
def energy_of(job: Finished) -> tables.Energy:
    """The statistics that the tool has printed."""
    return tables.energy(job.text("stdout"))


@command(executable=GMX, versions=VERSIONS, outputs={"xtc": "traj.xtc"})
def trjconv(
    traj: Annotated[File, "the trajectory: .xtc, .trr, .gro, …"],
    tpr: File,
    ndx: Annotated[File | None, "index groups"] = None,
    dt: Annotated[float | None, "keep a frame each so many ps"] = None,
    skip: Annotated[int | None, "keep each so many-th frame"] = None,
    first_frame_ps: Annotated[float | None, "begin here"] = None,
    last_frame_ps: Annotated[float | None, "end here"] = None,
    pbc: Annotated[str, "mol, whole, nojump, … or none"] = "none",
    ur: Annotated[str, "the shape of the unit cell: rect, tric or compact"] = "rect",
    fit: Annotated[str, "rot+trans, translation, … or none"] = "none",
    center: Annotated[bool, "put the group to centre in the middle of the box"] = False,
    fit_group: Annotated[str, "what is fitted"] = "Backbone",
    center_group: Annotated[str, "what is put in the middle"] = "System",
    output_group: Annotated[str, "what is kept"] = "System",
    cmdline_options: Annotated[str, "more arguments of gmx trjconv"] = "",
) -> Job:
    """Makes one trajectory of another: parts of it, made whole, fitted."""
    times = {"-dt": dt, "-skip": skip, "-b": first_frame_ps, "-e": last_frame_ps}
    asked = [fit_group if fit != "none" else None, center_group if center else None, output_group]
    arguments = ["-pbc", pbc, "-ur", ur, "-fit", fit, *(["-center"] if center else [])]
    return convert(traj, tpr, ndx, "traj.xtc", times, arguments, asked, cmdline_options)


@command(executable=GMX, versions=VERSIONS, outputs={"confs": list[File]})
def trjconv_split(
    traj: Annotated[File, "the trajectory: .xtc, .trr, …"],
    tpr: File,
    ndx: Annotated[File | None, "index groups"] = None,
    dt: Annotated[float | None, "take a frame each so many ps"] = None,
    skip: Annotated[int | None, "take each so many-th frame"] = None,
    first_frame_ps: Annotated[float | None, "begin here"] = None,
    last_frame_ps: Annotated[float | None, "end here"] = None,
    pbc: Annotated[str, "mol, whole, nojump, … or none"] = "none",
    output_group: Annotated[str, "what is kept"] = "System",
    cmdline_options: Annotated[str, "more arguments of gmx trjconv"] = "",
) -> Job:
    """Makes a structure of each frame of a trajectory."""
    times = {"-dt": dt, "-skip": skip, "-b": first_frame_ps, "-e": last_frame_ps}
    return convert(traj, tpr, ndx, "conf.gro", times, ["-sep", "-pbc", pbc], [output_group], cmdline_options)


@trjconv_split.collect
def frames_of(job: Finished) -> dict[str, list[File]]:
    """conf0.gro, conf1.gro, … in the order of their numbers."""
    numbered = {int(found[1]): path for path in job.files if (found := re.fullmatch(r"conf(\d+)\.gro", path))}
    return {"confs": [job.file(numbered[number]) for number in sorted(numbered)]}


def convert(
    traj: File,
    tpr: File,
    ndx: File | None,
    target: str,
    times: dict[str, float | int | None],
    arguments: Sequence[str],
    asked: Sequence[str | None],
    options: str,
) -> Job:
    """The job of `gmx trjconv`. `times`: options with a number, left out where it is None."""
    source = place("source", traj)
    groups = [] if ndx is None else ["-n", "index.ndx"]
    given = [word for flag, value in times.items() if value is not None for word in (flag, value)]
    return tool(
        "trjconv",
        ["-f", source, "-s", "topol.tpr", "-o", target, *groups, *given, *arguments],
        {source: traj, "topol.tpr": tpr, "index.ndx": ndx},
        options=options,
        choices=asked,
    )


@command(executable=GMX, versions=VERSIONS, outputs={"edr": "joined.edr"})
def eneconv(edr_files: Annotated[list[File], "the energies of a run's parts, in their order"]) -> Job:
    """Joins energy files."""
    names = [f"part{number:05}.edr" for number in range(len(edr_files))]
    return tool("eneconv", ["-f", *names, "-o", "joined.edr"], dict(zip(names, edr_files, strict=True)))


@dataclass(frozen=True, slots=True)
class Meas:
    """A measured value with its error."""

    cpc_type: ClassVar[str] = "meas::meas"

    value: float
    error: float


@command(
    executable=GMX,
    versions=VERSIONS,
    outputs={
        "dG": Meas,
        "bar_values": list[Difference],
        "dG_lambda": Result("bar.xvg"),
        "histogram": Result("histogram.xvg"),
    },
)
def g_bar(
    edr: Annotated[list[File], "the energies of the runs at all lambda points"],
    begin: Annotated[float | None, "leave out what is before this time, ps"] = None,
    end: Annotated[float | None, "leave out what is after this time, ps"] = None,
) -> Job:
    """The free energy difference, kJ/mol, over all lambda points, by Bennett's acceptance ratio."""
    if len(edr) < 2:
        raise BadInput("edr: a difference needs the energies of two lambda points at least")
    names = [f"lambda{number:05}.edr" for number in range(len(edr))]
    times = [word for flag, time in (("-b", begin), ("-e", end)) if time is not None for word in (flag, time)]
    return tool(
        "bar",
        ["-g", *names, "-o", "bar.xvg", "-oi", "barint.xvg", "-oh", "histogram.xvg", *times],
        dict(zip(names, edr, strict=True)),
    )


@g_bar.collect
def differences_of(job: Finished) -> dict[str, Meas | list[Difference]]:
    """The differences that the tool has printed."""
    steps, whole = tables.differences(job.text("stdout"))
    return {"dG": Meas(whole.value, whole.error), "bar_values": steps}
