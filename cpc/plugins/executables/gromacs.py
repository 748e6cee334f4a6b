"""gromacs/mdrun: finds GROMACS and what it was built for, and gives it the cores of the job. gromacs/gmx: its other tools.

A build with threads (or with neither) runs on smp; one with an MPI library runs on mpi through $MPIRUN, and on smp as a
single rank. The job's arguments follow `mdrun`; its own -nt, -ntomp or -ntmpi would be a second one, so leave them out.
"""

from __future__ import annotations

import re
from typing import ClassVar

from cpc.api import Executable, Found, Search

CANDIDATES = (("gmx_mpi", "mdrun"), ("gmx", "mdrun"), ("mdrun",), ("mdrun_mpi",), ("gmx_d", "mdrun"))
TOOLS = ("gmx", "gmx_mpi", "gmx_d")
_VERSION = re.compile(r"GROMACS version:\s*(?:VERSION\s+)?(\d+(?:\.\d+)*(?:-(?:beta|rc)\d*)?)")
_MPI = re.compile(r"MPI library:\s*(\S+)")


class Mdrun(Executable):
    """The molecular dynamics program of GROMACS."""

    name: ClassVar[str] = "gromacs/mdrun"

    def find(self, platform: str, search: Search) -> tuple[Found, ...]:
        """The best build for the platform: with MPI for mpi, without for smp."""
        if platform not in ("smp", "mpi"):
            return ()
        builds, said = self._builds(search)
        wanted = [build for build in builds if (build[2] == "MPI") == (platform == "mpi")]
        if not wanted and platform == "smp":
            wanted = builds
        if not wanted:
            said += [f"{build[0][0]} is built with {build[2]}, not with an MPI library" for build in builds]
            names = ", ".join(dict.fromkeys(candidate[0] for candidate in CANDIDATES))
            why = "; ".join(said) or f"none of {names} is in the search path"
            return (Found(self.name, platform=platform, why_not=why),)
        return (self._found(platform, *wanted[0]),)

    def _builds(self, search: Search) -> tuple[list[tuple[tuple[str, ...], str, str]], list[str]]:
        """([(command, version, MPI library)], what did not work and why)."""
        builds = []
        said = []
        for program, *rest in CANDIDATES:
            path = search.which(program)
            if path is None:
                continue
            version, output = _ask(search, path, "--version" if rest else "-version")
            if not version:
                said.append(output)
                continue
            mpi = _MPI.search(output)
            builds.append(((path, *rest), version, mpi.group(1) if mpi else "none"))
        return builds, said

    def _found(self, platform: str, command: tuple[str, ...], version: str, mpi: str) -> Found:
        if platform == "mpi":
            template: tuple[str, ...] = ("$MPIRUN", *command, "-ntomp", "1")
        else:
            template = (*command, "-nt" if mpi == "thread_mpi" else "-ntomp", "$NCORES")
        return Found(self.name, version, platform, template, source=command[0])


class Gmx(Executable):
    """`gromacs/gmx TOOL…`: everything of GROMACS that is no simulation: grompp, trjconv, energy, …"""

    name: ClassVar[str] = "gromacs/gmx"

    def find(self, platform: str, search: Search) -> tuple[Found, ...]:
        """On smp only: the tools run as one process on this machine."""
        if platform != "smp":
            return ()
        said = []
        for program in TOOLS:
            path = search.which(program)
            if path is None:
                continue
            version, output = _ask(search, path, "--version")
            if version:
                return (Found(self.name, version, platform, (path,), source=path),)
            said.append(output)
        why = "; ".join(said) or f"none of {', '.join(TOOLS)} is in the search path"
        return (Found(self.name, platform=platform, why_not=why),)


def _ask(search: Search, path: str, option: str) -> tuple[str, str]:
    """(version, all that the program says of itself); ("", why not) when it does not tell."""
    code, output = search.run((path, option))
    version = _VERSION.search(output)
    if code != 0 or version is None:
        lines = output.strip().splitlines() or ["nothing"]
        return "", f"{path} did not tell its version: {lines[-1][:200]}"
    return version.group(1), output
