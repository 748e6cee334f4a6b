"""python, and openmm: programs that are Python scripts of the job."""

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


class OpenMM(Executable):
    """`openmm SCRIPT…`: a Python that can import openmm, told by OPENMM_CPU_THREADS how many threads it may use."""

    name: ClassVar[str] = "openmm"

    def find(self, platform: str, search: Search) -> tuple[Found, ...]:
        """On smp only."""
        if platform != "smp":
            return ()
        tried = []
        for python in search.pythons():
            code, output = search.run((python, "-c", "import openmm; print(openmm.version.short_version)"))
            if code == 0 and output.strip():
                return (
                    Found(
                        self.name,
                        output.split()[-1],
                        platform,
                        (python,),
                        env={"OPENMM_CPU_THREADS": "$NCORES"},
                        source=python,
                    ),
                )
            tried.append(f"{python}: {_last(output)}")
        why = "no Python that can import openmm ('pip install openmm'): " + "; ".join(tried)
        return (Found(self.name, platform=platform, why_not=why),)


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"
