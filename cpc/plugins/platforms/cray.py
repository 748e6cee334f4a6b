"""cray: programs started with aprun on the compute nodes of a Cray reservation (ALPS), by a worker on its service node.

Only what goes through `$MPIRUN` runs on the compute nodes; so jobs need programs that begin with it.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from typing import Any, ClassVar

from cpc.api import Amounts, BadInput, Node, Place, Platform, Unavailable


class Cray(Platform):
    """The cores of a Cray reservation, used through aprun."""

    name: ClassVar[str] = "cray"
    summary: ClassVar[str] = "programs started with aprun on the compute nodes of a Cray reservation; needs -n"
    runs: ClassVar[tuple[str, ...]] = ("mpi",)

    def __init__(self, node: Node, options: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> None:
        """`environ`: where APRUN may name another aprun, with options of its own; the worker's by default."""
        environ = os.environ if environ is None else environ
        if options.get("cores") is None:
            raise BadInput("platform cray must be told how many cores the reservation has", "add -n N")
        try:
            self._aprun = tuple(shlex.split(environ.get("APRUN", "")) or ["aprun"])
        except ValueError as error:
            raise BadInput(f"APRUN={environ['APRUN']!r} is not a command: {error}") from None
        if shutil.which(self._aprun[0], path=environ.get("PATH")) is None:
            raise BadInput(
                f"{self._aprun[0]} was not found", "start the worker where aprun is, or set APRUN to the command"
            )
        super().__init__(node, options)
        self._free = self.cores
        self._held: dict[str, int] = {}

    def total(self) -> Amounts:
        """Cores as told. Memory of the service node is not that of the compute nodes, and GPUs are theirs alone."""
        return Amounts(cores=self.cores, memory=self.node.memory)

    def acquire(self, key: str, granted: Amounts, directory: str) -> Place:
        """aprun chooses the nodes. Unavailable when fewer cores are free."""
        if granted.cores > self._free:
            raise Unavailable(f"{granted.cores} cores were granted, {self._free} are free in the reservation")
        self._free -= granted.cores
        self._held[key] = granted.cores
        command = (*self._aprun, "-n", str(granted.cores))
        env = {"MPIRUN": shlex.join(command), "OMP_NUM_THREADS": "1"}  # the ranks take the cores
        return Place(env=env, variables={"MPIRUN": command})

    def release(self, key: str) -> None:
        """Its cores are free again."""
        self._free += self._held.pop(key, 0)

    def describe(self) -> tuple[str, ...]:
        """The aprun in use."""
        return (f"aprun: {shlex.join(self._aprun)}",)
