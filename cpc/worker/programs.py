"""Tasks into commands for one platform: its resources, its prefix, and the executables that were found on it."""

from __future__ import annotations

from collections.abc import Sequence

from cpc.api import Amounts, Found, Place, Platform, Value
from cpc.core.errors import NotFound
from cpc.wire.messages import Task
from cpc.worker.executable_files import ARCH
from cpc.worker.executables import pick
from cpc.worker.starting import Command


class Programs:
    """A `Starter` (`cpc.worker.starting`) on a platform with the executables of `discover`."""

    def __init__(self, platform: Platform, found: Sequence[Found]) -> None:
        self._platform = platform
        self._found = tuple(found)

    def command(self, task: Task, key: str, directory: str) -> Command:
        """What to run for `task` in `directory`. NotFound: its executable is not announced here. Unavailable: the
        platform has not what was granted. Whoever gets a command calls `release` when the attempt has ended."""
        program: Found | None = None
        if task.executable:
            program = pick(self._found, task.executable, task.version)
            if program is None:
                raise NotFound(f"{task.executable} {task.version} is not on this worker")
        place = self._platform.acquire(key, task.granted, directory)
        argv = tuple(task.argv)
        env = dict(place.env)
        if program is not None:
            variables = _variables(task, key, directory, place)
            argv = program.command(argv, variables)
            env.update(program.environment(variables))
        return Command(_whole(place, argv), env, announced=program is not None, lost=place.lost)

    def release(self, key: str) -> None:
        """The attempt has ended."""
        self._platform.release(key)

    def by_name(self, granted: Amounts) -> bool:
        """Whether the platform sets aside things that have names."""
        return self._platform.by_name(granted)


def _whole(place: Place, argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command with the platform's prefix, unless it begins with MPIRUN, which starts it already."""
    own = place.variables.get("MPIRUN")
    begins = bool(own) and isinstance(own, tuple) and argv[: len(own)] == own
    return argv if begins else (*place.prefix, *argv)


def _variables(task: Task, key: str, directory: str, place: Place) -> dict[str, Value]:
    return {
        "NCORES": str(max(1, task.granted.cores)),
        "NGPUS": str(task.granted.gpus),
        "RUN_DIR": directory,
        "CMD_ID": key,
        "ARCH": ARCH,
        **place.variables,
    }
