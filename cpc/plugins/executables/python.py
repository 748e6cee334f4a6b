"""python, openmm and deeptime: programs that are Python scripts of the job."""

from __future__ import annotations

from typing import ClassVar

from cpc.api import Executable, Found, Search


class Python(Executable):
    """`python ARGUMENTS…`: the interpreter of the search path, else the worker's own."""

    name: ClassVar[str] = "python"

    def find(self, platform: str, search: Search) -> tuple[Found, ...]:
        """On smp only: with hosts of their own, scripts would all run on this one."""
        if platform != "smp":
            return ()
        said = []
        for python in search.pythons():
            code, output = search.run((python, "-c", "import platform; print(platform.python_version())"))
            if code == 0 and output.strip():
                version = output.split()[-1]
                return (Found(self.name, version, platform, (python,), source=python),)
            said.append(f"{python}: {_last(output)}")
        return (Found(self.name, platform=platform, why_not="no Python that runs: " + "; ".join(said)),)


class _WithPackage(Executable):
    """A Python that can import a package, `question`: what makes it print the package's version."""

    question: ClassVar[str]
    env: ClassVar[dict[str, str]] = {}

    def find(self, platform: str, search: Search) -> tuple[Found, ...]:
        """On smp only."""
        if platform != "smp":
            return ()
        tried = []
        for python in search.pythons():
            code, output = search.run((python, "-c", self.question))
            if code == 0 and output.strip():
                return (Found(self.name, output.split()[-1], platform, (python,), env=self.env, source=python),)
            tried.append(f"{python}: {_last(output)}")
        why = f"no Python that can import {self.name} ('pip install {self.name}'): " + "; ".join(tried)
        return (Found(self.name, platform=platform, why_not=why),)


class OpenMM(_WithPackage):
    """`openmm SCRIPT…`: a Python that can import openmm, told by OPENMM_CPU_THREADS how many threads it may use."""

    name: ClassVar[str] = "openmm"
    question: ClassVar[str] = "import openmm; print(openmm.version.short_version)"
    env: ClassVar[dict[str, str]] = {"OPENMM_CPU_THREADS": "$NCORES"}


class Deeptime(_WithPackage):
    """`deeptime SCRIPT…`: a Python for the analysis of trajectories: deeptime, with numpy and matplotlib.

    It is not imported to find out: that takes seconds.
    """

    name: ClassVar[str] = "deeptime"
    question: ClassVar[str] = (
        "from importlib.metadata import version; version('matplotlib'); print(version('deeptime'))"
    )


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"
